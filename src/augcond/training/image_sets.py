"""Labelled images, real or synthetic, as uint8 tensors: in memory where they fit, else decoded for each batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image, ImageOps
from torch import Tensor

from augcond.datasets.contents import open_image
from augcond.datasets.decoding import available_cores
from augcond.errors import RunError
from augcond.files import replacing
from augcond.planning import index_of
from augcond.store.images import decode_stored
from augcond.store.shards import OK, shard_columns, shard_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from augcond.datasets import Dataset
    from augcond.store import RunFolder


_AT_ONCE = 256
"""Encoded images in memory at once."""


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
        opener: gives the one at a position, decoded, RGB.
        size: edge length S in pixels.
    """

    def __init__(self, count: int, opener: Callable[[int], Image.Image], size: int) -> None:
        self._count = count
        self._opener = opener
        self._size = size
        self._threads = _decoding_threads()

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images at these positions, uint8, (B, 3, S, S)."""
        if not len(positions):
            return torch.zeros(0, 3, self._size, self._size, dtype=torch.uint8)
        return torch.stack(list(self._threads.map(self._square, np.asarray(positions).tolist())))

    def _square(self, position: int) -> Tensor:
        return _square(self._opener(position), self._size)


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


def real_images(dataset: Dataset, size: int, max_bytes: float) -> ImageSet:
    """Return the images of `dataset` as squares of `size` pixels.

    Args:
        dataset: verified images.
        size: edge length in pixels.
        max_bytes: of memory; where they would take more, decoded, each is decoded whenever it is asked for.
    """

    def opener(position: int) -> Image.Image:
        return open_image(dataset, dataset.images[position].key)

    return ImageSet(
        keys=tuple(image.key for image in dataset.images),
        labels=torch.tensor([image.label for image in dataset.images], dtype=torch.int64),
        pixels=_make_pixels(len(dataset.images), opener, size, max_bytes),
    )


def _make_pixels(count: int, opener: Callable[[int], Image.Image], size: int, max_bytes: float) -> Pixels:
    """Return `count` images at `size` pixels: in memory up to `max_bytes`, else decoded when asked."""
    decoded = DecodedPixels(count, opener, size)
    if count * 3 * size * size > max_bytes:
        return decoded
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for start in range(0, count, 1024):
        positions = np.arange(start, min(start + 1024, count))
        images[start : start + len(positions)] = decoded.batch(positions)
    return MemoryPixels(images)


def _square(image: Image.Image, size: int) -> Tensor:
    """Return the largest centred square of `image` at `size` pixels, uint8, (3, size, size)."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _decoding_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")


@dataclass(frozen=True, slots=True)
class SyntheticRows:
    """Which generated images a run holds, without their pixels.

    Attributes:
        keys: one per image.
        labels: int64, (N,).
        recipes: recipe of each, texts, (N,).
        index: number of each within its class and recipe, int64, (N,).
        sources: source keys of each.
        shards: shard of each, int64, (N,), ascending.
        places: row of each within its shard, int64, (N,).
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    recipes: np.ndarray
    index: np.ndarray
    sources: tuple[tuple[str, ...], ...]
    shards: np.ndarray
    places: np.ndarray

    def select(self, recipe: str, per_class: int | None = None, dropped: Collection[str] = ()) -> np.ndarray:
        """Return the positions of the images of `recipe`.

        Args:
            recipe: its name.
            per_class: the first so many of each class, as planned; all where None.
            dropped: keys that screening dropped.
        """
        chosen = self.recipes == recipe
        if per_class is not None:
            chosen &= self.index < per_class
        positions = np.flatnonzero(chosen)
        if dropped:
            out = set(dropped)
            positions = np.array([place for place in positions if self.keys[place] not in out], dtype=np.int64)
        return positions


def read_synthetic(folder: RunFolder) -> SyntheticRows:
    """Return every image that the run has made.

    Raises:
        RunError: the run is not generated to the end.
    """
    plan = folder.read_plan()
    markers = folder.verified_markers(plan)
    left = sum(marker is None for marker in markers)
    if left:
        raise RunError(
            f"{left} of {len(markers)} shards of {folder.path} are not generated yet: run augcond generate first"
        )
    parts: list[pa.Table] = []
    for number in range(len(markers)):
        table = shard_columns(folder.shard_path(number), ("key", "label", "recipe", "source_keys", "status"))
        places = pa.array(np.arange(table.num_rows))
        table = table.append_column("place", places).append_column("shard", pa.array([number] * table.num_rows))
        parts.append(table.filter(pc.equal(table["status"], OK)).replace_schema_metadata(None))
    if not parts:
        empty = np.zeros(0, np.int64)
        return SyntheticRows((), empty, empty.astype(str), empty, (), empty, empty)
    table = pa.concat_tables(parts)
    keys = tuple(table["key"].to_pylist())
    return SyntheticRows(
        keys=keys,
        labels=table["label"].to_numpy().astype(np.int64),
        recipes=np.array(table["recipe"].to_pylist(), dtype=str),
        index=np.array([index_of(key) for key in keys], dtype=np.int64),
        sources=tuple(tuple(sources) for sources in table["source_keys"].to_pylist()),
        shards=table["shard"].to_numpy().astype(np.int64),
        places=table["place"].to_numpy().astype(np.int64),
    )


def synthetic_images(
    folder: RunFolder, rows: SyntheticRows, positions: np.ndarray, size: int, max_bytes: float
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
    """
    in_memory = len(positions) * 3 * size * size <= max_bytes
    pixels: Pixels
    if in_memory:
        pixels = MemoryPixels(_decoded(folder, rows, positions, size))
    else:
        recipe = rows.recipes[int(positions[0])]
        encoded = _mapped(folder, rows, positions, folder.mapped_path(str(recipe)))

        def opener(position: int) -> Image.Image:
            return decode_stored(encoded[position].as_py())

        pixels = DecodedPixels(len(positions), opener, size)
    return ImageSet(tuple(rows.keys[p] for p in positions), torch.from_numpy(rows.labels[positions]), pixels)


def _decoded(folder: RunFolder, rows: SyntheticRows, positions: np.ndarray, size: int) -> Tensor:
    images = torch.empty(len(positions), 3, size, size, dtype=torch.uint8)
    done = 0
    with _decoding_threads() as threads:
        for encoded in _batches(_encoded(folder, rows, positions)):
            for image in threads.map(lambda data: _square(decode_stored(data), size), encoded):
                images[done] = image
                done += 1
    return images


def _mapped(folder: RunFolder, rows: SyntheticRows, positions: np.ndarray, path: Path) -> pa.ChunkedArray:
    path.parent.mkdir(exist_ok=True)
    schema = pa.schema({"image": pa.binary()})
    with (
        replacing(path) as temporary,  # every process of a training on several devices writes the file
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for encoded in _batches(_encoded(folder, rows, positions)):
            writer.write_batch(pa.record_batch([pa.array(encoded, pa.binary())], schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["image"]


def _batches(encoded: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(encoded, _AT_ONCE)):
        yield batch


def _encoded(folder: RunFolder, rows: SyntheticRows, positions: np.ndarray) -> Iterator[bytes]:
    """Yield the encoded images at `positions`; positions ascend, and so do shards."""
    shards = rows.shards[positions]
    for shard in np.unique(shards):
        places = rows.places[positions[shards == shard]]
        for row in shard_rows(folder.shard_path(int(shard)), ("image",), places):
            yield row["image"]["bytes"]
