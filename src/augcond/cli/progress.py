"""Progress on a terminal: a live bar, or plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from augcond.progress import format_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

PLAIN_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


class ConsoleProgress:
    """Rate, time left and failures so far, on `console`: a context manager and a `Progress`."""

    def __init__(self, console: Console, what: str = "images") -> None:
        self._console = console
        self._own = self._what = what
        self._total = self._made = self._failed = self._at_first = 0
        self._started = self._first = self._last_line = 0.0
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
        self._at_first = 0
        self._started = self._first = self._last_line = time.monotonic()
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
        if not self._made:
            self._at_first, self._first = made, time.monotonic()
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

    def _per_second(self) -> float:
        """Return the items per second since the first were done: before them something else is made ready."""
        now, since, made = time.monotonic(), self._first, self._made - self._at_first
        if not made or self._made == self._total:
            since, made = self._started, self._made
        return made / max(now - since, 1e-9)

    def _rate(self) -> str:
        return f"{self._per_second():,.1f}/s"

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        left = (self._total - self._made) / self._per_second()
        failures = f", {self._failed:,} failed" if self._failed else ""
        self._console.print(
            f"{self._made:,}/{self._total:,} {self._what}, {self._rate()}, {format_seconds(left)} left{failures}",
            highlight=False,
            soft_wrap=True,
        )
