"""The same picture twice, however it was stored: re-encoded, resized, mirrored, with other metadata.

Three steps, from cheap to certain. While an image is decoded for the first time, its *look* is kept: a perceptual hash
(pHash of ImageHash, also of its mirror image) and a view of 16 x 16 grey and 4 x 4 colour values. Looks whose hashes
differ in few bits are proposed; those whose views nearly agree are decoded again and compared at the smaller one's
size. What is certain by that is never a matter of hashes alone: on the built-in world 10 % of the test images have a
training image within 4 bits, and none is one. `benchmarks/duplicates.py` measures the bounds below.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from augcond.datasets.decoding import decode
from augcond.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from augcond.datasets.base import Dataset

logger = logging.getLogger(__name__)

HASH_BITS = 10
"""So many of 64 bits may differ: 97 % of crops of photographs stay below, at JPEG quality 50 or another size."""
VIEW_ERROR = 0.12
"""Views of copies differ by less; the nearest of 15 million pairs of the built-in world by 0.211."""
FINE_ERROR = 0.15
"""Grey values at the smaller size differ by less; the nearest two pictures of the built-in world by 0.254."""
_FINE_EDGE = 64
_LEAST_EDGE = 32
"""Of smaller pictures only equal pixels are certain: two handwritten digits of 8 x 8 pixels differ by 0.11."""

_GREY, _COLOUR = 16, 4
_CHROMA_STEP = 40.0
"""So many levels of colour count like a grey error of 1."""
_ENOUGH = 128
"""An image of more pixels a side is reduced by a whole number first, which is quick."""
_HASHES = 16
_LOOK = _HASHES + _GREY**2 + 2 * _COLOUR**2
_ROWS, _COLUMNS = 16, 1 << 14
_PAIRS = 1 << 16
_AT_ONCE = 256
_MOST_PROPOSED = 20_000_000
"""Pairs of one search that are looked at closer, before it says that there were more."""


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Two images that look the same.

    Attributes:
        first: position among the first images.
        second: position among the second ones, or among the same.
        mirrored: whether one is the other's mirror image.
        error: difference of their grey values at the smaller one's size, as a share of their contrast; 0 where their
            pixels are equal.
        certain: whether they are one picture.
    """

    first: int
    second: int
    mirrored: bool
    error: float
    certain: bool


def look_of(image: Image.Image) -> bytes:
    """Return what is kept of how an image looks.

    Args:
        image: RGB, upright, of any size.
    """
    import imagehash

    grey, colours = _reduced(image)
    mirrored = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    hashes = [np.packbits(imagehash.phash(side).hash).tobytes() for side in (grey, mirrored)]
    return b"".join((*hashes, _view(grey, colours).tobytes()))


def view_of_image(image: Image.Image) -> NDArray[np.uint8]:
    """Return the view in the look of an RGB image, (288,)."""
    return _view(*_reduced(image))


