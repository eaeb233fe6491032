"""Commands that run in forks of `tests.faults.host`, and what befalls them."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

USUAL = {"beat": 5.0, "stale": 60.0, "poll": 0.05}
HURRIED = {"beat": 0.1, "stale": 0.6, "poll": 0.05}
"""Paces of workers; at the second one they are taken for dead within a second."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under what a command runs.

    Attributes:
        befalls: what happens at which call that changes files, and its value; see `preload.c`.
        limits: of the system, by name; `RLIMIT_AS` in bytes beyond what the process has.
        locks: what flock answers: an errno, 0 for all; None as it is.
        pace: see `augcond.store.claims.Pace`.
    """

    befalls: tuple[str, int, int] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    locks: int | None = None
    pace: Mapping[str, float] = field(default_factory=lambda: USUAL)


NORMAL = Circumstances()
COUNTED = Circumstances(("-", 0, 0))


@dataclass(slots=True)
class Running:
    """A command that was started.

    Attributes:
        arguments: what it was called with.
        output: where what it says is written.
        pid: of its process; None until it is there.
        code: its exit code; None until it has ended.
    """

    arguments: tuple[str, ...]
    output: Path
    pid: int | None = None
    code: int | None = None

    @property
    def said(self) -> str:
        """What it has written to standard output and error."""
        return self.output.read_text(errors="replace").partition("\ncalls ")[0]

    @property
    def calls(self) -> int:
        """How many calls that change files it made, where they were counted."""
        return int(self.output.read_text(errors="replace").rpartition("\ncalls ")[2])

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None and self.code is None:
            os.kill(self.pid, number)


class Host:
    """Starts commands; see `tests.faults.host`.

    Args:
        folder: where what they say is kept.
        environment: variables of all of them.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder, self._unread = folder, b""
        self._commands: dict[str, Running] = {}
        self._numbers = itertools.count()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "LD_PRELOAD": str(preloaded(folder)),
                "AUGCOND_CACHE": str(folder / "cache"),
                **(environment or {}),
            },
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for command in self._commands.values():
            command.send(signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        self._selector.close()

    def start(self, folder: Path, *arguments: str, under: Circumstances = NORMAL) -> Running:
        """Start `augcond ARGUMENTS` in a folder."""
        number = str(next(self._numbers))
        command = self._commands[number] = Running(arguments, self.folder / f"{number}.txt")
        command.output.touch()  # one that is killed before it opens it has said nothing
        order = {
            "id": number,
            "arguments": arguments,
            "folder": str(folder),
            "output": str(command.output),
            "befalls": under.befalls,
            "limits": dict(under.limits),
            "locks": under.locks,
            "pace": dict(under.pace),
        }
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return command

    def listen(self, seconds: float) -> None:
        """Hear of what starts and ends, for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._hear(left)

    def _hear(self, seconds: float) -> None:
        if not self._selector.select(seconds):
            return
        read = os.read(self.process.stdout.fileno(), 65536)
        assert read, "the host has died"
        *lines, self._unread = (self._unread + read).split(b"\n")
        for what, *rest in (line.decode().split() for line in lines):
            if what == "started":
                self._commands[rest[0]].pid = int(rest[1])
            elif what == "ended":
                self._commands[rest[0]].code = int(rest[1])

    def wait(self, *commands: Running, seconds: float = 240) -> None:
        """Wait until commands have ended, for so long at most."""
        end = time.monotonic() + seconds
        while any(command.code is None for command in commands):
            assert time.monotonic() < end, [(command.arguments, command.said) for command in commands]
            self._hear(0.5)

    def run(self, folder: Path, *arguments: str, under: Circumstances = NORMAL) -> Running:
        """Start a command, and wait for its end; see `start`."""
        command = self.start(folder, *arguments, under=under)
        self.wait(command)
        return command


def preloaded(folder: Path) -> Path:
    """Return the library of `preload.c`, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no Linux, or no C compiler to make what is preloaded with")
    library = folder / "preload.so"
    source = Path(__file__).with_name("preload.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
