"""Readers of files on disk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


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
            OSError: the file cannot be read, or is a pipe or device, from which reading might never return.
        """
        path = self.root / key
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(f"{path} is not a regular file")
        return path.read_bytes()

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return size in bytes and time of change in ns; None where the file cannot be looked at."""
        try:
            result = (self.root / key).stat()
        except OSError:
            return None
        return result.st_size, result.st_mtime_ns
