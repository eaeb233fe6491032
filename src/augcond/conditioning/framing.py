"""Which part of a picture is shown at which size, and what of its pixels that takes.

A photograph of 12 megapixels is shown to an encoder at 224 x 224 pixels: a JPEG may be decoded at a fraction of its
size for that (`augcond.datasets.reduced`), as long as what is shown is resized from enough pixels (`ENOUGH`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from augcond.datasets.reduced import SCALES, Box

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

ENOUGH = 1.9
"""Pixels of a reduced picture for each one that is shown, in both directions, at least. An embedding moves by it about
as much as by storing the picture as a JPEG of quality 90 (docs/performance.md); and photographs of 4000 x 3000 pixels,
shown at 768, are among those that are reduced."""


class Picture(Protocol):
    """An RGB picture of which parts are shown."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        ...

    def show(self, box: Box, size: tuple[int, int], resample: Resampling, *, alone: bool) -> Image:
        """Return a part of it, resized.

        Args:
            box: the part.
            size: width and height of what is returned, in pixels.
            resample: Pillow's filter.
            alone: whether the part is cut out before it is resized; else the filter reaches beyond it, as far as the
                picture does.
        """
        ...


def scale_for(box: Box, size: tuple[int, int]) -> int:
    """Return the fraction of its size, as pixels for one, that a JPEG may be decoded at to show `box` at `size`."""
    pixels = min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    return next((scale for scale in SCALES if pixels >= ENOUGH * scale), 1)


def is_large(picture: tuple[int, int], shown: int) -> bool:
    """Return whether a picture of that width and height may be reduced to show it, or parts, at `shown` pixels."""
    return 0 < 2 * ENOUGH * shown <= min(picture)


def covering(picture: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the largest centred part of a picture that has the shape of `size`; both are width and height."""
    (width, height), shape = picture, size[0] / size[1]
    if width / height == shape:
        return (0.0, 0.0, width, height)
    if width / height > shape:
        width = shape * height  # type: ignore[assignment]
    else:
        height = width / shape  # type: ignore[assignment]
    left, top = (picture[0] - width) * 0.5, (picture[1] - height) * 0.5
    return (left, top, left + width, top + height)


@dataclass(frozen=True, slots=True)
class Framing:
    """How an image encoder's own preprocessing shows a whole picture: resized, and cropped at its centre.

    Attributes:
        resized: what its shorter edge is resized to, in pixels; or height and width of the whole.
        shown: edge length S of the crop.
        resample: Pillow's filter.
    """

    resized: int | tuple[int, int]
    shown: int
    resample: Resampling

    def box(self, picture: tuple[int, int]) -> Box:
        """Return the part of a picture, of that width and height, that is shown."""
        width, height = picture
        if isinstance(self.resized, tuple):
            rows, columns = self.resized
        else:
            shorter, longer = min(picture), max(picture)
            edges = self.resized, int(self.resized * longer / shorter)
            columns, rows = edges if width <= height else edges[::-1]
        left, top = int((columns - self.shown) / 2.0), int((rows - self.shown) / 2.0)
        across, down = width / columns, height / rows
        return (left * across, top * down, (left + self.shown) * across, (top + self.shown) * down)

    def show(self, picture: Picture) -> Image:
        """Return the view, S x S."""
        edges = (self.shown, self.shown)
        return picture.show(self.box(picture.size), edges, self.resample, alone=False)
