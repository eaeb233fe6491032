"""Four workers on one run folder, killed and replaced, while the plan grows: every row once, the bytes of one."""

from __future__ import annotations

import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from augcond.config import kept_text
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from tests.toy import shard_bytes, toy_config

WORKERS = 4
SMALL, LARGE = 12, 24
"""Images per class and recipe before and after the plan grows: 96 and 192 rows."""


class Host:
    """Starts workers under a preloaded library; see `storm_host`."""

    def __init__(self, library: Path | None) -> None:
        environment = dict(os.environ) | ({"LD_PRELOAD": str(library)} if library else {})
        self._read = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.storm_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def lines(self) -> list[str]:
        """Return what it has said since."""
        *lines, self._read = (self._read + os.read(self.process.stdout.fileno(), 65536)).split(b"\n")
        return [line.decode() for line in lines]

    def start(self, config: Path) -> None:
        self.process.stdin.write(f"{config}\n".encode())
        self.process.stdin.flush()


class Storm:
    """Keeps so many workers alive, by killing and replacing them."""

    def __init__(self, hosts: list[Host], config: Path, seed: int) -> None:
        self.hosts, self.config, self.kills = hosts, config, 0
        self.alive: dict[int, Host] = {}
        self.failed: list[int] = []
        self._starting = dict.fromkeys(range(len(hosts)), 0)
        self._random = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        for host in hosts:
            self._selector.register(host.process.stdout, selectors.EVENT_READ, host)

    def listen(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                for line in key.data.lines():
                    what, *pid_and_code = line.split()
                    if what == "ready":
                        continue
                    pid, *code = pid_and_code
                    if what == "started":
                        self.alive[int(pid)] = key.data
                        self._starting[self.hosts.index(key.data)] -= 1
                    else:
                        self.alive.pop(int(pid), None)
                        self.failed += [int(code[0])] if code[0] not in ("0", "-9") else []

    def start(self) -> None:
        """Have every host have its share of workers."""
        for number, host in enumerate(self.hosts):
            have = sum(other is host for other in self.alive.values()) + self._starting[number]
            for _ in range(WORKERS // len(self.hosts) - have):
                self._starting[number] += 1
                host.start(self.config)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.alive:
            os.kill(self._random.choice(sorted(self.alive)), number)
            self.kills += 1


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The preloaded libraries by what flock does under them."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the preloaded flock with")
    folder = tmp_path_factory.mktemp("preload")
    source = Path(__file__).with_name("flock.c")
    for name, flags in (("fails", ["-DFAILS=ENOSYS"]), ("succeeds", [])):
        made = folder / f"{name}.so"
        subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(made), str(source)], check=True)
    return {"plain": None, "fails": folder / "fails.so", "succeeds": folder / "succeeds.so"}


def config_of(root: Path, run: str, per_class: int, images: int = 1):
    return toy_config(
        root,
        run=root / run,
        plan={"per_class": per_class * images},
        engine={"shard_size": 8, "batch_size": 4, "threads": 1},
        generator={"model": "delay=0.02"},
    )


@pytest.mark.parametrize(
    ("locks", "kills", "images"),
    [
        (("plain", "fails"), 8, 1),
        pytest.param(("plain",), 200, 12, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(("plain", "fails"), 40, 3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(("plain", "succeeds"), 40, 3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
    ids=["flock fails for half", "200 kills", "flock fails for half, 40 kills", "flock succeeds for half, 40 kills"],
)
def test_workers_that_are_killed_and_replaced_make_the_bytes_of_one(tmp_path, libraries, locks, kills, images):
    one = config_of(tmp_path, "one", SMALL, images)
    generate(one)
    generate(config_of(tmp_path, "one", LARGE, images))
    files = []
    for per_class in (SMALL, LARGE):
        files.append(tmp_path / f"{per_class}.yaml")
        files[-1].write_text(kept_text(config_of(tmp_path, "many", per_class, images)))
    run = RunFolder(tmp_path / "many")
    hosts = [Host(libraries[name]) for name in locks]
    try:
        storm = Storm(hosts, files[0], seed=kills)
        while storm.kills < kills:
            if storm.kills >= kills // 3:
                storm.config = files[1]
            storm.start()
            storm.listen(storm._random.uniform(0.1, 0.8))
            storm.kill()
        storm.start()
        deadline = time.monotonic() + 240
        while storm.alive and time.monotonic() < deadline:
            storm.listen(0.2)
    finally:
        for host in hosts:
            host.process.kill()
    said = b"".join(host.process.communicate()[1] for host in hosts).decode()
    # Who was started with the smaller config, and comes to the plan when it has grown, is refused.
    refused = said.count("a run can grow, not shrink")
    assert (storm.alive, storm.failed) == ({}, [1] * refused), said
    assert storm.kills == kills
    assert shard_bytes(run.path) == shard_bytes(one.run)
    audit = audit_run(run)
    assert (audit.problems, audit.shards_left, audit.ok) == ((), 0, 8 * LARGE * images)
    assert not list((run.path / "locks").iterdir())
    assert not list(run.path.rglob("*.tmp"))
