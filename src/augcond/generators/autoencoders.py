"""Another autoencoder in the place of a checkpoint's own, such as the tiny one of its family.

Source: TAESD (github.com/madebyollin/taesd); diffusers' `AutoencoderTiny`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import GeneratorIdentity, NeededWeights
from augcond.generators.denoising import vae_scale_factor
from augcond.generators.loading import Checkpoint, WeightsOrigin, fetch, local_folder, quiet_progress
from augcond.generators.weights import hash_files

if TYPE_CHECKING:
    from augcond.config import GeneratorConfig

_KEY = "generator.vae"
_CONFIG, _WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_CLASSES = ("AutoencoderTiny", "AutoencoderKL")

TINY_SD, TINY_SDXL = "madebyollin/taesd", "madebyollin/taesdxl"
"""The tiny autoencoders of Stable Diffusion 1 and 2, and of SDXL; both MIT."""

TINY_SD3, TINY_FLUX = "madebyollin/taesd3", "madebyollin/taef1"
"""Those of Stable Diffusion 3, and of FLUX.1; both MIT."""


def vae_weights(config: GeneratorConfig, tiny: str) -> tuple[NeededWeights, ...]:
    """Return the file of the autoencoder that a config names; nothing where it is the checkpoint's own.

    Args:
        config: of the generator.
        tiny: the hub id of its family's tiny autoencoder.
    """
    if config.vae is None:
        return ()
    origin = _origin(config.vae, config.name, tiny)
    return (NeededWeights(_KEY, origin.model, origin.revision, _WEIGHTS, example=tiny),)


def locate_vae(config: GeneratorConfig, tiny: str) -> Checkpoint | None:
    """Return the autoencoder that a config names, fetched where it is a hub id; None: the checkpoint's own.

    Raises:
        ConfigError: it is neither a folder nor a hub id.
        GeneratorError: it is missing, cannot be fetched, or is none of the known kinds.
    """
    if config.vae is None:
        return None
    origin = _origin(config.vae, config.name, tiny)
    folder, model, revision = local_folder(origin, tiny), origin.model, ""
    if folder is None:
        folder, revision = fetch(origin, origin.revision, [_CONFIG, _WEIGHTS])
    missing = [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise GeneratorError(f"{_KEY}: {origin.model} lacks {' and '.join(missing)}; name an autoencoder's folder")
    if not revision:
        model, revision = folder.resolve().name, hash_files(folder, [folder / _CONFIG, folder / _WEIGHTS])
    _kind(folder, origin.model)
    return Checkpoint(folder, GeneratorIdentity(config.name, model, revision))


def replace_vae(pipeline: Any, vae: Checkpoint | None) -> None:
    """Put another autoencoder in the place of the pipeline's own; None leaves it.

    Raises:
        GeneratorError: it cannot be loaded.
        ConfigError: it is of other latents.
    """
    import diffusers

    if vae is None:
        return
    try:
        with quiet_progress():
            made = getattr(diffusers, _kind(vae.folder, vae.identity.model)).from_pretrained(
                vae.folder, use_safetensors=True, local_files_only=True
            )
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{_KEY}: {vae.identity.model} cannot be loaded: {error}") from error
    found, own = _shape(made), _shape(pipeline.vae)
    if found != own:
        raise ConfigError(
            f"{_KEY}: {vae.identity.model} has latents of {found[0]} channels, one for {found[1]} pixels; this model's "
            f"own has {own[0]}, one for {own[1]}"
        )
    pipeline.vae = made.eval()


def _origin(named: str, generator: str, tiny: str) -> WeightsOrigin:
    if Path(named).expanduser().is_dir():
        return WeightsOrigin(named, None, generator, _KEY)
    model, _, revision = (tiny if named == "tiny" else named).partition("@")
    return WeightsOrigin(model, revision or None, generator, _KEY)


def _kind(folder: Path, model: str) -> str:
    try:
        kind = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeneratorError(f"{_KEY}: {model}/{_CONFIG} cannot be read: {error}") from error
    if kind not in _CLASSES:
        raise GeneratorError(f"{_KEY}: {model} is a {kind}; expected one of {', '.join(_CLASSES)}")
    return str(kind)


def _shape(vae: Any) -> tuple[int, int]:
    """Return the channels of an autoencoder's latents, and how many pixels of each edge one stands for."""
    return int(vae.config.latent_channels), vae_scale_factor(vae)
