"""Feature extractors by name, for metrics on distributions and for scores.

    generator              the image encoder of the run's own generator; needs nothing else
    timm:NAME              a pretrained timm model without its head, such as timm:vit_small_patch14_dinov2.lvd142m
    torchvision:NAME       a pretrained torchvision model without its head, such as torchvision:resnet50

The weights of the last two are downloaded at first use: without a network they must lie in the hub's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from augcond.errors import ConfigError, GeneratorError, MissingExtraError
from augcond.training.probes import generator_features

if TYPE_CHECKING:
    from PIL.Image import Image

    from augcond.generators import Generator

Extractor = Callable[[Sequence["Image"]], Tensor]
"""Returns the features, float32 (B, D) on the CPU, of RGB images of any sizes."""

EXTRACTORS = "generator, timm:NAME, torchvision:NAME"


def load_extractor(name: str, load_generator: Callable[[], Generator]) -> Extractor:
    """Return the extractor that `name` stands for.

    Args:
        name: see this module's description.
        load_generator: called where the generator's own encoder is asked for.

    Raises:
        ConfigError: no extractor has this name.
        MissingExtraError: its library is not installed.
        GeneratorError: its weights cannot be loaded, as without a network.
    """
    kind, _, model = name.partition(":")
    if name == "generator":
        return partial(generator_features, load_generator())
    if kind not in _LOADERS or not model:
        raise ConfigError(f"features {name!r}: expected one of {EXTRACTORS}")
    try:
        network, transform = _LOADERS[kind](model)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"features {name!r} need {error.name}: pip install {error.name}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise GeneratorError(f"features {name!r} cannot be loaded: {error}") from error
    return network_features(network, transform)


def network_features(network: torch.nn.Module, transform: Callable[[Image], Tensor]) -> Extractor:
    """Return the extractor of a network that maps (B, 3, H, W) to (B, D).

    Args:
        network: put into evaluation mode.
        transform: makes the network's input, (3, H, W), of an RGB image.
    """
    network.eval()

    @torch.inference_mode()
    def extract(images: Sequence[Image]) -> Tensor:
        features: Tensor = network(torch.stack([transform(image.convert("RGB")) for image in images]))
        return features.float().flatten(1)

    return extract


def _load_timm(name: str) -> tuple[torch.nn.Module, Any]:
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"features 'timm:{name}': timm has no such model; timm.list_models() lists them")
    network = timm.create_model(name, pretrained=True, num_classes=0)
    return network, timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)


def _load_torchvision(name: str) -> tuple[torch.nn.Module, Any]:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ConfigError(f"features 'torchvision:{name}': no such classifier; torchvision.models lists them")
    weights = models.get_model_weights(name).DEFAULT
    network = models.get_model(name, weights=weights)
    head = next((part for part in ("fc", "classifier", "head", "heads") if hasattr(network, part)), None)
    if head is None:
        raise ConfigError(f"features 'torchvision:{name}': where its head is is not known; try timm:{name}")
    setattr(network, head, torch.nn.Identity())
    return network, weights.transforms()


_LOADERS: dict[str, Callable[[str], tuple[torch.nn.Module, Any]]] = {
    "timm": _load_timm,
    "torchvision": _load_torchvision,
}


def extract_features(images: Iterable[Image], extractor: Extractor, batch_size: int = 32) -> Tensor:
    """Return the features of `images`, (N, D), in batches; (0, 0) where there are none."""
    iterator = iter(images)
    parts = []
    while batch := list(islice(iterator, batch_size)):
        parts.append(extractor(batch))
    return torch.cat(parts) if parts else torch.zeros(0, 0)
