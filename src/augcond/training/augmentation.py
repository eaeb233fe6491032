"""Augmentation of a whole batch at once, on its device; every draw comes from the seed of its step."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align
from torchvision.transforms import v2

from augcond.conditioning.augment import build_augment
from augcond.conditioning.streams import numpy_stream, seeded
from augcond.config import ConditioningConfig
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from augcond.config.training import AugmentConfig

_ZOOM = 256 / 224
"""How much larger than the network's input images are kept for resized crops, as is usual for ImageNet."""


class BatchAugmentation:
    """Crops, flips and transforms of a batch.

    Args:
        config: which.
        size: edge length S of the network's input.

    Raises:
        ConfigError: a transform is unknown or has wrong arguments.
    """

    def __init__(self, config: AugmentConfig, size: int) -> None:
        self._config = config
        self._size = size
        self._transform: Any = None
        if config.transforms:
            try:
                built = build_augment(ConditioningConfig(augment=config.transforms))
            except ConfigError as error:
                message = str(error).replace("conditioning.augment", "training.augment.transforms")
                raise ConfigError(message) from None
            self._transform = built.transform if built else None

    @property
    def stored_size(self) -> int:
        """Edge length at which images are to be kept."""
        return round(self._size * _ZOOM) if self._config.crop == "resized" else self._size

    def __call__(self, images: Tensor, seed: int, purpose: str) -> Tensor:
        """Return augmented images, float, (B, 3, S, S) in [0, 1], of uint8 images (B, 3, stored_size, stored_size).

        Args:
            images: on any device; those of a `stored_size`.
            seed: seed of the training.
            purpose: names the draw, such as `augment-17` for step 17.
        """
        if self._transform is not None:
            with seeded(seed, purpose):
                images = torch.stack([_uint8(self._transform(image)) for image in images])
        rng = numpy_stream(seed, purpose)
        floats = images.float() / 255
        if self._config.crop == "resized":
            floats = _resized_crops(floats, _boxes(len(images), self._config.scale, images.shape[-1], rng), self._size)
        elif floats.shape[-1] != self._size:
            raise ConfigError(
                f"training.augment.transforms make images of {floats.shape[-1]} pixels, the network takes {self._size}"
            )
        elif self._config.crop == "pad":
            floats = _shifted(floats, rng.integers(0, 2 * (self._size // 8) + 1, (len(images), 2)), self._size // 8)
        flipped = torch.from_numpy(rng.random(len(images)) < self._config.flip).to(floats.device)
        return torch.where(flipped[:, None, None, None], floats.flip(-1), floats)


def mix_inputs(
    images: Tensor, labels: Tensor, classes: int, config: AugmentConfig, seed: int, purpose: str
) -> tuple[Tensor, Tensor]:
    """Return a batch mixed by torchvision's MixUp or CutMix, and its label distributions, (B, C).

    Without mixing, images and labels come back as they are.
    """
    if config.mix == "none":
        return images, labels
    mixed: tuple[Tensor, Tensor]
    with seeded(seed, purpose):
        mixed = _mixer(config.mix, config.mix_alpha, classes)(images, labels)
    return mixed


@lru_cache(maxsize=8)
def _mixer(name: str, alpha: float, classes: int) -> Any:
    return (v2.MixUp if name == "mixup" else v2.CutMix)(alpha=alpha, num_classes=classes)


def _uint8(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8) if image.is_floating_point() else image


def _boxes(count: int, scale: tuple[float, float], edge: int, rng: np.random.Generator) -> Tensor:
    """Return corner coordinates (count, 4) of random boxes: area share uniform in `scale`, ratio 3/4 to 4/3."""
    area = rng.uniform(scale[0], scale[1], count) * edge**2
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    width = np.minimum(np.sqrt(area * ratio), edge)
    height = np.minimum(np.sqrt(area / ratio), edge)
    left, top = rng.random(count) * (edge - width), rng.random(count) * (edge - height)
    return torch.from_numpy(np.stack([left, top, left + width, top + height], axis=1)).float()


def _resized_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    numbered = torch.cat([torch.arange(len(images)).float()[:, None], boxes], dim=1).to(images.device)
    # Two samples per output pixel and axis: enough for the little that these crops shrink.
    crops: Tensor = roi_align(images, numbered, (size, size), sampling_ratio=2, aligned=True)
    return crops.clamp(0, 1)


def _shifted(images: Tensor, offsets: np.ndarray, margin: int) -> Tensor:
    """Return each image shifted by offset - margin pixels; what comes in repeats the border."""
    if not margin:
        return images
    size = images.shape[-1]
    padded = functional.pad(images, (margin,) * 4, mode="replicate")
    places = torch.from_numpy(offsets).to(images.device)
    along = torch.arange(size, device=images.device)
    rows = (places[:, 0, None] + along)[:, None, :, None]
    columns = (places[:, 1, None] + along)[:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channels, rows, columns]
