"""How far the work is: what stages tell. How it is shown is up to who listens (on a terminal: `cli/progress.py`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from augcond.errors import RunError


class Progress(Protocol):
    """Is told how far the work is."""

    def start(self, total: int, what: str | None = None) -> None:
        """`total` items are to be done; `what` says what they are where they are not the stage's own."""
        ...

    def advance(self, made: int, failed: int) -> None:
        """`made` more items are finished, `failed` of them without a result."""
        ...


class NoProgress:
    """Tells nobody."""

    def start(self, total: int, what: str | None = None) -> None:
        """Do nothing."""

    def advance(self, made: int, failed: int) -> None:
        """Do nothing."""


class Interrupted:
    """A stage's progress that other work, such as decoding, may interrupt; afterwards what is left is begun anew.

    Args:
        progress: is told of both.

    Attributes:
        between: is told of the other work, by what it is; all of its items have to be told of.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._left = 0
        self._what: str | None = None
        self.between: Progress = _Between(progress, self._go_on)

    def start(self, total: int, what: str | None = None) -> None:
        """`total` items are to be done; see `Progress`."""
        self._left, self._what = total, what
        self._progress.start(total, what)

    def advance(self, made: int, failed: int) -> None:
        """`made` more items are finished; see `Progress`."""
        self._left -= made
        self._progress.advance(made, failed)

    def _go_on(self) -> None:
        self._progress.start(self._left, self._what)


class _Between:
    def __init__(self, progress: Progress, finished: Callable[[], None]) -> None:
        self._progress = progress
        self._finished = finished
        self._left = 0

    def start(self, total: int, what: str | None = None) -> None:
        self._left = total
        self._progress.start(total, what)

    def advance(self, made: int, failed: int) -> None:
        self._left -= made
        self._progress.advance(made, failed)
        if not self._left:
            self._finished()


Stage = Callable[[str], AbstractContextManager[Progress]]
"""Given the name of a stage's items, returns what is told how far the stage is."""


def no_stage(what: str) -> AbstractContextManager[Progress]:
    """Return what tells nobody how far a stage is: a `Stage`."""
    return nullcontext(NoProgress())


def format_seconds(seconds: float) -> str:
    """Return a duration for people, such as `3 d 4 h`, `2 h 05 min`, `1 min 30 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def format_bytes(count: float) -> str:
    """Return a size for people, such as `3.2 GB`; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Go on without a line: a full disk must not stop, or clutter, what the log is of."""

    def close(self) -> None:
        """Close the file, for which there may be no room either."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what augcond logs to the file `path`, whose folder is there."""
    root = logging.getLogger("augcond")
    if path.is_fifo():
        # Who opens a pipe to write to it waits for a reader.
        raise RunError(f"{path} is no file: remove it, and augcond begins one there")
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
