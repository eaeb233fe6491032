"""Show how far the work is: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


class ConsoleProgress:
    """Rate, time left and failures so far, on `console`.

    A context manager; implements `augcond.engine.Progress`.
    """

    def __init__(self, console: Console, what: str = "images") -> None:
        self._console = console
        self._what = what
        self._total = self._made = self._failed = 0
        self._started = self._last_line = 0.0
        self._bar: Progress | None = None

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._made:
            self._print_line()

    def start(self, total: int) -> None:
        """Begin with `total` items to do."""
        self._total, self._made, self._failed = total, 0, 0
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal and total:
            self._bar = Progress(
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
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._print_line()

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` items are finished, for stages that count themselves."""
        if self._total != total:
            self.start(total)
        self.advance(done - self._made, 0)

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
