"""IP-Adapters: where their weights and image encoder lie, of which kind they are, and how a UNet gets them.

An IP-Adapter is not in diffusers' pipeline layout: it is one safetensors file, and a CLIP vision model in another
folder of the same repository.

Source: IP-Adapter (arXiv 2308.06721).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from augcond.config.base import Section, Setting
from augcond.errors import ConfigError, GeneratorError
from augcond.generators.autoencoders import TINY_SD
from augcond.generators.base import GeneratorIdentity, NeededWeights
from augcond.generators.loading import WeightsOrigin, errors_only, fetch, local_folder, quiet_progress
from augcond.generators.parts import needed_parts
from augcond.generators.pipelines import load_network
from augcond.generators.weights import component_files, hash_files

if TYPE_CHECKING:
    from augcond.config import GeneratorConfig
    from augcond.generators.base import PipelineFormat

_KEY = "generator.own.adapter"
# Which weights of the state dict say what an adapter is conditioned on, and whether that is all tokens of the image.
_BASE, _FULL, _PLUS = "image_proj.proj.weight", "image_proj.proj.3.weight", "image_proj.latents"
_FEATURES = {_BASE: _BASE, _FULL: "image_proj.proj.0.weight", _PLUS: "image_proj.proj_in.weight"}


class AdapterConfig(Section, decides="images"):
    """Which IP-Adapter conditions Stable Diffusion on images, and how strongly."""

    model: Annotated[str, Setting(by="contents", path="checkpoint")] = "h94/IP-Adapter"
    """A hub id or a local folder."""
    revision: Annotated[str | None, Setting(by="contents")] = None
    """Commit hash, tag or branch on the hub; recorded as the commit hash it stands for."""
    weights: str | None = None
    """The adapter's safetensors file in there; where null, the base adapter that goes with the generator."""
    image_encoder: str | None = None
    """The folder of its CLIP vision model in there; where null, the one that goes with the weights."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the image beside the prompt; 1 is as trained."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An IP-Adapter on this machine.

    Attributes:
        folder: of the repository.
        weights: the safetensors file in it.
        image_encoder: the folder of the CLIP vision model in it.
        tokens: whether it is conditioned on all tokens of an image (plus) or on one vector (base).
        features: of that vector, or of each token.
        width: of the cross-attention that it was trained for.
        identity: the generator's, with the base model and the adapter in it.
        scale: weight of the image beside the prompt.
    """

    folder: Path
    weights: str
    image_encoder: str
    tokens: bool
    features: int
    width: int
    identity: GeneratorIdentity
    scale: float


def adapted_weights(
    config: GeneratorConfig, layout: PipelineFormat, settings: AdapterConfig, default: str, tiny_vae: str = TINY_SD
) -> tuple[NeededWeights, ...]:
    """Return what a generator with an adapter needs: its own checkpoint, and the adapter's weights."""
    weights = NeededWeights(f"{_KEY}.model", settings.model, settings.revision, settings.weights or default)
    return *needed_parts(config, layout, tiny_vae), weights


def locate_adapter(name: str, settings: AdapterConfig, base: GeneratorIdentity, default: str) -> Adapter:
    """Return the IP-Adapter that `settings` stand for, fetched from the hub where it is a hub id.

    Args:
        name: of the generator.
        settings: of its adapter.
        base: which weights the model without the adapter has.
        default: the weights' path in the repository where the settings name none.

    Raises:
        ConfigError: the weights are not safetensors, or of a kind that needs more than an image.
        GeneratorError: files are missing or cannot be fetched.
    """
    weights = settings.weights or default
    if not weights.endswith(".safetensors"):
        raise ConfigError(f"{_KEY}.weights: {weights!r} is not a safetensors file; pickled weights are not loaded")
    image_encoder = settings.image_encoder or _image_encoder_for(weights)
    origin = WeightsOrigin(settings.model, settings.revision, name, _KEY)
    folder = local_folder(origin, "h94/IP-Adapter")
    model, revision = settings.model, ""
    if folder is None:
        patterns = [weights, f"{image_encoder}/config.json", f"{image_encoder}/*.safetensors"]
        folder, revision = fetch(origin, settings.revision, patterns)
    _check_files(folder, weights, image_encoder, settings.model)
    if not revision:
        model = folder.resolve().name
        revision = hash_files(folder, [folder / weights, *component_files(folder, image_encoder)])
    kind, features, width = _inspect(folder / weights)
    identity = GeneratorIdentity(name, f"{base.model} + {model}/{weights}", f"{base.revision} + {revision}")
    return Adapter(folder, weights, image_encoder, kind != _BASE, features, width, identity, settings.scale)


