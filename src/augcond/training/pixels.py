"""The pixels of images, as uint8: in memory, or decoded whenever they are asked for, as squares or as photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from augcond.conditioning.framing import scale_for
from augcond.datasets.reduced import whole
from augcond.engine.sources import BYTES_PER_PIXEL, Kept
from augcond.training.ahead import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from augcond.conditioning.framing import Picture
    from augcond.datasets.reduced import Box, Reduced


class Pixels(Protocol):
    """The pixels of some images; may be read by several threads at once."""

    @property
    def edge(self) -> int:
        """Edge length S in pixels."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether reading them costs next to nothing."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S), on the CPU, by all cores."""
        ...

    def read(self, positions: np.ndarray, out: np.ndarray) -> None:
        """Write the images at these positions into `out`, uint8, (B, 3, S, S), in the calling thread."""
        ...

    def photo(self, position: int) -> Picture:
        """Return an image of whatever shape it is, of which parts are shown.

        Raises:
            LookupError: only squares are kept.
        """
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

    @property
    def edge(self) -> int:
        """Edge length S in pixels."""
        return self.images.shape[-1]

    @property
    def in_memory(self) -> bool:
        """Whether reading them costs next to nothing: yes."""
        return True

    def read(self, positions: np.ndarray, out: np.ndarray) -> None:
        """Write the images at these positions into `out`, uint8, (B, 3, S, S)."""
        np.take(self.images.numpy(), positions, axis=0, out=out, mode="clip")

    def photo(self, position: int) -> Picture:
        """Raise LookupError: only squares are kept."""
        raise LookupError(f"image {position} is kept as a square")


@dataclass(frozen=True, slots=True)
class Reducible:
    """How images are decoded at a fraction of their size.

    Attributes:
        size: width and height of the one at a position; None of one that cannot be.
        opener: gives the one at a position, decoded at one over a scale of its size.
    """

    size: Callable[[int], tuple[int, int] | None]
    opener: Callable[[int, int], Reduced]


class DecodedPixels:
    """Images that are decoded whenever they are asked for, in threads.

    Args:
        count: number of images.
        opener: gives the one at a position, decoded, RGB.
        size: edge length S in pixels.
        max_bytes: of photographs that are kept, decoded as far as their parts took.
        reducible: of photographs.
    """

    def __init__(
        self,
        count: int,
        opener: Callable[[int], Image.Image],
        size: int,
        max_bytes: float = 0,
        reducible: Reducible | None = None,
    ) -> None:
        self._count = count
        self._opener = opener
        self._size = size
        self._reducible = reducible
        self._kept: Kept[tuple[int, int], Reduced] = Kept(
            max_bytes, lambda kept: BYTES_PER_PIXEL * kept.image.width * kept.image.height
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S)."""
        places = np.asarray(positions, dtype=np.int64)
        images = np.empty((len(places), 3, self._size, self._size), np.uint8)
        for _ in workers().map(self.read, places[:, None], images[:, None]):
            pass
        return torch.from_numpy(images)

    @property
    def edge(self) -> int:
        """Edge length S in pixels."""
        return self._size

    @property
    def in_memory(self) -> bool:
        """Whether reading them costs next to nothing: no."""
        return False

    def read(self, positions: np.ndarray, out: np.ndarray) -> None:
        """Write the images at these positions into `out`, uint8, (B, 3, S, S), in the calling thread."""
        for position, place in zip(positions.tolist(), out, strict=True):
            write_square(self._opener(position), place)

    def photo(self, position: int) -> Picture:
        """Return an image of whatever shape it is, of which parts are shown."""
        size = self._reducible and self._reducible.size(position)
        return _Photo(self, position, size) if size else self.decoded(position, 1)

    def decoded(self, position: int, scale: int) -> Reduced:
        """Return a photograph, decoded at 1 / `scale` of its size; it is shared, so nobody may change it."""

        def compute() -> Reduced:
            if scale == 1 or self._reducible is None:
                return whole(self._opener(position))
            return self._reducible.opener(position, scale)

        return self._kept.get((position, scale), compute)


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photograph that is decoded as far as the part that is shown takes."""

    pixels: DecodedPixels
    position: int
    size: tuple[int, int]

    def show(self, box: Box, size: tuple[int, int], resample: Image.Resampling, *, alone: bool) -> Image.Image:
        return self.pixels.decoded(self.position, scale_for(box, size)).show(box, size, resample, alone=alone)


def write_square(image: Image.Image, out: np.ndarray) -> None:
    """Write the largest centred square of `image` into `out`, uint8, (3, S, S)."""
    size = out.shape[-1]
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    bands = (image if image.mode == "RGB" else image.convert("RGB")).split()
    for place, band in zip(out, bands, strict=True):
        place[...] = np.asarray(band)
