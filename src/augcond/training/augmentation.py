"""Augmentation of batches; every draw comes from the seed of its step.

A device takes a batch at once. On a CPU images are augmented one by one, which gives the same numbers in a third of the
time: what is worked on stays in the cache of one core. So a batch can be made in pieces, by several threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align
from torchvision.transforms import v2

from augcond.conditioning.augment import build_augment
from augcond.conditioning.streams import numpy_stream, seeded
from augcond.config import ConditioningConfig
from augcond.errors import ConfigError
from augcond.training.ahead import workers

if TYPE_CHECKING:
    from augcond.conditioning.framing import Picture
    from augcond.config.training import AugmentConfig
    from augcond.training.pixels import Pixels

T = TypeVar("T", float, np.ndarray)

_ZOOM = 256 / 224
"""How much larger than the network's input images are kept for resized crops, as is usual for ImageNet."""

PIECE = 2**22
"""Bytes of images, as floats, that one thread augments at a time."""

_SAMPLES = 2
"""Samples per output pixel and axis of a resized crop: enough for the little that these crops shrink."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn for the images of a batch.

    Attributes:
        flipped: which are mirrored, bool, (B,).
        boxes: corners of resized crops, float32, (B, 4): left, top, right, bottom.
        offsets: rows and columns that padded images are shifted by, (B, 2).
        crops: of whole photographs, whatever their shapes, float64, (B, 4): share of the area, width over height, and
            where between left and right and between top and bottom, in [0, 1].
    """

    flipped: np.ndarray
    boxes: np.ndarray | None = None
    offsets: np.ndarray | None = None
    crops: np.ndarray | None = None


