"""Readers of files on disk."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MOST_BYTES = 1 << 30
"""Of one image file: it is held in memory whole. A photo has some millions, the largest scans some hundred millions."""


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: it cannot be read, or has more than `MOST_BYTES`; or it is a pipe or device, from which reading might
            never return.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file")
    if found.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, "a file of more than 1 GiB", str(path))
    return path.read_bytes()


@lru_cache(maxsize=64)
def _resolved(root: Path) -> Path:
    return root.resolve()


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads files below a folder.

    Attributes:
        root: the folder that keys are relative to.
    """

    root: Path

    def file(self, key: str) -> str:
        """Return the absolute path of the file behind `key`; the links in it are followed up to `root` only."""
        return os.path.normpath(f"{_resolved(self.root)}/{key}")

    def read(self, key: str) -> bytes:
        """Return the bytes of the file `root / key`.

        Raises:
            OSError: see `read_file`.
        """
        return read_file(self.root / key)

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return size in bytes and time of change in ns; None where the file cannot be looked at."""
        try:
            result = (self.root / key).stat()
        except OSError:
            return None
        return result.st_size, result.st_mtime_ns
