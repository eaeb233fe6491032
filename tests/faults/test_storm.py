"""Four workers on one run folder, killed and replaced, while the plan grows: every row once, the bytes of one."""

from __future__ import annotations

import errno
import random
import signal

import pytest

from augcond.config import kept_text
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from tests.faults.commands import Circumstances, Host, Running
from tests.toy import shard_bytes, toy_config

WORKERS = 4
SMALL, LARGE = 12, 24
"""Images per class and recipe before and after the plan grows: 96 and 192 rows."""


class Storm:
    """Keeps so many workers alive, by killing and replacing them; of every two, one has the flock that is given.

    Args:
        host: starts them.
        locks: what flock answers half of them; None as it is.
        seed: of who is killed when.
    """

    def __init__(self, host: Host, locks: int | None, seed: int) -> None:
        self.host, self.config, self.kills = host, "", 0
        self.workers: list[Running] = []
        self.random = random.Random(seed)
        self._under = [Circumstances(pace=STORMY), Circumstances(locks=locks, pace=STORMY)]

    @property
    def alive(self) -> list[Running]:
        return [worker for worker in self.workers if worker.code is None]

    def start(self) -> None:
        """Have as many workers as there should be."""
        for _ in range(WORKERS - len(self.alive)):
            under = self._under[len(self.workers) % 2]
            self.workers.append(self.host.start(self.host.folder, "generate", self.config, under=under))

    def kill(self) -> None:
        there = [worker for worker in self.alive if worker.pid is not None]
        if there:
            self.random.choice(there).send(signal.SIGKILL)
            self.kills += 1


STORMY = {"beat": 5.0, "stale": 60.0, "poll": 0.5}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with Host(tmp_path_factory.mktemp("storm") / "said") as started:
        yield started


def config_of(root, run: str, per_class: int, images: int = 1):
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
        (errno.ENOSYS, 12, 1),
        pytest.param(None, 200, 12, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(errno.ENOSYS, 40, 3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(0, 40, 3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
    ids=["flock fails for half", "200 kills", "flock fails for half, 40 kills", "flock succeeds for half, 40 kills"],
)
def test_workers_that_are_killed_and_replaced_make_the_bytes_of_one(tmp_path, host, locks, kills, images):
    one = config_of(tmp_path, "one", SMALL, images)
    generate(one)
    generate(config_of(tmp_path, "one", LARGE, images))
    files = []
    for per_class in (SMALL, LARGE):
        files.append(tmp_path / f"{per_class}.yaml")
        files[-1].write_text(kept_text(config_of(tmp_path, "many", per_class, images)))
    run = RunFolder(tmp_path / "many")
    storm = Storm(host, locks, seed=kills)
    storm.config = str(files[0])
    while storm.kills < kills:
        if storm.kills >= kills // 3:
            storm.config = str(files[1])
        storm.start()
        host.listen(storm.random.uniform(0.1, 0.6))
        storm.kill()
    storm.start()
    host.wait(*storm.alive)
    ended = [(worker.code, worker.said) for worker in storm.workers]
    # Who was started with the smaller config, and comes to the plan when it has grown, is refused.
    assert [
        said
        for code, said in ended
        if code not in (0, -signal.SIGKILL) and not (code == 1 and "a run can grow, not shrink" in said)
    ] == []
    assert shard_bytes(run.path) == shard_bytes(one.run)
    audit = audit_run(run)
    assert (audit.problems, audit.shards_left, audit.ok) == ((), 0, 8 * LARGE * images)
    assert not list((run.path / "locks").iterdir())
    assert not list(run.path.rglob("*.tmp"))