class BatchAugmentation:
    """Crops, flips and transforms of a batch.

    Args:
        config: which.
        size: edge length S of the network's input.

    Attributes:
        size: that.

    Raises:
        ConfigError: a transform is unknown or has wrong arguments.
    """

    def __init__(self, config: AugmentConfig, size: int) -> None:
        self._config = config
        self.size = size
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
        return round(self.size * _ZOOM) if self._config.crop == "resized" else self.size

    @property
    def of_photos(self) -> bool:
        """Whether crops are taken from whole photographs where squares would be read, by `read_crops`."""
        return self._config.crop == "photo"

    def __call__(self, images: Tensor, seed: int, purpose: str) -> Tensor:
        """Return augmented images, float, (B, 3, S, S) in [0, 1], of uint8 images (B, 3, stored_size, stored_size).

        Args:
            images: on any device; those of a `stored_size`.
            seed: seed of the training.
            purpose: names the draw, such as `augment-17` for step 17.
        """
        return self.crop_and_flip(self.transform(images, seed, purpose), seed, purpose)

    @property
    def transforms(self) -> bool:
        """Whether there are transforms, which draw from one image to the next."""
        return self._transform is not None

    def transform(self, images: Tensor, seed: int, purpose: str) -> Tensor:
        """Return images after the transforms, uint8, (B, 3, E, E), of such images; of any other E where one crops.

        They draw from PyTorch's global generator, so that threads take turns (`transforming.py` has processes).
        """
        if self._transform is None:
            return images
        with seeded(seed, purpose):
            return torch.stack([_uint8(self._transform(image)) for image in images])

    def crop_and_flip(self, images: Tensor, seed: int, purpose: str) -> Tensor:
        """Return what `__call__` does of images that are transformed already."""
        drawn = self.draw(len(images), images.shape[-1], seed, purpose)
        if images.device.type == "cpu":
            augmented = np.empty((*images.shape[:2], self.size, self.size), np.float32)
            whole = images.numpy()
            each = max(1, PIECE // (4 * whole[0].size))
            pieces = [slice(start, start + each) for start in range(0, len(images), each)]
            for _ in workers().map(lambda piece: self.apply(whole[piece], drawn, piece, augmented[piece]), pieces):
                pass
            return torch.from_numpy(augmented)
        return self.apply_at_once(images, drawn)

    def draw(self, count: int, edge: int, seed: int, purpose: str) -> Drawn:
        """Return what is drawn for a batch.

        Args:
            count: of its images.
            edge: their edge length.
            seed: seed of the training.
            purpose: names the draw.

        Raises:
            ConfigError: transforms made images of a size that the network does not take.
        """
        rng, margin = numpy_stream(seed, purpose), self.size // 8
        boxes = offsets = crops = None
        if self._config.crop == "resized":
            boxes = _boxes(count, self._config.scale, edge, rng)
        elif edge != self.size:
            raise ConfigError(
                f"training.augment.transforms make images of {edge} pixels, the network takes {self.size}"
            )
        elif self._config.crop == "pad":
            offsets = rng.integers(0, 2 * margin + 1, (count, 2))
        elif self.of_photos:
            shares, places = _shares(count, self._config.scale, rng), rng.random((count, 2))
            crops = np.concatenate([np.stack(shares, axis=1), places], axis=1)
        return Drawn(rng.random(count) < self._config.flip, boxes, offsets, crops)

    def apply(self, images: np.ndarray, drawn: Drawn, piece: slice, out: np.ndarray) -> None:
        """Augment a piece of a batch in the calling thread.

        Args:
            images: of the piece, uint8, (b, 3, E, E).
            drawn: for the whole batch.
            piece: which images of the batch these are.
            out: takes them, float32, (b, 3, S, S) in [0, 1].
        """
        flipped = drawn.flipped[piece]
        if drawn.boxes is not None:
            for image, box, flip, place in zip(images, drawn.boxes[piece], flipped, out, strict=True):
                _resized_crop(image, box, place, flip=bool(flip))
            return
        if drawn.offsets is None:
            for image, flip, place in zip(images, flipped, out, strict=True):
                np.divide(image[..., ::-1] if flip else image, np.float32(255), out=place)
            return
        size, margin = self.size, self.size // 8
        padded = np.pad(images, ((0, 0), (0, 0), (margin,) * 2, (margin,) * 2), mode="edge")
        shown = np.empty(out.shape, np.uint8)
        for image, (top, left), flip, place in zip(padded, drawn.offsets[piece], flipped, shown, strict=True):
            part = image[:, top : top + size, left : left + size]
            place[...] = part[..., ::-1] if flip else part
        np.divide(shown, np.float32(255), out=out)

    def apply_at_once(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Return the augmented images of a whole batch, on its device."""
        floats = images.float() / 255
        if drawn.boxes is not None:
            floats = _resized_crops(floats, torch.from_numpy(drawn.boxes), self.size)
        elif drawn.offsets is not None:
            floats = _shifted(floats, drawn.offsets, self.size // 8)
        flipped = torch.from_numpy(drawn.flipped).to(floats.device)
        return torch.where(flipped[:, None, None, None], floats.flip(-1), floats)


def read_crops(pixels: Pixels, positions: np.ndarray, crops: np.ndarray, out: np.ndarray) -> None:
    """Read a crop of each of these photographs in the calling thread.

    Args:
        pixels: the photographs.
        positions: which, (B,).
        crops: see `Drawn.crops`, (B, 4).
        out: takes them, uint8, (B, 3, S, S).
    """
    for position, crop, place in zip(positions.tolist(), crops.tolist(), out, strict=True):
        _crop_photo(pixels.photo(position), crop, place)


def _crop_photo(photo: Picture, crop: tuple[float, float, float, float], out: np.ndarray) -> None:
    """Crop as torchvision's RandomResizedCrop does with antialiasing.

    A box that would reach beyond the photograph is cut to its width or height, where torchvision draws again.
    """
    share, ratio, across, down = crop
    most_wide, most_high = photo.size
    width, height = _edges(share * most_wide * most_high, ratio, most_wide, most_high)
    left, top = across * (most_wide - width), down * (most_high - height)
    # In floats the far edge may come to lie a hair outside, which Pillow refuses.
    box = (left, top, min(left + width, most_wide), min(top + height, most_high))
    size = out.shape[-1]
    shown = photo.show(box, (size, size), Image.Resampling.BILINEAR, alone=False)
    out[...] = np.asarray(shown).transpose(2, 0, 1)


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


def _boxes(count: int, scale: tuple[float, float], edge: int, rng: np.random.Generator) -> np.ndarray:
    """Return corner coordinates (count, 4) of random boxes in squares."""
    area, ratio = _shares(count, scale, rng)
    width, height = _edges(area * edge**2, ratio, edge, edge)
    left, top = rng.random(count) * (edge - width), rng.random(count) * (edge - height)
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)


def _shares(count: int, scale: tuple[float, float], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of the area, uniform in `scale`, and ratios of width to height, 3/4 to 4/3, uniform in the log."""
    return rng.uniform(scale[0], scale[1], count), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))


