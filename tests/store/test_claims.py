"""Who is dead, what is taken over, and how many operations it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from augcond.errors import RunLockedError
from augcond.generators import load_generator
from augcond.pipeline import assemble, generate, load_training_images, plan_for
from augcond.store import RunFolder, run_status
from augcond.store.claims import Claims, Pace
from augcond.store.operations import REAL, FileOperations
from augcond.store.pending import PendingShards
from augcond.store.workers import Place, WorkerRecord, workers_in
from tests.toy import toy_config

FAST = Pace(beat=0.05, stale=0.4, poll=0.02)

HOLDER = """
import sys, time
from pathlib import Path
from augcond.store.claims import Claims, Pace
with Claims(Path(sys.argv[1]), pace=Pace(0.05, 0.4, 0.02)) as claims:
    claims.take("00000")
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the claim on shard 0."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"taken\n"
    yield process
    process.kill()
    process.communicate()


def wait_for_claim(claims: Claims, seconds: float):
    end = time.monotonic() + seconds
    while (claim := claims.take("00000")) is None and time.monotonic() < end:
        claims.bury_dead(at_once=True)
        time.sleep(0.02)
    return claim


def test_the_claims_of_a_killed_process_are_free_at_once(tmp_path, holder):
    with Claims(tmp_path, pace=replace(FAST, stale=1e9)) as claims:
        claims.bury_dead(at_once=True)
        assert claims.take("00000") is None
        with pytest.raises(RunLockedError, match=rf"busy \(process {holder.pid} on"), claims.held("00000", "busy"):
            pass
        holder.kill()
        holder.wait()
        claims.bury_dead(at_once=True)
        assert claims.take("00000") is not None
        assert [record.worker for record in workers_in(tmp_path)] == [claims.worker]
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_process_loses_its_claims_and_comes_back_when_it_wakes_up(tmp_path, holder):
    with Claims(tmp_path, pace=FAST) as claims:
        claims.bury_dead(at_once=True)
        os.kill(holder.pid, signal.SIGSTOP)
        claim = wait_for_claim(claims, 30)
        assert claim is not None
        os.kill(holder.pid, signal.SIGCONT)
        end = time.monotonic() + 30
        while len(workers_in(tmp_path)) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert {record.place.pid for record in workers_in(tmp_path)} == {os.getpid(), holder.pid}
        assert claims.holds(claim)


def elsewhere(folder: Path, beats: int) -> None:
    """Write the file of a worker of another machine, which holds shard 0."""
    place = replace(Place.here(), host="another", pid=2**22 + 1)
    record = WorkerRecord("faraway", place, 0.0, beats)
    (folder / "faraway.worker").write_bytes(record.to_bytes())


def test_elsewhere_a_heart_that_beats_is_believed_and_one_that_stands_still_is_not(tmp_path):
    (tmp_path / "00000.claim").write_text("faraway attempt\n")
    with Claims(tmp_path, pace=FAST) as claims:
        end = time.monotonic() + 3 * FAST.stale
        for beats in range(10**6):
            elsewhere(tmp_path, beats)
            claims.bury_dead(at_once=True)
            assert claims.take("00000") is None
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        assert [record.worker for record in claims.others()] == ["faraway"]
        assert wait_for_claim(claims, 30) is not None
        assert claims.others() == []


def test_a_claim_whose_worker_has_no_file_goes_too(tmp_path):
    for content in ("gone attempt\n", ""):
        (tmp_path / "00000.claim").write_text(content)
        with Claims(tmp_path, pace=FAST) as claims:
            claims.bury_dead(at_once=True)
            assert claims.take("00000") is None
            assert wait_for_claim(claims, 30) is not None


def test_a_worker_that_dies_as_it_comes_leaves_nothing(tmp_path):
    (tmp_path / "halfway.worker").write_text('{"worker": "half')
    with Claims(tmp_path, pace=replace(FAST, stale=1e9)) as claims:
        claims.bury_dead(at_once=True)
    assert list(tmp_path.iterdir()) == []


