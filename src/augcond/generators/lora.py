"""LoRAs: where their weights lie, and how they are merged into the weights of a pipeline.

They are merged once, as the pipeline is loaded, so that sampling, IP-Adapters, kept features and compilation know
nothing of them.

Source: LoRA (arXiv 2106.09685).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from augcond.errors import ConfigError, GeneratorError
from augcond.generators.base import NeededWeights
from augcond.generators.devices import place
from augcond.generators.loading import WeightsOrigin, errors_only, fetch, local_folder, quiet_progress
from augcond.generators.weights import hash_files, weight_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from augcond.config import GeneratorConfig

_KEY = "generator.lora"
_EXAMPLE = "latent-consistency/lcm-lora-sdv1-5"
_MODELS = ("unet", "text_encoder", "text_encoder_2")
_OLD_NAME = re.compile(r"(?:\.to_(?P<layer>q|k|v|out)_lora|\.lora_linear_layer|\.lora)\.(?P<role>down|up)\.")
_ROLES = {"A.weight": "down", "B.weight": "up"}
_OTHERS = ("dora_scale", "lora_magnitude", ".lokr_", ".hada_")


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA on this machine.

    Attributes:
        folder: of the repository.
        weights: the safetensors file in it.
        scale: how strongly it counts.
        model: what it is called in the identity.
        revision: commit hash on the hub; of a folder `sha256:` and a hash of the file.
    """

    folder: Path
    weights: str
    scale: float
    model: str
    revision: str


def lora_weights(config: GeneratorConfig) -> tuple[NeededWeights, ...]:
    """Return the LoRA files that a config needs."""
    return tuple(
        NeededWeights(f"{_KEY}.model", lora.model, lora.revision, lora.weights, example=_EXAMPLE)
        for lora in config.lora
    )


def locate_loras(config: GeneratorConfig) -> tuple[Lora, ...]:
    """Return the LoRAs that a config names, fetched from the hub where they are hub ids.

    Raises:
        ConfigError: a file is not safetensors.
        GeneratorError: a file is missing, cannot be fetched, or is no LoRA.
    """
    found = []
    for lora in config.lora:
        if not lora.weights.endswith(".safetensors"):
            raise ConfigError(
                f"{_KEY}.weights: {lora.weights!r} is not a safetensors file; pickled weights are not loaded"
            )
        origin = WeightsOrigin(lora.model, lora.revision, config.name, _KEY)
        folder, model, revision = local_folder(origin, _EXAMPLE), lora.model, ""
        if folder is None:
            folder, revision = fetch(origin, lora.revision, [lora.weights])
        path = folder / lora.weights
        _check(path, lora.model, lora.weights)
        if not revision:
            model, revision = folder.resolve().name, hash_files(folder, [path])
        found.append(Lora(folder, lora.weights, lora.scale, f"{model}/{lora.weights}", revision))
    return tuple(found)


def _check(path: Path, model: str, weights: str) -> None:
    if not path.is_file():
        raise GeneratorError(f"{_KEY}.weights: {model} has no file {weights}; name one of its safetensors files")
    try:
        names = weight_shapes(path)
    except (OSError, SafetensorError) as error:
        raise GeneratorError(
            f"{_KEY}.weights: {path} is no whole safetensors file ({error}); renamed pickles are not loaded"
        ) from error
    if not names or not all("lora" in name or name.endswith(".alpha") for name in names):
        raise GeneratorError(f"{_KEY}.weights: {weights} of {model} is no LoRA: it holds other weights, or none")
    if any(kind in name for name in names for kind in _OTHERS):
        raise GeneratorError(
            f"{_KEY}.weights: {weights} of {model} is a DoRA, LoKr or LoHa; only plain LoRAs are merged"
        )


