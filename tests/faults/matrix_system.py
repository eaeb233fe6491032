"""What the system lets a process do, what it saw it do, and what lies there afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from augcond.files import TEMPORARY


@contextmanager
def without_override() -> Iterator[None]:
    """Have modes of files hold for this thread, and for those that it starts, as for anybody, if it is of root."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", 0x20080522, 0)
    kept = ctypes.create_string_buffer(24)
    if libc.capget(header, kept):
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted, inheritable, *more = struct.unpack("=6I", kept.raw)
    # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    if libc.capset(header, struct.pack("=6I", effective & ~0b110, permitted, inheritable, *more)):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, kept.raw)


class Watch:
    """Takes note of the files below a folder that anything opens, as the system tells (inotify)."""

    _OPEN: Final = 0x20
    _IS_FOLDER: Final = 0x40000000

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.opened: set[str] = set()

    def __enter__(self) -> Watch:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._names: dict[int, Path] = {}
        for parent, _, _ in os.walk(self._folder):
            number = libc.inotify_add_watch(self._descriptor, os.fsencode(parent), self._OPEN)
            if number < 0:
                continue  # a folder that nobody may open
            self._names[number] = Path(parent)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._descriptor, 2**16):
                self._note(data)
        os.close(self._descriptor)

    def _note(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            number, mask, _, length = struct.unpack_from("=iIII", data, place)
            name = data[place + 16 : place + 16 + length].rstrip(b"\0").decode()
            place += 16 + length
            if name and not mask & self._IS_FOLDER and number in self._names:
                self.opened.add((self._names[number] / name).relative_to(self._folder).as_posix())


_VOLATILE: Final = (
    "seal",
    "seconds",
    "since",
    "unheard",
    "disk",
    "bytes",
    "workers",
    "lost",
    "study_sha256",
    "file",
    "notes",
    "sha256",
)
"""Keys whose values are times and what is of them, or names of attempts."""


def contents(folder: Path) -> dict[str, str]:
    """Return what the files below a folder say, by path; times, and the names of attempts, are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or _is_passing(name):
            continue
        name = plain_name(name)
        try:
            found[name] = _content(path)
        except OSError:
            found[name] = "unreadable"
    return found


def plain_name(name: str) -> str:
    """Return what a shard that was made again is called where it was not."""
    return re.sub(r"(shards/\d{5})\.\w+\.parquet", r"\1.parquet", name)


def _is_passing(name: str) -> bool:
    return "/locks/" in name or name.endswith(("log.txt", "study.log", TEMPORARY, ".unfit.json"))


def _content(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix in (".json", ".html", ".svg", ".md", ".yaml", ".csv", ".tex"):
        with suppress(UnicodeDecodeError):
            return plain_text(data.decode())
    return data.hex() if len(data) < 2**20 else str(hash(data))


def plain_text(text: str) -> str:
    with suppress(ValueError):
        return json.dumps(_steady(json.loads(text)), sort_keys=True)
    # Pages say what the run takes on the disk.
    return re.sub(r"[\d.]+ [kMG]B\b", "so many MB", text)


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(each) for key, each in value.items() if not key.endswith(_VOLATILE)}
    return [_steady(each) for each in value] if isinstance(value, list) else value
