"""An operating-system lock on a unit of the evidence; SIGKILL and power cuts release it."""

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
