"""The ground floor: files that are replaced whole or not at all, their hashes, and parquet tables."""

from __future__ import annotations

import glob
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY = ".tmp"


_LEFTOVER_AGE = 600.0
"""Seconds since anything was written to it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that readers see the old file or the new one, never a part, even after a crash.

    Several processes may write one path at once: one of the whole files stays.

    Raises:
        OSError: the disk is full or gone; it names `path`.
    """
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # A disk that is full does not say for which file.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` to `path` as parquet, in the way of `write_atomically`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue())


def temporary_beside(path: Path) -> Path:
    """Return a name that no other process writes to, to be renamed to `path`; what killed processes left is removed."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY}"):
        # Another process may have been quicker, and a write that is under way is younger.
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
                leftover.unlink()
    return path.with_name(f"{path.name}.{uuid4().hex}{TEMPORARY}")


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
