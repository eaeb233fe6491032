"""Run `generate` in a process that kills itself at a chosen moment."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from augcond.config import RunConfig

# Children fork from a server that has imported everything once and runs no threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["augcond.pipeline", "augcond.testing", "augcond.conditioning.views", "datasets", "tests.engine.killing"]
)

KILLED = -signal.SIGKILL


def generate_and_kill(config: RunConfig, point: str, nth: int, *, after: bool = False) -> int:
    """Start `generate` in a process and kill it at the `nth` (from 1) call of `point`; return its exit code.

    Args:
        config: the run.
        point: `batch`, `prepare` (of a row, by a feeding thread), `encode` (of an image, by one), `embedding` (the
            file of some), `write` (of the parquet file), `fsync`, `rename`, `link` or `folder` (its fsync).
        nth: which call.
        after: kill right after the call returned rather than before it starts.
    """
    return in_a_process(_run, config, point, nth, after)


def in_a_process(function: Callable[..., None], *arguments: object) -> int:
    """Call `function` in a process of its own, and return its exit code."""
    process = start(function, *arguments)
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def start(function: Callable[..., None], *arguments: object) -> Any:
    """Call `function` in a process of its own, and return that."""
    process = _context.Process(target=function, args=arguments)
    process.start()
    return process


def generate_alone(config: RunConfig) -> int:
    """Run `generate` to its end in a process of its own."""
    return generate_and_kill(config, "batch", 10**9)


def _run(config: RunConfig, point: str, nth: int, after: bool) -> None:
    from augcond import files, pipeline
    from augcond.engine import embeddings, feeding, rows
    from augcond.store import commit, folder, operations

    counter = itertools.count(1)  # threads share it

    def killing(function):
        def wrapper(*args, **kwargs):
            call = next(counter)
            if call == nth and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if call == nth and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    if point == "batch":
        rows._Maker.make = killing(rows._Maker.make)
    elif point == "prepare":
        feeding.prepare = killing(feeding.prepare)
    elif point == "encode":
        rows.encode_image = killing(rows.encode_image)
    elif point == "embedding":
        embeddings.write_table = killing(embeddings.write_table)
    elif point == "write":
        commit.write_parquet = killing(commit.write_parquet)
        folder.write_table = killing(folder.write_table)
    elif point == "fsync":
        files.os.fsync = killing(files.os.fsync)
    elif point == "rename":
        Path.replace = killing(Path.replace)
    elif point == "folder":
        files.sync_folder = operations.sync_folder = killing(files.sync_folder)
    elif point == "link":
        files.os.link = killing(files.os.link)
    else:
        raise ValueError(point)
    pipeline.generate(config)
