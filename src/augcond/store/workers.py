"""What the workers of a run say of themselves, and what the system says of them."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from augcond.sealed import typed
from augcond.store.operations import REAL

WORKER = ".worker"
"""How the name of a worker's file ends."""

_RECORD_BYTES: Final = 1024
"""Of a worker file: it is written in place, always as long as before."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: what its machine can tell of it.

    Attributes:
        host: name of the machine.
        boot: identifier of its boot; empty where the system has none.
        space: namespace of its process numbers: containers have their own.
        pid: its number.
        started: when it started, as the system counts; empty where it does not say.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Place:
        """Return that of this process."""
        return _place_of(os.getpid())

    def is_alive(self) -> bool | None:
        """Return whether the system has such a process, stopped or not; None where this system cannot tell."""
        here = Place.here()
        if not self.boot or (self.host, self.boot, self.space) != (here.host, here.boot, here.space):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # of another user
        state, started = _state_of(self.pid)
        return state not in ("Z", "X") and (not started or not self.started or started == self.started)


@lru_cache(maxsize=1)
def _place_of(pid: int) -> Place:
    boot, space = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    return Place(socket.gethostname(), boot, space, pid, _state_of(pid)[1])


def _state_of(pid: int) -> tuple[str, str]:
    """Return the state and the time of start of a process, empty where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What a worker says of itself in its file.

    Attributes:
        worker: its name.
        place: where it runs.
        since: when it came, in seconds since 1970 by its own clock: to be shown, never compared.
        beats: its counter.
        images: rows that it has made.
        seconds: since it began to make them.
        device: what it makes them on.
    """

    worker: str
    place: Place
    since: float
    beats: int = 0
    images: int = 0
    seconds: float = 0.0
    device: str = ""

    def to_bytes(self) -> bytes:
        """Return the contents of its file."""
        return json.dumps(asdict(self)).encode().ljust(_RECORD_BYTES - 1) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> WorkerRecord | None:
        """Return what a worker file says; None where it is not whole."""
        try:
            return typed(cls, dict(json.loads(data)))
        except (ValueError, TypeError, RecursionError):
            return None


def workers_in(folder: Path) -> list[WorkerRecord]:
    """Return what the workers of a run say of themselves, dead ones too, the oldest first."""
    records: list[WorkerRecord] = []
    for path in folder.glob(f"*{WORKER}"):
        record = WorkerRecord.from_bytes(REAL.read(path) or b"")
        if record is not None:
            records.append(record)
    return sorted(records, key=lambda record: (record.since, record.worker))


def seconds_unheard(folder: Path, record: WorkerRecord) -> float:
    """Return how long ago a worker last wrote its file, by clocks that may differ: to be shown, not to judge by."""
    try:
        return max(0.0, time.time() - (folder / f"{record.worker}{WORKER}").stat().st_mtime)
    except FileNotFoundError:
        return 0.0
