"""The ground floor: files that are replaced whole or not at all, their hashes, and parquet tables."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

# Arrow is imported by the functions that need it: finding a checkpoint hashes files, and needs none.
if TYPE_CHECKING:
    import pyarrow as pa

TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet."""
_PARTIAL = ".augcond-partial"
_UNFINISHED = ".augcond-unfinished"
_LIST = ".augcond-files.txt"
"""In a folder of `replacing_contents`: what it writes to, what lies there while that moves in, and the list of what it
wrote."""
_SUM = "# sha256 of the other lines: "
"""How its first line begins."""

logger = logging.getLogger(__name__)

_LEFTOVER_AGE = 600.0
"""Seconds since anything was written to it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes `path` at the end: readers see the old file or the new one, never a part.

    What must outlive a power cut is synced before the end. Several processes may replace one path at once: one of the
    whole files stays.

    Raises:
        OSError: the disk is full or gone; it names `path`.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except IsADirectoryError as error:
        raise IsADirectoryError(error.errno, "A folder is in its place: remove it", str(path)) from error
    except OSError as error:
        # A disk that is full does not say for which file, and the temporary name says nothing to the user.
        if error.filename is None or str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        # A full disk needs the room, and a temporary file that is not renamed is worth nothing.
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of a disk that does not say for which file, as one that is full or fails, name `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, in the way of `replacing`; it outlives a power cut.

    Raises:
        OSError: the disk is full or gone; it names `path`.
    """
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_parquet(file: IO[bytes], groups: Iterable[pa.Table]) -> None:
    """Write tables of one schema, one at least, to an open file as parquet, each as a row group of its own.

    A group is what readers read at once: Arrow counts its bytes with 32 bits, so none may hold 2 GiB in a column.
    """
    import pyarrow.parquet as pq

    groups = iter(groups)
    first = next(groups)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for group in chain([first], groups):
            writer.write_table(group)


def read_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a parquet file, one at least, each checked to be whole.

    Args:
        path: the file.
        columns: which columns, in this order; all where None.

    Raises:
        OSError: there is no such file, or it cannot be read.
        pa.ArrowException: it is no whole parquet file, or lacks a column.
    """
    import pyarrow as pa

    from augcond.unpacking import BoundedFile

    with BoundedFile(path, vouched=False) as file:
        missing = set(columns or ()) - set(file.schema_arrow.names)
        if missing:
            raise pa.ArrowInvalid(f"it has no column {', '.join(sorted(missing))}")
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=columns)
            # Bytes that changed on the disk can still be unpacked, to texts that are none.
            group.validate(full=True)
            yield group if columns is None else group.select(columns)
        if not file.num_row_groups:
            empty = file.schema_arrow.empty_table()
            yield empty if columns is None else empty.select(columns)


def is_special(path: Path) -> bool:
    """Return whether neither a file nor a folder lies at `path`, but a pipe or a device, which may never end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def links_outside(folder: Path) -> Iterator[Path]:
    """Yield the links in `folder`, at any depth, that lead to somewhere else; what they lead to is not looked into."""
    inside = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                yield path


def make_folder(folder: Path, levels: int) -> None:
    """Make `folder`, and the folders that it lies in, so many in all; what they lie in has to be there.

    A disk that is gone is not written beside, in the folder where it was mounted.

    Raises:
        FileNotFoundError: it is not.
    """
    if levels > 1:
        make_folder(folder.parent, levels - 1)
    folder.mkdir(exist_ok=True)