def merge_loras(pipeline: Any, loras: tuple[Lora, ...]) -> None:
    """Add LoRAs to the weights of a pipeline, which are float32 afterwards.

    Raises:
        GeneratorError: a LoRA was trained for another model, or cannot be read.
    """
    import torch

    if not loras:
        return
    models = {name: model for name in _MODELS if (model := getattr(pipeline, name, None)) is not None}
    for model in models.values():
        # A sum in float16 would lose what small changes add.
        place(model, torch.device("cpu"), torch.float32)
    for lora in loras:
        for (name, path), layer in _layers(pipeline, lora).items():
            weight = _weight(models.get(name), path)
            change = layer.change(lora.scale)
            if weight is None or change is None or change.numel() != weight.numel() or len(change) != len(weight):
                raise GeneratorError(
                    f"{_KEY}.weights: {lora.model} was trained for another model: this one has no {name}.{path} that "
                    "its weights fit"
                )
            if not change.isfinite().all():
                raise GeneratorError(f"{_KEY}.weights: {lora.model} has NaN or infinite weights for {name}.{path}")
            with torch.no_grad():
                weight += change.view_as(weight)


@dataclass(slots=True)
class _Layer:
    """What a LoRA holds for one weight.

    Attributes:
        down: (r, in, ...).
        up: (out, r, ...).
        alpha: by which r is divided; r itself where it is not said.
    """

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    def change(self, scale: float) -> Tensor | None:
        """Return what is added to the weight, (out, in * ...); None where that is not all there."""
        if self.down is None or self.up is None or self.up[0].numel() != len(self.down):
            return None
        rank = len(self.down)
        strength = scale * (rank if self.alpha is None else self.alpha) / rank
        return strength * (self.up.float().flatten(1) @ self.down.float().flatten(1))


def _layers(pipeline: Any, lora: Lora) -> dict[tuple[str, str], _Layer]:
    """Return what a LoRA holds, by model and by the module in there; diffusers reads the names that trainers give."""
    file = PurePosixPath(lora.weights)
    layers: dict[tuple[str, str], _Layer] = {}
    try:
        with quiet_progress(), errors_only():
            weights, alphas, metadata = pipeline.lora_state_dict(
                str(lora.folder),
                weight_name=file.name,
                subfolder=str(file.parent),
                unet_config=pipeline.unet.config,
                use_safetensors=True,
                local_files_only=True,
                return_lora_metadata=True,
            )
        for name, value in {**weights, **(alphas or {})}.items():
            model, _, rest = name.partition(".")
            path, _, role = _as_peft_names(model, rest).partition(".lora_")
            path = path.removesuffix(".alpha")
            layer = layers.setdefault((model, path), _Layer(alpha=_alpha(metadata, model, path)))
            if name.endswith(".alpha"):
                layer.alpha = float(value)
            elif role in _ROLES:
                setattr(layer, _ROLES[role], value)
            else:
                raise ValueError(f"{name} is none of its weights")
    except Exception as error:  # from any library that reads a part of it
        raise GeneratorError(
            f"{_KEY}.weights: {lora.model} is no LoRA of Stable Diffusion: {' '.join(str(error).split())[:300]}"
        ) from error
    return layers


def _as_peft_names(model: str, name: str) -> str:
    """Return the name that peft gives a weight which diffusers once called otherwise."""

    def renamed(match: re.Match[str]) -> str:
        layer = match["layer"]
        if layer:
            layer = f".to_{'out.0' if layer == 'out' else layer}" if model == "unet" else f".{layer}_proj"
        return f"{layer or ''}.lora_{'A' if match['role'] == 'down' else 'B'}."

    return _OLD_NAME.sub(renamed, name.replace(".processor.", "."))


def _alpha(metadata: Mapping[str, Any] | None, model: str, path: str) -> float | None:
    """Return the alpha that the settings of peft in a file's header say for a layer; None where they say nothing."""
    settings = {key: value for key, value in (metadata or {}).items() if key.startswith(f"{model}.")}
    if settings.get(f"{model}.use_rslora") or settings.get(f"{model}.use_dora"):
        raise ValueError("it is an rsLoRA or a DoRA; only plain LoRAs are merged")
    for pattern, alpha in (settings.get(f"{model}.alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", path):
            return float(alpha)
    alpha = settings.get(f"{model}.lora_alpha")
    return None if alpha is None else float(alpha)


def _weight(model: Any, path: str) -> Tensor | None:
    """Return the weight of the module at `path`; older transformers had all of a text model one level deeper."""
    for name in (path, path.removeprefix("text_model."), f"text_model.{path}"):
        try:
            weight = model.get_submodule(name).weight
        except AttributeError:
            continue
        return weight if weight.dim() > 1 else None
    return None
