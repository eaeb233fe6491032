"""Operating-system locks of a run folder; SIGKILL and power cuts release them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from augcond.errors import RunLockedError


@contextmanager
def exclusive(path: Path, complaint: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made where it is missing.

    Args:
        path: the lock file.
        complaint: message of the error where another process holds the lock; where None, wait for it.

    Raises:
        RunLockedError: another process holds the lock, and `complaint` is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if complaint else 0))
        except BlockingIOError:
            raise RunLockedError(complaint) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def part_lock(folder: Path, part: int, parts: int) -> Iterator[None]:
    """Hold the lock on part `part` of `parts` of the run whose locks lie in `folder`.

    Raises:
        RunLockedError: another process works on this part, or others have cut the run into another number of parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _agree_on_parts(folder / "parts.lock", parts),
        exclusive(
            folder / f"part-{part}-of-{parts}.lock",
            f"another process works on part {part}/{parts} of {folder.parent}: wait for it, or take another part "
            "with --part i/n",
        ),
    ):
        yield


@contextmanager
def _agree_on_parts(path: Path, parts: int) -> Iterator[None]:
    """Hold a shared lock on `path`, which holds the number of parts while anyone works.

    Shards are dealt out by their number modulo the number of parts, so two numbers at once would collide.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(parts).encode(), 0)
        except BlockingIOError:
            pass  # Others work here already: what they wrote is compared below.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        agreed = os.pread(descriptor, 32, 0).decode()
        if agreed != str(parts):
            raise RunLockedError(
                f"other processes work on {path.parent.parent} in {agreed} parts: use --part i/{agreed}, or wait"
            )
        yield
    finally:
        os.close(descriptor)
