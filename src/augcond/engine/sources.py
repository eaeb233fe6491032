"""Source images as rows use them, decoded once for as long as memory allows: a source serves tens to hundreds of rows.

What is kept here is a function of the source alone, so that it never shows in an image whether it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from augcond.conditioning.framing import is_large, scale_for
from augcond.conditioning.returned import checked_view
from augcond.conditioning.views import as_view
from augcond.datasets import DecodeSettings, Reader, decode
from augcond.datasets.reduced import Box, Reduced, decode_reduced, jpeg_size

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling
    from torch import Tensor

    from augcond.conditioning.framing import Picture
    from augcond.engine.embeddings import Embeddings
    from augcond.generators import Generator

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_OF_IMAGES, _OF_FILES = 0.62, 0.05
"""Shares of the memory that decoded images and the files just read get; the rest is for views, which are a hundred
times smaller than images."""

BYTES_PER_PIXEL = 4
"""Of an RGB image in Pillow."""


class Unreadable(Exception):
    """A source could not be read or decoded when a recipe asked for it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class Kept(Generic[K, T]):
    """Values by key, each computed by one thread while others wait, and dropped where they exceed a limit.

    Which are dropped is left to chance: sources are used in shuffled rounds, in which the one that was used last is the
    one that is needed latest.

    Args:
        limit: bytes of all values; those in use elsewhere are not counted.
        size: bytes of a value.
    """

    def __init__(self, limit: float, size: Callable[[T], int]) -> None:
        self._limit, self._size = limit, size
        self._lock = threading.Lock()
        self._values: dict[K, Future[T]] = {}
        self._order: list[K] = []  # of the values that are there
        self._bytes = 0
        self._chance = Random(0)

    def __contains__(self, key: K) -> bool:
        """Return whether the value is there, or is being computed."""
        return key in self._values

    def get(self, key: K, compute: Callable[[], T]) -> T:
        """Return the value of `key`, computed unless it is there; what `compute` raises is not kept."""
        while True:
            with self._lock:
                found = self._values.get(key)
                if found is None:
                    own = self._values[key] = Future()
                    break
            if found.exception() is None:
                return found.result()
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._values[key]
            own.set_exception(error)
            raise
        own.set_result(value)
        with self._lock:
            self._order.append(key)
            self._bytes += self._size(value)
            while self._bytes > self._limit:
                self._drop_one()
        return value

    def _drop_one(self) -> None:
        place = self._chance.randrange(len(self._order))
        self._order[place], self._order[-1] = self._order[-1], self._order[place]
        self._bytes -= self._size(self._values.pop(self._order.pop()).result())


class Sources:
    """The sources of a run; several threads may ask at once.

    Args:
        reader: gives the bytes of a source.
        decoding: how they become images.
        generator: gives whole views.
        limit: bytes of what is kept.
        reducing: whether large sources may be decoded at a fraction of their size, and viewed by the generator's
            framing, as runs do that were begun since that was possible.
    """

    def __init__(
        self, reader: Reader, decoding: DecodeSettings, generator: Generator, limit: float, *, reducing: bool = True
    ) -> None:
        self._reader, self._decoding, self._generator, self._reducing = reader, decoding, generator, reducing
        self._images: Kept[tuple[str, int], Reduced] = Kept(
            limit * _OF_IMAGES, lambda kept: BYTES_PER_PIXEL * kept.image.width * kept.image.height
        )
        self._files: Kept[str, bytes] = Kept(limit * _OF_FILES, len)
        self._views: Kept[str, Tensor] = Kept(limit * (1 - _OF_IMAGES - _OF_FILES), lambda view: view.nbytes)
        self._jpeg_sizes: dict[str, tuple[int, int] | None] = {}
        self.embeddings: Embeddings | None = None
        """Of whole views, where rows are not given these."""

    def image(self, key: str, scale: int) -> Reduced:
        """Return the source, decoded at 1 / `scale` of its size; it is shared, so nobody may change it.

        Raises:
            Unreadable: it cannot be read or decoded.
        """

        def compute() -> Reduced:
            if scale > 1:
                return decode_reduced(self._file(key), self._decoding, scale)
            image = decode(self._file(key), self._decoding)
            return Reduced(image, image.size)

        with _readable():
            return self._images.get((key, scale), compute)

    def jpeg_size(self, key: str) -> tuple[int, int] | None:
        """Return width and height of a source that may be decoded reduced; None of one that may not.

        Raises:
            Unreadable: as `image` does.
        """
        if self._reducing and key not in self._jpeg_sizes:
            with _readable():
                self._jpeg_sizes[key] = jpeg_size(self._file(key), self._decoding)
        return self._jpeg_sizes.get(key)

    def _file(self, key: str) -> bytes:
        return self._files.get(key, lambda: self._reader.read(key))

    def row(self, keys: Sequence[str]) -> RowSources:
        """Return the sources of a row; they are read when they are asked for."""
        return RowSources(self, keys)

    def view(self, key: str) -> Tensor:
        """Return the generator's whole view of the source, (3, S, S); shared, as images are.

        Raises:
            Unreadable: as `image` does.
            GeneratorError: the generator gives something else.
        """

        def compute() -> Tensor:
            framing, size, source = self._generator.framing, self._generator.encoder_size, _Source(self, key)
            if self._reducing and framing is not None and is_large(source.size, size):
                return as_view(framing.show(source))
            # A generator of one's own may change the image that it is given.
            return checked_view(self._generator.view(self.image(key, 1).image.copy()), size)

        return self._views.get(key, compute)


class RowSources(Sequence["Image"]):
    """The sources of a row in their order, decoded as far as they are used."""

    def __init__(self, sources: Sources, keys: Sequence[str]) -> None:
        self._sources, self._keys = sources, keys

    def __len__(self) -> int:
        """Return the number of sources."""
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """Return a source, decoded whole.

        Raises:
            Unreadable: it cannot be read any more.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._sources.image(self._keys[index], 1).image

    def whole_view(self, index: int) -> Tensor | None:
        """Return the generator's whole view of a source, (3, S, S) in [0, 1], which nobody may change.

        None where its embedding is computed once for all rows; then it can be.

        Raises:
            Unreadable: it cannot be read any more.
            GeneratorError: the generator gives something else.
        """
        if self._sources.embeddings is not None:
            self._sources.embeddings.ready(self._keys[index])
            return None
        return self._sources.view(self._keys[index])

    def picture(self, index: int) -> Picture:
        """Return a source of which parts are shown; what asks for them may raise `Unreadable`."""
        return _Source(self._sources, self._keys[index])


@dataclass(frozen=True, slots=True)
class _Source:
    """A source, decoded as far as the parts that are shown take."""

    sources: Sources
    key: str

    @property
    def size(self) -> tuple[int, int]:
        return self.sources.jpeg_size(self.key) or self.sources.image(self.key, 1).size

    def show(self, box: Box, size: tuple[int, int], resample: Resampling, *, alone: bool) -> Image:
        scale = 1 if self.sources.jpeg_size(self.key) is None else scale_for(box, size)
        return self.sources.image(self.key, scale).show(box, size, resample, alone=alone)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # readers of one's own raise what they like
        raise Unreadable(error) from error
