"""Classifiers: timm's networks by name, and one small network of our own for 32-pixel images on a CPU."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from augcond.conditioning.streams import seeded
from augcond.errors import ConfigError, TrainingError
from augcond.generators.loading import cached_file
from augcond.generators.weights import weight_shapes

if TYPE_CHECKING:
    from augcond.config import TrainingConfig

SMALL_CNN = "small-cnn"
_HUB_FILE = "model.safetensors"

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]
Resample = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]


class SmallCnn(nn.Module):
    """A residual network of 0.4 M parameters and 15 M multiplications per 32-pixel image.

    It answers to the same methods as timm's networks.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.stages = nn.Sequential(
            _convolution(3, width),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _Residual(4 * width),
        )
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """Return feature maps, (B, 4 width, S/8, S/8), of normalised images, (B, 3, S, S)."""
        # On a CPU, pooling and normalisation are faster in this layout: benchmarks/small_cnn.py.
        features: Tensor = self.stages(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, C), or pooled features (B, 4 width) where `pre_logits`, of feature maps."""
        pooled = features.amax(dim=(2, 3))
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, C), of normalised images, (B, 3, S, S)."""
        return self.forward_head(self.forward_features(images))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        summed: Tensor = features + self.branch(features)
        return summed


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Classifier(nn.Module):
    """A network with the normalisation that its inputs need.

    Args:
        network: one of timm's, or like them.
        mean: of each channel.
        std: of each channel.
        size: edge length S of its input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, C), of images (B, 3, S, S) in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return what the classifying layer receives, (B, D), of images (B, 3, S, S) in [0, 1]."""
        network: Any = self.network
        maps = network.forward_features((images - self.mean) / self.std)
        features: Tensor = network.forward_head(maps, pre_logits=True)
        return features

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that the network exempts from decay, such as position embeddings."""
        own = getattr(self.network, "no_weight_decay", set)
        return {f"network.{name}" for name in own()}


@dataclass(frozen=True, slots=True)
class _Description:
    """What has to be known of a network before it is built."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fixed_size: bool


def input_size(config: TrainingConfig) -> int:
    """Return the edge length of the input of the network that `config.model` names.

    Raises:
        ConfigError: there is no such network.
    """
    return config.image_size or _describe(config.model).size


def build_classifier(config: TrainingConfig, classes: int, seed: int) -> Classifier:
    """Return the network that `config.model` names, with fresh or pretrained weights.

    Args:
        config: model, weights and image size.
        classes: number of classes, C.
        seed: of the fresh weights; the classifying layer is fresh unless the weights are of C classes.

    Raises:
        ConfigError: there is no such network.
        TrainingError: the weights cannot be loaded, or are of another network.
    """
    network, heads = _fresh(config, classes, seed)
    if config.weights is not None:
        _load(network, weights_file(config), heads)
    about = _describe(config.model)
    return Classifier(network, about.mean, about.std, config.image_size or about.size)


def check_network(config: TrainingConfig, classes: int) -> str | None:
    """Raise what `build_classifier` would raise; no weights are fetched, and only their header is read.

    Returns:
        The repository on the hub that the weights have to be fetched from; None where they need not be.

    Raises:
        ConfigError: there is no such network.
        TrainingError: the weights are not there, or are of another network.
    """
    network, heads = _fresh(config, classes, seed=0)
    if config.weights is None:
        return None
    source = _weights_source(config)
    if not isinstance(source, Path):
        cached = cached_file(source, _HUB_FILE, config.revision)
        if cached is None:
            return source
        source = cached
    try:
        found = weight_shapes(source)
    except FileNotFoundError:
        raise TrainingError(f"training.weights: no file at {source}") from None
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{source} cannot be loaded: {error}") from error
    own = _shapes(network.state_dict())
    kept = _without_other_heads(_own_names(found), own, heads)
    # Of embeddings that are resampled it shows only then what fits.
    if _resampler(network, kept, own) is None:
        _check_fit(source, kept, own, heads)
    return None


def check_batch(config: TrainingConfig, classes: int, count: int) -> None:
    """Raise what training on a batch would raise, by its shapes alone: nothing is computed.

    Args:
        config: model and image size; `linear-probe` judges it as it is frozen.
        classes: number of classes.
        count: images of a batch that one process trains on.

    Raises:
        ConfigError: the images are too small for the network, or too few for its batch norm.
    """
    error = _refusal(config, classes, count)
    if error is not None:
        size = input_size(config)
        more = count == 1 and _refusal(config, classes, 2) is None
        raise ConfigError(
            f"training.model: {config.model} cannot be trained on {count} image{'s' * (count != 1)} of {size} x {size} "
            f"pixels at once ({str(error).strip().splitlines()[0]}): "
            + ("raise training.batch_size" if more else "raise training.image_size, or name another network")
        ) from error


def _refusal(config: TrainingConfig, classes: int, count: int) -> Exception | None:
    """Return what a network raises on a batch; None where it takes it."""
    refused: Exception | None = None
    # First where there are shapes and no numbers; a network that cannot be there is tried in earnest, with few images.
    for device, images in (("meta", count), ("cpu", min(count, 2))):
        network, _ = _fresh(config, classes, seed=0)
        network.train(config.mode != "linear-probe").to(device)
        try:
            with torch.no_grad(), seeded(0, "check"):
                network(torch.zeros(images, 3, *(input_size(config),) * 2, device=device))
        except Exception as error:  # a network raises what it likes
            refused = error
        else:
            return None
    return refused