@contextmanager
def replacing_contents(folder: Path, *, parents: bool = False) -> Iterator[Path]:
    """Give an empty folder to write to, whose files move into `folder` once all are written.

    What was written there last time goes, and nothing else: `folder` keeps a list of it. Where writing fails or is
    stopped, what was there stays. `folder` itself may be new, a link, or where a disk is mounted; what it lies in is
    made only where `parents` says so.

    Raises:
        OSError: the disk is full or gone; it names a file, or `folder`.
    """
    new_folder = not folder.exists()
    folder.mkdir(parents=parents, exist_ok=True)
    partial, unfinished = folder / _PARTIAL, folder / _UNFINISHED
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with naming(folder):
            yield partial
            unfinished.mkdir(exist_ok=True)
            _take_in(partial, folder)
            shutil.rmtree(partial)
            unfinished.rmdir()
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if new_folder:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def is_written(folder: Path) -> bool:
    """Return whether something lies in `folder`, beside what a killed `replacing_contents` has not finished."""
    names = {path.name for path in folder.iterdir()}
    return _UNFINISHED not in names and bool(names - {_PARTIAL})


def _take_in(partial: Path, folder: Path) -> None:
    before, new = _listed(folder), set(_entries(partial))
    # Both are known as written by us if it ends in between.
    _write_list(folder, before | new)
    for entry in sorted(new):
        if (partial / entry).is_dir():
            (folder / entry).mkdir(exist_ok=True)
        else:
            (partial / entry).replace(folder / entry)
    # Only what is found there can go: the list may come from anywhere.
    for entry in sorted((before - new) & set(_entries(folder)), reverse=True):
        if (folder / entry).is_dir() and not (folder / entry).is_symlink():
            with suppress(OSError):  # somebody else's file is in it
                (folder / entry).rmdir()
        else:
            (folder / entry).unlink(missing_ok=True)
    _write_list(folder, new)


def foreign_entries(folder: Path) -> Iterator[str]:
    """Yield the paths in `folder` of all files and folders that `replacing_contents` did not write there."""
    listed = _listed(folder)
    return (entry for entry in _entries(folder) if entry not in listed)


def _entries(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in (_PARTIAL, _UNFINISHED)]
            files = [name for name in files if not name.startswith(_LIST)]
        for name in (*folders, *files):
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _listed(folder: Path) -> set[str]:
    """Return what the list in `folder` names; nothing, with a warning, where it is not what was written."""
    path = folder / _LIST
    try:
        with naming(path):
            text = "" if is_special(path) else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return set()
    except UnicodeDecodeError:
        text = ""
    head, _, entries = text.partition("\n")
    if head.startswith(_SUM):
        if head == _sum_of(entries):
            return set(entries.split("\n"))
    elif text and "\0" not in text:  # of 0.1
        return set(text.split("\n"))
    logger.warning("%s is not what augcond wrote: what lies there from before, and is not replaced, stays", path)
    return set()


def _sum_of(entries: str) -> str:
    return f"{_SUM}{hashlib.sha256(entries.encode()).hexdigest()}"


def _write_list(folder: Path, entries: set[str]) -> None:
    text = "".join(f"{entry}\n" for entry in sorted(entries))
    write_atomically(folder / _LIST, f"{_sum_of(text)}\n{text}".encode())


def _temporary_beside(path: Path) -> Path:
    """Return a name that no other process writes to, to be renamed to `path`; what killed processes left is removed."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY}"):
        # Another process may have been quicker, and a write that is under way is younger.
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
                leftover.unlink()
    return path.with_name(f"{path.name}.{uuid4().hex}{TEMPORARY}")


def user_cache() -> Path:
    """Return the user's folder of what can be made again: `AUGCOND_CACHE`, else `augcond` where caches lie.

    That is `XDG_CACHE_HOME`, or `~/.cache`.
    """
    own = os.environ.get("AUGCOND_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "augcond"


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Return what `file_sha256` does, which is asked once per process as long as the file stays as it is."""
    return _sha256_of(path, file_state(path))


@lru_cache(maxsize=1 << 20)
def _sha256_of(path: Path, state: tuple[int, ...]) -> str:
    return file_sha256(path)


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes whenever a file is written or replaced: its number, size and times."""
    found = path.stat()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
