"""What commands print: text and JSON to standard output, progress and notes to standard error."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from augcond.cli.progress import ConsoleProgress
    from augcond.config import RunConfig


def say(stage: str) -> None:
    """Print a note that is no output."""
    typer.echo(stage, err=True)


def console(*, stderr: bool = False) -> Console:
    """Return where output goes; it prints text as it is: no markup, no emoji codes, no guessing at colours."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def show_progress(what: str) -> ConsoleProgress:
    """Return what shows how far a stage is, its items called `what`."""
    from augcond.cli.progress import ConsoleProgress

    return ConsoleProgress(console(stderr=True), what)


def print_json(value: Any) -> None:
    """Print `value` for scripts, in characters that the output can hold."""
    plain = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    text = json.dumps(value, indent=1, ensure_ascii=plain)
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file that is no text
        text = json.dumps(value, indent=1)
    typer.echo(text)


def print_anything() -> None:
    """Let the output escape what it cannot hold, such as a class called `猫` in a terminal that is not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(text: str) -> str:
    """Return `text` with control characters escaped: a file name must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def logged(config: RunConfig) -> Iterator[None]:
    """Make the run's folder, append to its log what happens, and say what was found that stops nothing."""
    from augcond.progress import log_to
    from augcond.store import RunFolder

    folder = RunFolder(config.run)
    folder.create()
    everything, handler = logging.getLogger("augcond"), _SayOnce(logging.WARNING)
    everything.addHandler(handler)
    try:
        with log_to(folder.log_path):
            yield
    finally:
        everything.removeHandler(handler)


class _SayOnce(logging.Handler):
    """Says what is logged; every stage checks anew, and finds the same."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            found = record.name.startswith("augcond.checks")
            say(f"{'look at this' if found else 'warning'}: {visible(message)}")