class Counting(FileOperations):
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name):
        if not name.startswith("_") and name != "calls":
            self.calls[name] += 1
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("per_class", [6, 600])
def test_the_operations_of_a_claim_do_not_grow_with_the_number_of_shards(tmp_path, monkeypatch, per_class):
    config = toy_config(tmp_path, plan={"per_class": per_class}, engine={"shard_size": 4})
    dataset = load_training_images(config)
    plan, _ = assemble(config, dataset, plan_for(config, dataset), load_generator(config.generator))
    folder = RunFolder(config.run)
    folder.create()
    counting, looked = Counting(), []
    monkeypatch.setattr(folder, "done", lambda number, fingerprint: looked.append(number))
    with Claims(folder.locks, operations=counting) as claims:
        pending = PendingShards(folder, plan, claims)
        assert len(pending) == 2 * per_class
        pending.take()
        counting.calls.clear()
        looked.clear()
        assert pending.take().number == 1
        # Names of claims; write, publish, remove; its marker before and after.
        assert counting.calls == {"names": 1, "write": 1, "publish": 1, "remove": 1}
        assert looked == [1, 1]


def test_status_names_who_is_at_it_and_who_is_gone(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    folder = RunFolder(config.run)
    folder.marker_path(1).unlink()
    elsewhere(folder.locks, 3)
    (folder.locks / "00001.claim").write_text("faraway attempt\n")
    (folder.locks / "00002.claim").write_text("unknown attempt\n")
    status = run_status(folder)
    assert (status.pending, status.lost) == (1, ("00002",))
    (worker,) = status.workers
    assert (worker.host, worker.shards, worker.stale) == ("another", ("00001",), False)
    os.utime(folder.locks / "faraway.worker", (0, 0))
    assert run_status(folder).workers[0].stale


def test_of_several_that_publish_one_succeeds(tmp_path, monkeypatch):
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", refuse)
        path = tmp_path / f"published-{links}"
        for number in range(3):
            temporary = tmp_path / f"{number}.tmp"
            temporary.write_text(str(number))
            assert REAL.publish(temporary, path) == (number == 0)
        assert path.read_text() == "0"


def refuse(*_: object) -> None:
    raise OSError(95, "Operation not supported")


def test_nobody_waits_for_a_folder_that_is_gone(tmp_path):
    with Claims(tmp_path / "locks") as claims:
        (tmp_path / "locks").rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError), claims.held("plan"):
            pytest.fail("it was claimed")
    assert not (tmp_path / "locks").exists()


def test_what_ends_a_command_is_said_and_not_that_its_claim_cannot_be_given_back(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error", "locks")

    with Claims(tmp_path / "locks") as claims:
        with pytest.raises(OSError, match="No space"), claims.held("plan"):
            monkeypatch.setattr(claims, "_take_back", broken)
            raise OSError(28, "No space left on device", "shard")
        monkeypatch.undo()
    assert list((tmp_path / "locks").iterdir()) == []


class Interrupted(FileOperations):
    """Operations of which the main thread's `nth` is interrupted, before or after it is done."""

    def __init__(self, nth: int, *, done: bool) -> None:
        self.left, self.done = nth, done

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def operation(*arguments, **more):
            self.left -= 1
            if self.left or self.done:
                result = found(*arguments, **more)
            if not self.left:
                raise KeyboardInterrupt
            return result

        return operation


@pytest.mark.parametrize("done", [False, True])
def test_an_interrupt_at_any_operation_leaves_nothing_but_a_dead_worker(tmp_path, done):
    left = []
    for nth in range(2, 100):
        folder, operations = tmp_path / str(nth), Interrupted(nth, done=done)
        try:
            with Claims(folder, operations=operations) as claims, claims.held("00000"):
                claims.take("00001")
        except KeyboardInterrupt:
            left.append(sorted(path.name for path in folder.iterdir()))
        else:
            break
    assert len(left) > 6
    # Only as it ends anyway is a worker not unregistered; then it is found dead, and what it left is cleared away.
    assert [names for names in left if names and not any(name.endswith(".worker") for name in names)] == []
