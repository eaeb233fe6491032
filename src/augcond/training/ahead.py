"""What is needed next, made ahead of time in threads.

Threads, not processes: decoding, resizing and NumPy's loops let other threads run, images in memory are shared, nothing
is copied between processes, no memory of a container's /dev/shm is needed, and nothing outlives the program.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from augcond.datasets.decoding import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

AHEAD = 2
"""So many batches are under way while another is in use: while the last images of one are made, the next has begun."""


@lru_cache(maxsize=1)
def workers() -> ThreadPoolExecutor:
    """Return the threads that decode and augment, one per core; what runs in them waits for none of them."""
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="worker")


def batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` things; the last may be shorter."""
    remaining = iter(things)
    while batch := list(islice(remaining, size)):
        yield batch


class Ahead(Generic[T]):
    """Numbered things, each a function of its number alone; the next ones are made while one is in use.

    Args:
        make: gives the thing of a number; called in threads of its own, which may wait for `workers`. Given `going_on`,
            too: to be called now and then, as it raises once the thing is not wanted any more.
        count: how many there are.
        at_once: so many are under way while another is in use.
    """

    def __init__(self, make: Callable[[int, Callable[[], None]], T], count: int, at_once: int = AHEAD) -> None:
        self._make = make
        self._count = count
        self._at_once = at_once
        self._closed = Event()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="ahead", initializer=_be_counted)
        self._made: dict[int, Future[T]] = {}

    def __call__(self, number: int) -> T:
        """Return thing `number`, and begin with those behind it; what making it raised is raised here."""
        wanted = range(number, min(number + self._at_once + 1, self._count))
        for other in [made for made in self._made if made not in wanted]:
            self._made.pop(other).cancel()
        for other in wanted:
            if other not in self._made:
                self._made[other] = self._threads.submit(self._make, other, self._going_on)
        return self._made.pop(number).result()

    def close(self) -> None:
        """Drop what is not made, and return once no thread is at it any more."""
        self._closed.set()
        self._made.clear()
        self._threads.shutdown(cancel_futures=True)

    def _going_on(self) -> None:
        if self._closed.is_set():
            raise CancelledError


def _be_counted() -> None:
    """Let OpenMP know of this thread by a first parallel loop.

    With more threads than cores, GNU's OpenMP lets those of a network sleep while they wait for each other; otherwise
    they spin, on cores that are needed here: on busy ones a step of a small network took three times as long.
    """
    torch.zeros(2**17, device="cpu").add_(1)


def spread(call: Callable[[T], object], things: Iterable[T], going_on: Callable[[], None]) -> None:
    """Call `call` with each thing, in `workers`; a few at a time, so that it can end early.

    Args:
        call: what to do.
        things: with what.
        going_on: see `Ahead`.
    """
    for some in batched(things, 4 * available_cores()):
        going_on()
        for _ in workers().map(call, some):
            pass
