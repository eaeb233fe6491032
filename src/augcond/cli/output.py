"""What commands print: text and JSON to standard output, progress and notes to standard error."""

from __future__ import annotations

import json
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
    """Print `value` for scripts."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


@contextmanager
def logged(config: RunConfig) -> Iterator[None]:
    """Make the run's folder, and append to its log what happens."""
    from augcond.progress import log_to
    from augcond.store import RunFolder

    folder = RunFolder(config.run)
    folder.create()
    with log_to(folder.log_path):
        yield
