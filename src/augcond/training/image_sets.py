"""Labelled images, real or synthetic, as uint8 tensors: in memory where they fit, else decoded for each batch."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps
from torch import Tensor

from augcond.conditioning.framing import scale_for
from augcond.datasets.contents import open_image, open_reduced
from augcond.datasets.decoding import available_cores
from augcond.datasets.reduced import whole
from augcond.engine.sources import BYTES_PER_PIXEL, Kept
from augcond.files import replacing
from augcond.progress import NoProgress
from augcond.store.images import decode_stored
from augcond.store.shards import shard_rows
from augcond.training.ahead import Ahead, batched, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from augcond.conditioning.framing import Picture
    from augcond.datasets import Dataset
    from augcond.datasets.reduced import Box, Reduced
    from augcond.progress import Progress
    from augcond.store import RunFolder
    from augcond.training.synthetic import SyntheticRows


T = TypeVar("T")

_AT_ONCE = 256
"""Encoded images in memory at once."""

_WORTH_TELLING = 1000
"""Fewer images are decoded before anybody would look for a bar."""


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
            _write_square(self._opener(position), place)

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

    def batches(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the images in order, `size` at a time, each with the position of its first.

        What has to be decoded is decoded while the batch before it is in use.
        """
        starts = range(0, len(self), size)

        def make(number: int, going_on: Callable[[], None]) -> tuple[int, Tensor]:
            places = np.arange(starts[number], min(starts[number] + size, len(self)))
            if self.pixels.in_memory:
                return starts[number], self.pixels.batch(places)
            parts = []
            for some in batched(places.tolist(), 4 * available_cores()):
                going_on()
                parts.append(self.pixels.batch(some))
            return starts[number], torch.cat(parts)

        with closing(Ahead(make, len(starts))) as ahead:
            yield from map(ahead, range(len(starts)))

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

    @property
    def edge(self) -> int:
        return self.pixels.edge

    @property
    def in_memory(self) -> bool:
        return self.pixels.in_memory

    def read(self, positions: np.ndarray, out: np.ndarray) -> None:
        self.pixels.read(self.positions[positions], out)

    def photo(self, position: int) -> Picture:
        return self.pixels.photo(int(self.positions[position]))


def real_images(
    dataset: Dataset, size: int, max_bytes: float, progress: Progress | None = None, *, photos: bool = False
) -> ImageSet:
    """Return the images of `dataset` as squares of `size` pixels.

    Args:
        dataset: verified images.
        size: edge length in pixels.
        max_bytes: of memory; where they would take more, decoded, each is decoded whenever it is asked for.
        progress: is told how many are decoded into memory.
        photos: they are asked for as photographs, too: these are kept, decoded as far as was needed, as many as fit.
    """

    def opener(position: int) -> Image.Image:
        return open_image(dataset, dataset.images[position].key)

    def jpeg_size(position: int) -> tuple[int, int] | None:
        image = dataset.images[position]
        return (image.width, image.height) if "jpeg" in image.paths else None

    reducible = Reducible(jpeg_size, lambda position, scale: open_reduced(dataset, dataset.images[position].key, scale))
    count = len(dataset.images)
    return ImageSet(
        keys=tuple(image.key for image in dataset.images),
        labels=torch.tensor([image.label for image in dataset.images], dtype=torch.int64),
        pixels=(
            DecodedPixels(count, opener, size, max_bytes if photos else 0, reducible)
            if photos or not _fit(count, size, max_bytes)
            else MemoryPixels(_decoded(range(count), count, opener, size, progress))
        ),
    )


def _fit(count: int, size: int, max_bytes: float) -> bool:
    """Return whether so many squares of `size` pixels are kept in memory."""
    return count * 3 * size * size <= max_bytes


def _decoded(
    encoded: Iterable[T], count: int, opener: Callable[[T], Image.Image], size: int, progress: Progress | None
) -> Tensor:
    """Return `count` images at `size` pixels, uint8, (N, 3, S, S), opened by all cores."""
    images = np.empty((count, 3, size, size), np.uint8)
    progress = progress if progress is not None and count >= _WORTH_TELLING else NoProgress()
    progress.start(count, "images decoded")
    done = 0
    for some in batched(encoded, _AT_ONCE):
        places = images[done : done + len(some)]
        for _ in workers().map(lambda one, place: _write_square(opener(one), place), some, places):
            pass
        done += len(some)
        progress.advance(len(some), 0)
    return torch.from_numpy(images)


def _write_square(image: Image.Image, out: np.ndarray) -> None:
    """Write the largest centred square of `image` into `out`, uint8, (3, S, S)."""
    size = out.shape[-1]
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    bands = (image if image.mode == "RGB" else image.convert("RGB")).split()
    for place, band in zip(out, bands, strict=True):
        place[...] = np.asarray(band)


def synthetic_images(
    folder: RunFolder,
    rows: SyntheticRows,
    positions: np.ndarray,
    size: int,
    max_bytes: float,
    progress: Progress | None = None,
    *,
    photos: bool = False,
) -> ImageSet:
    """Return the images at `positions` as squares of `size` pixels.

    Where they would take more than `max_bytes` decoded, they are written, still encoded, to one file under the run
    folder that is mapped into memory, and decoded for each batch.

    Args:
        folder: the run.
        rows: what it holds.
        positions: which images.
        size: edge length in pixels.
        max_bytes: of memory.
        progress: is told how many are decoded into memory.
        photos: see `real_images`.
    """
    pixels: Pixels
    if not photos and _fit(len(positions), size, max_bytes):
        encoded_images = _encoded(folder, rows, positions)
        pixels = MemoryPixels(_decoded(encoded_images, len(positions), decode_stored, size, progress))
    else:
        recipe = rows.recipes[int(positions[0])]
        encoded = _mapped(folder, rows, positions, folder.mapped_path(str(recipe)))

        def opener(position: int) -> Image.Image:
            return decode_stored(encoded[position].as_py())

        pixels = DecodedPixels(len(positions), opener, size, max_bytes if photos else 0)
    return ImageSet(tuple(rows.keys[p] for p in positions), torch.from_numpy(rows.labels[positions]), pixels)


def _mapped(folder: RunFolder, rows: SyntheticRows, positions: np.ndarray, path: Path) -> pa.ChunkedArray:
    path.parent.mkdir(exist_ok=True)
    schema = pa.schema({"image": pa.binary()})
    with (
        replacing(path) as temporary,  # every process of a training on several devices writes the file
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for encoded in batched(_encoded(folder, rows, positions), _AT_ONCE):
            writer.write_batch(pa.record_batch([pa.array(encoded, pa.binary())], schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["image"]


def _encoded(folder: RunFolder, rows: SyntheticRows, positions: np.ndarray) -> Iterator[bytes]:
    """Yield the encoded images at `positions`; positions ascend, and so do shards."""
    shards = rows.shards[positions]
    for shard in np.unique(shards):
        places = rows.places[positions[shards == shard]]
        for row in shard_rows(folder.shard_path(int(shard)), ("image",), places):
            yield row["image"]["bytes"]
