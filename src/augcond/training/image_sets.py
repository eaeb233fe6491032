"""Labelled images, real or synthetic, as uint8 tensors: in memory where they fit, else decoded for each batch."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from augcond.datasets.contents import open_image, open_reduced
from augcond.datasets.decoding import available_cores
from augcond.files import replacing
from augcond.progress import NoProgress
from augcond.store.images import decode_stored
from augcond.store.shards import shard_rows
from augcond.training.ahead import Ahead, batched, workers
from augcond.training.pixels import DecodedPixels, MemoryPixels, Reducible, write_square

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from augcond.conditioning.framing import Picture
    from augcond.datasets import Dataset
    from augcond.progress import Progress
    from augcond.training.pixels import Pixels
    from augcond.training.synthetic import SyntheticRows


T = TypeVar("T")

_AT_ONCE = 256
"""Encoded images in memory at once."""

_WORTH_TELLING = 1000
"""Fewer images are decoded before anybody would look for a bar."""


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
        for _ in workers().map(lambda one, place: write_square(opener(one), place), some, places):
            pass
        done += len(some)
        progress.advance(len(some), 0)
    return torch.from_numpy(images)


def synthetic_images(
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
        rows: what the run holds.
        positions: which images.
        size: edge length in pixels.
        max_bytes: of memory.
        progress: is told how many are decoded into memory.
        photos: see `real_images`.
    """
    pixels: Pixels
    if not photos and _fit(len(positions), size, max_bytes):
        encoded_images = _encoded(rows, positions)
        pixels = MemoryPixels(_decoded(encoded_images, len(positions), decode_stored, size, progress))
    else:
        recipes = "+".join(np.unique(rows.recipes[positions]).tolist())
        encoded = _mapped(rows, positions, rows.folder.mapped_path(recipes))

        def opener(position: int) -> Image.Image:
            return decode_stored(encoded[position].as_py())

        pixels = DecodedPixels(len(positions), opener, size, max_bytes if photos else 0)
    return ImageSet(tuple(rows.keys[p] for p in positions), torch.from_numpy(rows.labels[positions]), pixels)


def _mapped(rows: SyntheticRows, positions: np.ndarray, path: Path) -> pa.ChunkedArray:
    path.parent.mkdir(exist_ok=True)
    schema = pa.schema({"image": pa.binary()})
    with (
        replacing(path) as temporary,  # every process of a training on several devices writes the file
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for encoded in batched(_encoded(rows, positions), _AT_ONCE):
            writer.write_batch(pa.record_batch([pa.array(encoded, pa.binary())], schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["image"]


def _encoded(rows: SyntheticRows, positions: np.ndarray) -> Iterator[bytes]:
    """Yield the encoded images at `positions`; positions ascend, and so do shards."""
    shards = rows.shards[positions]
    for shard in np.unique(shards):
        places = rows.places[positions[shards == shard]]
        for row in shard_rows(rows.folder.shard_path(int(shard)), ("image",), places):
            yield row["image"]["bytes"]
