"""The file system that a run lies on: what commits and claims rely on."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from augcond.experiments.doctor.findings import Finding, Subject
from augcond.files import replacing, sync_folder
from augcond.progress import format_bytes
from augcond.store.operations import REAL

_REPLACEMENTS = 200
_RACES = 50
_RACERS = 8
_SYNCS = 10
_SHARED = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "9p", "virtiofs", "afs")
_ELSEWHERE = "put the run on another file system, and move it afterwards: a run is where it lies"
_LOCK = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""
"""What another process does; 3: the lock is held."""


def look_at_folder(subject: Subject) -> Finding:
    """Whether it can be written, how long it takes until something outlives a power cut, and the space."""
    kind, options = mounted(subject.near)
    free = shutil.disk_usage(subject.near).free
    measured = {"path": str(subject.near), "kind": kind, "options": options, "free_bytes": free}
    folder = _scratch(subject)
    started = time.perf_counter()
    for number in range(_SYNCS):
        with (folder / f"synced-{number}").open("xb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    each = (time.perf_counter() - started) / _SYNCS
    shared = kind in _SHARED or kind.startswith("fuse")
    about = f"{subject.near} is on {kind}{' (shared or remote)' if shared else ''}, {format_bytes(free)} free"
    return Finding(
        "ok", f"{about}; a file is safe after {1000 * each:.1f} ms", measured=measured | {"sync_seconds": each}
    )


def mounted(path: Path) -> tuple[str, str]:
    """Return the kind of file system that `path` lies on and its options; `unknown` where the system does not tell."""
    found, longest = ("unknown", ""), -1
    path = path.resolve()
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, place, kind, options, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if path.is_relative_to(place) and len(place) >= longest:
                found, longest = (kind, options), len(place)
    return found


def look_at_renames(subject: Subject) -> Finding:
    """Whether a file that is replaced is always there, whole: the old one or the new one."""
    path = _scratch(subject) / "replaced"
    contents = {bytes([letter]) * 4096 for letter in (65, 66)}
    path.write_bytes(min(contents))
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set() and not wrong:
            try:
                found = path.read_bytes()
            except OSError as error:
                wrong.append(f"it was gone for a moment ({error.strerror})")
            else:
                if found not in contents:
                    wrong.append(f"{len(found)} bytes of it were neither the old nor the new")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(_REPLACEMENTS):
            with replacing(path) as temporary:
                temporary.write_bytes(sorted(contents)[number % 2])
    finally:
        done.set()
        reader.join()
    if wrong:
        return Finding("failed", f"while a file was replaced by rename, {wrong[0]}", _ELSEWHERE)
    return Finding("ok", f"{_REPLACEMENTS} replacements by rename, and whoever read saw a whole file")


def look_at_publishing(subject: Subject) -> Finding:
    """Whether of all who publish a file at one name, as claims and markers are, exactly one succeeds."""
    folder = _scratch(subject)
    won = [0] * _RACES
    errors: list[OSError] = []
    start, lock = threading.Barrier(_RACERS), threading.Lock()

    def race(racer: int) -> None:
        for number in range(_RACES):
            own, path = folder / f"raced-{number}-{racer}", folder / f"raced-{number}"
            REAL.write(own, b"published", durable=False)
            start.wait()
            if REAL.publish(own, path):
                with lock:
                    won[number] += 1

    def racing(racer: int) -> None:
        try:
            race(racer)
        except threading.BrokenBarrierError:
            pass
        except OSError as error:
            errors.append(error)
            start.abort()

    racers = [threading.Thread(target=racing, args=(racer,)) for racer in range(_RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    if errors:
        raise errors[0]
    (folder / "one").touch()
    links = REAL.link(folder / "one", folder / "other")
    how = "by hard links" if links else "by exclusive creation, as there are no hard links"
    if won != [1] * _RACES:
        wrong = sum(count != 1 for count in won)
        detail = f"{wrong} of {_RACES} files were not published by exactly one of {_RACERS} ({how})"
        return Finding("failed", detail, _ELSEWHERE, {"links": links})
    detail = f"{_RACES} files, each published by exactly one of {_RACERS} of this machine that tried ({how})"
    return Finding("ok", detail, measured={"links": links})


def look_at_flock(subject: Subject) -> Finding:
    """Whether flock is there, and keeps another process of this machine out."""
    path = _scratch(subject) / "locked"
    advice = (
        "nothing has to be done: claims go by their heartbeat then, so that the shard of a worker that was killed is "
        "taken over a little later"
    )
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            return Finding("failed", f"flock does not work there: {error.strerror} ({name})", advice)
        held = _tries(path)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        free = _tries(path)
    finally:
        os.close(descriptor)
    if not held:
        return Finding("failed", "flock says yes to two processes at once", advice)
    if free:
        return Finding("failed", "flock still keeps others out after it was given back", advice)
    return Finding("ok", "flock keeps other processes of this machine out; between machines it is never relied upon")


def _tries(path: Path) -> bool:
    """Return whether another process finds the file locked."""
    done = subprocess.run([sys.executable, "-S", "-c", _LOCK, str(path)], capture_output=True, timeout=60)  # noqa: S603
    if done.returncode not in (0, 3):
        raise OSError(f"another process could not try: {done.stderr.decode(errors='replace')[-200:]}")
    return done.returncode == 3


def _scratch(subject: Subject) -> Path:
    """Return the folder to try things in.

    Raises:
        OSError: none can be made.
    """
    if subject.scratch is None:
        raise PermissionError(errno.EACCES, "no folder can be made there", str(subject.near))
    return subject.scratch