def weights_file(config: TrainingConfig) -> Path:
    """Return the safetensors file that `config.weights` stands for, fetched from the hub where it is `hub`.

    Raises:
        ConfigError: it is no safetensors file, or the hub has none of this network.
        TrainingError: it cannot be fetched.
    """
    source = _weights_source(config)
    return source if isinstance(source, Path) else _fetch(source, config)


def fetch_weights(config: TrainingConfig) -> None:
    """Fetch the weights of `config` from the hub.

    Raises:
        TrainingError: they cannot be fetched.
    """
    source = _weights_source(config)
    if not isinstance(source, Path):
        _fetch(source, config)


def _fresh(config: TrainingConfig, classes: int, seed: int) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network with fresh weights, and what the names of its classifying layers' weights begin with."""
    about = _describe(config.model)
    with seeded(seed, "initial-weights"):
        if config.model == SMALL_CNN:
            return SmallCnn(classes), ("head.",)
        import timm

        size = config.image_size or about.size
        sized = {"img_size": size} if about.fixed_size and size != about.size else {}
        network = timm.create_model(config.model, num_classes=classes, **sized)
        named = network.pretrained_cfg.get("classifier") or ()
        names = (named,) if isinstance(named, str) else tuple(named)
        return network, tuple(f"{name}." for name in names)


def _describe(name: str) -> _Description:
    if name == SMALL_CNN:
        return _Description(32, (0.5,) * 3, (0.5,) * 3, fixed_size=False)
    import timm

    architecture, _, _ = name.partition(".")
    if not timm.is_model(architecture):
        known = [*timm.list_models(), SMALL_CNN]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ConfigError(f"training.model: no network {name!r}; {hint}see timm.list_models(), or use {SMALL_CNN!r}")
    try:
        found = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        raise ConfigError(
            f"training.model: timm knows no weights {name!r}; see timm.list_pretrained('{architecture}*')"
        ) from None
    if found is None:
        raise ConfigError(f"training.model: timm does not say what input {name!r} takes")
    return _Description(found.input_size[-1], tuple(found.mean), tuple(found.std), bool(found.fixed_input_size))


def _weights_source(config: TrainingConfig) -> Path | str:
    """Return the file of the weights, or the repository on the hub that has them."""
    if config.weights != "hub":
        path = Path(str(config.weights))
        if path.suffix != ".safetensors":
            raise ConfigError(f"training.weights: {path} is no .safetensors file; nothing else is loaded")
        return path
    if config.model == SMALL_CNN:
        raise ConfigError(
            f"training.weights: there are no pretrained weights of {SMALL_CNN} on the hub: name a model of timm as "
            "training.model, or train this one from scratch (training.weights: null, training.mode: scratch)"
        )
    import timm

    found = timm.get_pretrained_cfg(config.model)
    if found is None or not found.hf_hub_id:
        raise ConfigError(f"training.weights: timm has no weights of {config.model!r} on the hub")
    return str(found.hf_hub_id)


def _fetch(repository: str, config: TrainingConfig) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # timm itself would fall back to a pickle; only safetensors are loaded here.
        return Path(hf_hub_download(repository, _HUB_FILE, revision=config.revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise TrainingError(
            f"the weights of {config.model} cannot be fetched from {repository}: {error}; download "
            f"{_HUB_FILE} yourself and name it as training.weights"
        ) from error


def _load(network: nn.Module, path: Path, heads: tuple[str, ...]) -> None:
    """Load every weight but those of a classifying layer for other classes."""
    try:
        weights = _own_names(load_file(path))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be loaded: {error}") from error
    own = _shapes(network.state_dict())
    kept = {name: weights[name] for name in _without_other_heads(_shapes(weights), own, heads)}
    resample = _resampler(network, _shapes(kept), own)
    if resample is not None:
        kept = resample(kept, network)
    _check_fit(path, _shapes(kept), own, heads)
    network.load_state_dict(kept, strict=False)


def _own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Return `weights` by the names of the network itself: models that augcond saved carry that of their wrapper."""
    return {name.removeprefix("network."): value for name, value in weights.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _without_other_heads(found: Shapes, own: Shapes, heads: tuple[str, ...]) -> Shapes:
    """Return the shapes of `found` without those of classifying layers for other classes."""
    return {name: shape for name, shape in found.items() if not (name.startswith(heads) and own.get(name) != shape)}


def _resampler(network: nn.Module, found: Shapes, own: Shapes) -> Resample | None:
    """Return what resamples position embeddings for another image size, as timm does where it loads them; or None."""
    unlike = [name for name, shape in found.items() if name in own and own[name] != shape]
    # Nothing else is fitted: timm's filters would also make patch embeddings of one network into those of another.
    if not unlike or not all("pos" in name for name in unlike):
        return None
    return getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)


def _check_fit(path: Path, found: Shapes, own: Shapes, heads: tuple[str, ...]) -> None:
    missing = [name for name in own if name not in found and not name.startswith(heads)]
    strange = [name for name, shape in found.items() if own.get(name) != shape]
    if missing or strange:
        raise TrainingError(
            f"{path} holds the weights of another network: {len(missing)} are missing and {len(strange)} do not fit, "
            f"such as {(missing or strange)[0]!r}"
        )
