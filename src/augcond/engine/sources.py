"""Source images as rows use them, decoded once for as long as memory allows: a source serves tens to hundreds of rows.

What is kept here is a function of the source alone, so that it never shows in an image whether it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from augcond.conditioning.returned import checked_view
from augcond.datasets import DecodeSettings, Reader, decode

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from augcond.generators import Generator

T = TypeVar("T")

_OF_IMAGES = 2 / 3
"""Share of the memory that decoded images get; the rest is for views, which are a hundred times smaller."""

BYTES_PER_PIXEL = 4
"""Of an RGB image in Pillow."""


class Unreadable(Exception):
    """A source could not be read or decoded when a recipe asked for it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class Kept(Generic[T]):
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
        self._values: dict[str, Future[T]] = {}
        self._order: list[str] = []  # of the values that are there
        self._bytes = 0
        self._chance = Random(0)

    def __contains__(self, key: str) -> bool:
        """Return whether the value is there, or is being computed."""
        return key in self._values

    def get(self, key: str, compute: Callable[[], T]) -> T:
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
    """

    def __init__(self, reader: Reader, decoding: DecodeSettings, generator: Generator, limit: float) -> None:
        self._reader, self._decoding, self._generator = reader, decoding, generator
        self._images: Kept[Image] = Kept(limit * _OF_IMAGES, lambda image: BYTES_PER_PIXEL * image.width * image.height)
        self._views: Kept[Tensor] = Kept(limit * (1 - _OF_IMAGES), lambda view: view.nbytes)

    def image(self, key: str) -> Image:
        """Return the source, decoded; it is shared, so nobody may change it.

        Raises:
            Exception: what the reader raises, or `ImageError`.
        """
        return self._images.get(key, lambda: decode(self._reader.read(key), self._decoding))

    def row(self, keys: Sequence[str]) -> RowSources:
        """Return the sources of a row.

        Raises:
            Exception: one of them cannot be read; see `image`.
        """
        return RowSources(self, keys, {key: self.image(key) for key in dict.fromkeys(keys) if key not in self._views})

    def view(self, key: str, image: Callable[[], Image]) -> Tensor:
        """Return the generator's whole view of the source, (3, S, S); shared, as images are."""

        def compute() -> Tensor:
            # A generator of one's own may change the image that it is given.
            return checked_view(self._generator.view(image().copy()), self._generator.encoder_size)

        return self._views.get(key, compute)


class RowSources(Sequence["Image"]):
    """The sources of a row in their order; those of which only the whole view is used may never be decoded."""

    def __init__(self, sources: Sources, keys: Sequence[str], decoded: dict[str, Image]) -> None:
        self._sources, self._keys, self._decoded = sources, keys, decoded

    def __len__(self) -> int:
        """Return the number of sources."""
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """Return a source, decoded.

        Raises:
            Unreadable: it cannot be read any more.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        key = self._keys[index]
        if key not in self._decoded:
            try:
                self._decoded[key] = self._sources.image(key)
            except Exception as error:
                raise Unreadable(error) from error
        return self._decoded[key]

    def view(self, index: int) -> Tensor:
        """Return the generator's whole view of a source, (3, S, S) in [0, 1], which nobody may change.

        Raises:
            GeneratorError: the generator gives something else.
        """
        return self._sources.view(self._keys[index], lambda: self[index])