def _reduced(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return 32 x 32 grey values, and few of colour."""
    factor = min(image.size) // _ENOUGH
    if factor > 1:
        image = image.reduce(factor)
    return (
        image.convert("L").resize((32, 32), Image.Resampling.LANCZOS),
        image.resize((_COLOUR, _COLOUR), Image.Resampling.LANCZOS).convert("YCbCr"),
    )


def _view(grey: Image.Image, colours: Image.Image) -> NDArray[np.uint8]:
    small = np.asarray(grey.resize((_GREY, _GREY), Image.Resampling.LANCZOS))
    return np.concatenate([small.ravel(), np.asarray(colours)[..., 1:].ravel()])


def find_look_alikes(first: Dataset, second: Dataset | None = None, *, most: int | None = None) -> list[LookAlike]:
    """Return the pairs of images that look the same, certain ones first, each with its error.

    Args:
        first: verified images.
        second: others to compare them with; where None, each image with those behind it. Images of the same bytes are
            found by their hash: here they count as certain between two sets, and not at all within one.
        most: pairs that are decoded and compared; all where None.
    """
    pairs = sorted(_alike(_Looks(first), None if second is None else _Looks(second)), key=itemgetter(3, 0, 1))
    compare = _Comparison(first, second or first)
    within = second is None
    kept = [pair for pair in pairs if not (within and compare.same_file(*pair[:2]))]
    if most is not None and len(kept) > most:
        logger.warning("%d pairs of images look alike: the %d most alike are compared", len(kept), most)
    found = [LookAlike(a, b, mirrored, *compare(a, b, mirrored)) for a, b, mirrored, _ in kept[:most]]
    return sorted(found, key=lambda pair: (not pair.certain, pair.error, pair.first, pair.second))


class _Looks:
    """The looks of a data set as arrays; images without one are left out."""

    def __init__(self, dataset: Dataset) -> None:
        self.places = np.array(
            [n for n, image in enumerate(dataset.images) if len(image.look) == _LOOK], dtype=np.int64
        )
        joined = b"".join(image.look for image in dataset.images if len(image.look) == _LOOK)
        table = np.frombuffer(joined, np.uint8).reshape(-1, _LOOK)
        self.hashes, self.mirrored = (
            np.ascontiguousarray(table[:, start : start + 8]).view(np.uint64)[:, 0] for start in (0, 8)
        )
        self.views = table[:, _HASHES:]

    def __len__(self) -> int:
        return len(self.places)


def _alike(first: _Looks, second: _Looks | None) -> Iterator[tuple[int, int, bool, float]]:
    """Yield (first, second, mirrored, error of the views) of the pairs whose views nearly agree."""
    other = second or first
    seen: set[tuple[int, int]] = set()
    proposed = 0
    for mirrored in (False, True):
        hashes = first.mirrored if mirrored else first.hashes
        for a, b in _near_hashes(hashes, other.hashes, within=second is None):
            proposed += len(a)
            for pair, error in _near_views(first.views, other.views, a, b, mirrored=mirrored):
                if pair not in seen:
                    seen.add(pair)
                    yield int(first.places[pair[0]]), int(other.places[pair[1]]), mirrored, error
            if proposed > _MOST_PROPOSED:
                logger.warning(
                    "so many images look alike that near-duplicates were looked for among the first %d of %d only",
                    int(a[-1]),
                    len(first),
                )
                return


def _near_hashes(
    first: NDArray[np.uint64], second: NDArray[np.uint64], *, within: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield blocks of positions whose hashes differ in few bits, row by row; of one set each pair once."""
    # Blocks that fit the processor's cache, in buffers of their own: ten times as fast as whole rows.
    differ, bits = np.empty(_ROWS * _COLUMNS, np.uint64), np.empty(_ROWS * _COLUMNS, np.uint8)
    near = np.empty(_ROWS * _COLUMNS, np.bool_)
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS, None]
        for begin in range(start // _COLUMNS * _COLUMNS if within else 0, len(second), _COLUMNS):
            columns = second[None, begin : begin + _COLUMNS]
            size = rows.size * columns.size
            np.bitwise_xor(rows, columns, out=differ[:size].reshape(rows.size, columns.size))
            np.less_equal(np.bitwise_count(differ[:size], out=bits[:size]), HASH_BITS, out=near[:size])
            a, b = np.divmod(np.flatnonzero(near[:size]), columns.size)
            a, b = a + start, b + begin
            if within:
                a, b = a[a < b], b[a < b]
            if len(a):
                yield a, b


def _near_views(
    first: NDArray[np.uint8], second: NDArray[np.uint8], a: NDArray[np.int64], b: NDArray[np.int64], *, mirrored: bool
) -> Iterator[tuple[tuple[int, int], float]]:
    for start in range(0, len(a), _PAIRS):
        rows, others = a[start : start + _PAIRS], b[start : start + _PAIRS]
        errors = view_errors(first[rows], second[others], mirrored=mirrored)
        for place in np.flatnonzero(errors < VIEW_ERROR):
            yield (int(rows[place]), int(others[place])), float(errors[place])


def view_errors(first: NDArray[np.uint8], second: NDArray[np.uint8], *, mirrored: bool = False) -> NDArray[np.float32]:
    """Return the error of each of N pairs of views, (N, 288) each: the larger of that of grey and of colour values.

    Args:
        first: views, of which the mirror images are compared where `mirrored`.
        second: views.
        mirrored: see above.
    """
    if mirrored:
        first = _flipped(first)
    grey, colour = first[:, : _GREY**2].astype(np.float32), first[:, _GREY**2 :].astype(np.float32)
    other, chroma = second[:, : _GREY**2].astype(np.float32), second[:, _GREY**2 :].astype(np.float32)
    contrast = np.maximum(np.minimum(grey.std(1), other.std(1)), 1.0)
    errors: NDArray[np.float32] = np.maximum(
        np.sqrt(((grey - other) ** 2).mean(1)) / contrast, np.sqrt(((colour - chroma) ** 2).mean(1)) / _CHROMA_STEP
    )
    return errors


def nearest_views(
    first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the lowest error of each of N views over M others, (N,); which other that is; and whether mirrored.

    Args:
        first: (N, 288).
        second: (M, 288), one at least.
    """
    errors = np.full(len(first), np.inf, np.float32)
    places, mirrored = np.zeros(len(first), np.int64), np.zeros(len(first), np.bool_)
    for flip in (False, True):
        for start in range(0, len(first), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            found = _all_view_errors(_flipped(first[rows]) if flip else first[rows], second)
            place = found.argmin(1)
            lowest = found[np.arange(len(place)), place]
            better = lowest < errors[rows]
            errors[rows] = np.where(better, lowest, errors[rows])
            places[rows] = np.where(better, place, places[rows])
            mirrored[rows] = np.where(better, flip, mirrored[rows])
    return errors, places, mirrored


def _flipped(views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = views[:, : _GREY**2].reshape(-1, _GREY, _GREY)[:, :, ::-1]
    colour = views[:, _GREY**2 :].reshape(-1, _COLOUR, _COLOUR, 2)[:, :, ::-1]
    return np.concatenate([grey.reshape(len(views), -1), colour.reshape(len(views), -1)], axis=1)


def _all_view_errors(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return `view_errors` of all pairs, (N, M), by one matrix product each for grey and colour."""
    parts = []
    for columns in (slice(_GREY**2), slice(_GREY**2, None)):
        one, other = first[:, columns].astype(np.float32), second[:, columns].astype(np.float32)
        squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
        parts.append((np.sqrt(np.maximum(squares, 0) / one.shape[1]), one.std(1), other.std(1)))
    (grey, contrast, others), (colour, _, _) = parts
    errors: NDArray[np.float32] = np.maximum(
        grey / np.maximum(np.minimum(contrast[:, None], others[None]), 1.0), colour / _CHROMA_STEP
    )
    return errors


def view_of(look: bytes) -> NDArray[np.uint8]:
    """Return the view in a look, (288,)."""
    return np.frombuffer(look, np.uint8)[_HASHES:]


def contrast_of(look: bytes) -> float:
    """Return how much the grey values of a look's view spread, in levels of 255."""
    return float(view_of(look)[: _GREY**2].std())


class _Comparison:
    """Compares two images of their data sets at full depth."""

    def __init__(self, first: Dataset, second: Dataset) -> None:
        self._first, self._second = first, second
        self._open: Callable[[bool, int], Image.Image] = lru_cache(maxsize=64)(self._decode)

    def _decode(self, of_first: bool, place: int) -> Image.Image:
        dataset = self._first if of_first else self._second
        return decode(dataset.reader.read(dataset.images[place].key), dataset.decoding)

    def same_file(self, first: int, second: int) -> bool:
        return self._first.images[first].sha256 == self._second.images[second].sha256

    def __call__(self, first: int, second: int, mirrored: bool) -> tuple[float, bool]:
        """Return the error of two images, and whether they are one picture."""
        if self.same_file(first, second):
            return 0.0, True
        try:
            return compare(self._open(True, first), self._open(self._first is self._second, second), mirrored=mirrored)
        except (ImageError, OSError) as error:
            logger.warning("an image cannot be compared: %s", error)
            return 1.0, False


def compare(first: Image.Image, second: Image.Image, *, mirrored: bool = False) -> tuple[float, bool]:
    """Return the error of two RGB images, and whether they are certainly one picture.

    Args:
        first: an image, whose mirror image is compared where `mirrored`.
        second: another one, of any size.
        mirrored: see above.
    """
    if mirrored:
        first = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if first.size == second.size and np.array_equal(_array(first), _array(second)):
        return 0.0, True
    smaller = min(first.size, second.size, key=lambda size: size[0] * size[1])
    factor = min(1.0, _FINE_EDGE / max(smaller))
    size = (max(1, round(smaller[0] * factor)), max(1, round(smaller[1] * factor)))
    one, other = (
        _array(image.convert("L").resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
        for image in (first, second)
    )
    contrast = max(1.0, float(min(one.std(), other.std())))
    error = float(np.sqrt(((one - other) ** 2).mean())) / contrast
    return error, error < FINE_ERROR and min(smaller) >= _LEAST_EDGE


def _array(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image)