def _edges(area: T, ratio: T, most_wide: int, most_high: int) -> tuple[T, T]:
    """Return width and height of boxes of `area` and `ratio`, cut to what there is."""
    return np.minimum(np.sqrt(area * ratio), most_wide), np.minimum(np.sqrt(area / ratio), most_high)


def _resized_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    numbered = torch.cat([torch.arange(len(images)).float()[:, None], boxes], dim=1).to(images.device)
    crops: Tensor = roi_align(images, numbered, (size, size), sampling_ratio=_SAMPLES, aligned=True)
    return crops.clamp(0, 1)


def _resized_crop(image: np.ndarray, box: np.ndarray, out: np.ndarray, *, flip: bool) -> None:
    """Do to one image what `_resized_crops` does, in the order of `roi_align`'s own sums, so that no bit differs.

    Args:
        image: uint8, (3, E, E).
        box: float32, (4,).
        out: takes the crop, float32, (3, S, S).
        flip: mirror it.
    """
    size, edge = out.shape[-1], image.shape[-1]
    left, top, right, bottom = box
    down, across = _samples(top, bottom, size, edge), _samples(left, right, size, edge)
    first, last = down.low.min(), down.high.max()
    floats = np.divide(image[:, first : last + 1], np.float32(255), dtype=np.float32)
    # Columns first: a crop has fewer rows than samples.
    columns = [
        [np.take(floats, places[::-1] if flip else places, axis=2, mode="clip") for places in (low, high)]
        for low, high in zip(across.low, across.high, strict=True)
    ]
    sample, product = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
    for y in range(_SAMPLES):
        rows = (down.low[y] - first, down.high[y] - first)
        for x in range(_SAMPLES):
            shares = [across.to_low[x], across.to_high[x]]
            weights = [
                vertical[:, None] * (share[::-1] if flip else share)
                for vertical in (down.to_low[y], down.to_high[y])
                for share in shares
            ]
            for channel in range(len(image)):
                sums = sample if x or y else out[channel]
                for corner, weight in enumerate(weights):
                    part = product if corner else sums
                    np.take(columns[x][corner % 2][channel], rows[corner // 2], axis=0, out=part, mode="clip")
                    part *= weight
                    if corner:
                        sums += part
                if x or y:
                    out[channel] += sums
    out /= np.float32(_SAMPLES**2)
    np.clip(out, 0, 1, out=out)


@dataclass(frozen=True, slots=True)
class _Samples:
    """Where along one axis the samples of a crop lie, each between two pixels; all are (_SAMPLES, S)."""

    low: np.ndarray
    high: np.ndarray
    to_low: np.ndarray
    to_high: np.ndarray


def _samples(start: np.float32, end: np.float32, size: int, edge: int) -> _Samples:
    half = np.float32(0.5)
    begin = start - half
    step = (end - half - begin) / np.float32(size)
    within = (np.arange(_SAMPLES, dtype=np.float32) + half) * step / np.float32(_SAMPLES)
    at = np.maximum(begin + np.arange(size, dtype=np.float32) * step + within[:, None], np.float32(0))
    low = np.minimum(at.astype(np.int64), edge - 1)
    # At the last pixel there is nothing beyond.
    to_high = np.where(low == edge - 1, np.float32(0), at - low.astype(np.float32))
    return _Samples(low, np.minimum(low + 1, edge - 1), np.float32(1) - to_high, to_high)


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