def attach_adapter(pipeline: Any, adapter: Adapter) -> None:
    """Load an adapter's image encoder into the pipeline and its weights into the UNet.

    Raises:
        GeneratorError: diffusers cannot load it, or it was trained for another UNet or image encoder.
    """
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    width = pipeline.unet.config.cross_attention_dim
    if adapter.width != width:
        raise GeneratorError(
            f"{_KEY}.weights: {adapter.weights} is for UNets whose prompts have {adapter.width} features; this one's "
            f"have {width}"
        )
    weights = PurePosixPath(adapter.weights)
    folder = adapter.folder / adapter.image_encoder
    encoder = load_network(CLIPVisionModelWithProjection, folder, f"{_KEY}.image_encoder: {folder}")
    try:
        with quiet_progress(), errors_only():
            found = encoder.config.hidden_size if adapter.tokens else encoder.config.projection_dim
            if found != adapter.features:
                raise GeneratorError(
                    f"{_KEY}.image_encoder: {adapter.weights} takes embeddings of {adapter.features} features; those "
                    f"of {adapter.image_encoder} have {found}"
                )
            edge = encoder.config.image_size
            extractor = CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
            # Once the pipeline has an image encoder, load_ip_adapter looks for none.
            pipeline.register_modules(image_encoder=encoder, feature_extractor=extractor)
            pipeline.load_ip_adapter(
                str(adapter.folder), subfolder=str(weights.parent), weight_name=weights.name, local_files_only=True
            )
            pipeline.set_ip_adapter_scale(adapter.scale)
    except GeneratorError:
        raise
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(f"{_KEY}: {adapter.weights} cannot be loaded as an IP-Adapter: {error}") from error


def _image_encoder_for(weights: str) -> str:
    """Return the image encoder that goes with one of the published adapters: all but two were trained with ViT-H."""
    with_bigger = weights.startswith("sdxl_models/") and "vit-h" not in weights
    return "sdxl_models/image_encoder" if with_bigger else "models/image_encoder"


def _check_files(folder: Path, weights: str, image_encoder: str, model: str) -> None:
    if not (folder / weights).is_file():
        raise GeneratorError(
            f"{_KEY}.weights: {model} has no file {weights}; name one of its adapters' safetensors files"
        )
    encoder = folder / image_encoder
    if not (encoder / "config.json").is_file() or not any(encoder.glob("*.safetensors")):
        raise GeneratorError(
            f"{_KEY}.image_encoder: {model} has no CLIP vision model with safetensors weights in {image_encoder}; name "
            f"the folder of the one that {weights} was trained with"
        )


def _inspect(path: Path) -> tuple[str, int, int]:
    """Return the weight that says which kind an adapter is, its features, and its cross-attention's width."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            kind = next((name for name in _FEATURES if name in names), None)
            if kind is None or "ip_adapter.1.to_k_ip.weight" not in names:
                raise ConfigError(
                    f"{_KEY}.weights: {path.name} is no IP-Adapter of the base, plus or full kind; those conditioned "
                    "on a face's identity are not supported"
                )
            features = file.get_slice(_FEATURES[kind]).get_shape()[-1]
            width = file.get_slice("ip_adapter.1.to_k_ip.weight").get_shape()[-1]
    except (OSError, SafetensorError) as error:
        raise GeneratorError(f"{_KEY}.weights: {path.name} cannot be read: {error}") from error
    return kind, features, width
