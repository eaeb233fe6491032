"""Labelled images as uint8 tensors: small sets whole in memory, large ones decoded batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from augcond.cores import available_cores
from augcond.datasets.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.datasets import Dataset

Opener = Callable[[int], Image.Image]
"""Gives the image at a position, decoded, RGB."""


class Pixels(Protocol):
    """The pixels of some images."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S), on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryPixels:
    """Images in memory.

    Attributes:
        images: uint8, (N, 3, S, S).
    """

    images: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S)."""
        return self.images[torch.as_tensor(np.asarray(positions, dtype=np.int64))]


class DecodedPixels:
    """Images that are decoded whenever they are asked for, in threads.

    Args:
        count: number of images.
        opener: gives one of them.
        size: edge length S in pixels.
    """

    def __init__(self, count: int, opener: Opener, size: int) -> None:
        self._count = count
        self._square = partial(_opened_square, opener, size)
        self._size = size
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S)."""
        if not len(positions):
            return torch.zeros(0, 3, self._size, self._size, dtype=torch.uint8)
        return torch.stack(list(self._threads.map(self._square, np.asarray(positions).tolist())))


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Labelled images to train or to test on.

    Attributes:
        keys: one per image, unique.
        labels: int64, (N,).
        pixels: the images.
    """

    keys: tuple[str, ...]
    labels: Tensor
    pixels: Pixels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    def counts(self, classes: int) -> list[int]:
        """Return the number of images per class."""
        return [int(count) for count in torch.bincount(self.labels, minlength=classes)]

    def take(self, positions: Sequence[int]) -> ImageSet:
        """Return the images at these positions."""
        chosen = torch.as_tensor(np.asarray(positions, dtype=np.int64))
        return replace(
            self,
            keys=tuple(self.keys[place] for place in positions),
            labels=self.labels[chosen],
            pixels=_Chosen(self.pixels, np.asarray(positions, dtype=np.int64)),
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    pixels: Pixels
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        return self.pixels.batch(self.positions[np.asarray(positions, dtype=np.int64)])


def square(image: Image.Image, size: int) -> Tensor:
    """Return the largest centred square of `image` at `size` pixels, uint8, (3, size, size)."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def make_pixels(count: int, opener: Opener, size: int, max_bytes: float) -> Pixels:
    """Return `count` images at `size` pixels: in memory up to `max_bytes`, else decoded when asked."""
    decoded = DecodedPixels(count, opener, size)
    if count * 3 * size * size > max_bytes:
        return decoded
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for start in range(0, count, 1024):
        positions = np.arange(start, min(start + 1024, count))
        images[start : start + len(positions)] = decoded.batch(positions)
    return MemoryPixels(images)


def real_images(dataset: Dataset, size: int, max_bytes: float) -> ImageSet:
    """Return the images of `dataset` as squares of `size` pixels.

    Args:
        dataset: verified images.
        size: edge length in pixels.
        max_bytes: see `make_pixels`.
    """

    def opener(position: int) -> Image.Image:
        return decode(dataset.reader.read(dataset.images[position].key), dataset.decoding)

    return ImageSet(
        keys=tuple(image.key for image in dataset.images),
        labels=torch.tensor([image.label for image in dataset.images], dtype=torch.int64),
        pixels=make_pixels(len(dataset.images), opener, size, max_bytes),
    )


def _opened_square(opener: Opener, size: int, position: int) -> Tensor:
    return square(opener(position), size)
