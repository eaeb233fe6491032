"""How far the work is: what stages tell, and a live bar on a terminal or plain lines elsewhere to show it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

PLAIN_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


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


Stage = Callable[[str], AbstractContextManager[Progress]]
"""Given the name of a stage's items, returns what is told how far the stage is."""


def no_stage(what: str) -> AbstractContextManager[Progress]:
    """Return what tells nobody how far a stage is: a `Stage`."""
    return nullcontext(NoProgress())


class ConsoleProgress:
    """Rate, time left and failures so far, on `console`: a context manager and a `Progress`."""

    def __init__(self, console: Console, what: str = "images") -> None:
        self._console = console
        self._own = self._what = what
        self._total = self._made = self._failed = 0
        self._started = self._last_line = 0.0
        self._bar: Bar | None = None

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def start(self, total: int, what: str | None = None) -> None:
        """Begin with `total` items to do, called `what` if not as those of the stage; what went before is over."""
        self._finish()
        self._total, self._made, self._failed = total, 0, 0
        self._what = what or self._own
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal and total:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn(self._what),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("left[red]{task.fields[failures]}"),
                console=self._console,
            )
            self._bar.start()
            self._bar.add_task(self._what, total=total, rate="", failures="")

    def advance(self, made: int, failed: int) -> None:
        """Count `made` more items, `failed` of them without a result."""
        self._made += made
        self._failed += failed
        if self._bar is not None:
            failures = f", {self._failed} failed" if self._failed else ""
            self._bar.update(self._bar.task_ids[0], completed=self._made, rate=self._rate(), failures=failures)
        elif self._made < self._total and time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._print_line()
        if self._made == self._total:
            self._finish()  # what comes next may print

    def _finish(self) -> None:
        """Leave the bar as it is, or say how far the work came; once."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._made:
            self._print_line()
        self._made = 0

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        return f"{self._made / seconds:,.1f}/s"

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        seconds = max(self._last_line - self._started, 1e-9)
        left = (self._total - self._made) * seconds / max(self._made, 1)
        failures = f", {self._failed:,} failed" if self._failed else ""
        self._console.print(
            f"{self._made:,}/{self._total:,} {self._what}, {self._rate()}, {format_seconds(left)} left{failures}",
            highlight=False,
            soft_wrap=True,
        )


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


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what augcond logs to the file `path`."""
    root = logging.getLogger("augcond")
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
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
