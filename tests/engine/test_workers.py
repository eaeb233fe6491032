"""Several processes make one run: the bytes of one, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from augcond.config import kept_text
from augcond.engine import Summary, workers
from augcond.engine.rescue import FATAL
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run, claims, run_status
from augcond.store.claims import Pace
from augcond.store.shards import shard_rows
from tests.engine.killing import in_a_process, start
from tests.engine.lethal import DEADLY, EVERY, LOADERS
from tests.toy import Counted, shard_bytes, toy_config

ENGINE = {"shard_size": 8, "batch_size": 4, "threads": 1}


def rows_of(config):
    folder = RunFolder(config.run)
    numbers = range(len(folder.read_plan().fingerprints))
    columns = ("key", "image", "seed", "status", "error")
    return {row["key"]: row for number in numbers for row in shard_rows(folder.shard_path(number), columns)}


def test_several_workers_make_the_bytes_of_one_and_they_alone_load_the_weights(tmp_path, monkeypatch):
    loaders = tmp_path / "loaders"
    loaders.mkdir()
    monkeypatch.setenv(LOADERS, str(loaders))
    generator = {"name": "tests.engine.lethal:noted"}
    one = toy_config(tmp_path, engine=ENGINE, generator=generator)
    generate(one)
    assert {path.name for path in loaders.iterdir()} == {str(os.getpid())}
    (loaders / str(os.getpid())).unlink()
    several = toy_config(tmp_path, run=tmp_path / "several", engine={**ENGINE, "workers": 2}, generator=generator)
    told = Counted()
    summary = generate(several, progress=told)
    assert (summary.shards, summary.ok, told.done, told.total) == (5, 40, 40, 40)
    assert shard_bytes(several.run) == shard_bytes(one.run)
    assert audit_run(RunFolder(several.run)).problems == ()
    assert not list((several.run / "locks").iterdir())
    # The one that was asked what the generator is makes shards of it, too.
    assert len(list(loaders.iterdir())) == 2
    assert str(os.getpid()) not in {path.name for path in loaders.iterdir()}
    assert generate(several).shards == 0
    assert len(list(loaders.iterdir())) == 3


def test_weights_that_cannot_be_loaded_are_said_before_anything_is_planned(tmp_path):
    config = toy_config(tmp_path, engine={"workers": 2}, generator={"name": "tests.engine.lethal:missing"})
    with pytest.raises(OSError, match="there are no weights"):
        generate(config)
    assert not RunFolder(config.run).plan_path.exists()


def test_what_two_calls_did_is_counted_together():
    first = Summary(shards=3, skipped=1, ok=20, failed=4, reasons={"broken": 3, "flat": 1}, seconds=2.0)
    later = Summary(shards=2, skipped=4, ok=10, failed=6, reasons={"flat": 6}, seconds=1.0)
    both = Summary(shards=5, skipped=1, ok=30, failed=10, reasons={"flat": 7, "broken": 3}, seconds=3.0)
    assert first.then(later) == both


@pytest.mark.slow
def test_a_row_that_kills_is_found_and_the_others_are_made(tmp_path):
    one = toy_config(tmp_path, engine=ENGINE)
    generate(one)
    config = toy_config(
        tmp_path,
        run=tmp_path / "lethal",
        engine={**ENGINE, "workers": 2},
        generator={"name": "tests.engine.lethal:lethal"},
    )
    told = Counted()
    summary = generate(config, progress=told)
    rows, whole = rows_of(config), rows_of(one)
    deadly = [key for key, row in rows.items() if row["seed"] % EVERY == DEADLY]
    assert 1 <= len(deadly) < workers.FEWEST_TO_STOP
    assert summary.reasons == {FATAL: len(deadly)}
    assert {key: row["image"] for key, row in rows.items() if row["status"] == "ok"} == {
        key: row["image"] for key, row in whole.items() if key not in deadly
    }
    assert (told.done, told.failed) == (40, len(deadly))
    assert audit_run(RunFolder(config.run)).problems == ()


def test_a_signal_ends_all_of_them_and_gives_their_claims_back(tmp_path):
    slow = {"name": "tests.engine.lethal:slow"}
    config = toy_config(tmp_path, engine={**ENGINE, "workers": 2}, generator=slow, plan={"per_class": 200})
    file = tmp_path / "config.yaml"
    file.write_text(kept_text(config))
    process = subprocess.Popen([sys.executable, "-m", "augcond", "generate", str(file)], stderr=subprocess.PIPE)
    folder = RunFolder(config.run)
    while process.poll() is None:
        # One may have made some shards before the other is there.
        if folder.plan_path.exists() and len((status := run_status(folder)).working) == 2 and status.shards_done:
            break
        time.sleep(0.05)
    assert {worker.device for worker in status.workers} == {"cpu"}
    assert status.pending == status.shards - status.shards_done > 0
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert said.decode().count("stopped by SIGUSR1") == 1
    assert not list(folder.locks.iterdir())
    assert not list(folder.shards.glob("*.tmp"))


def impatient(config) -> None:
    """Run `generate`, and believe who does not show that it lives for a second dead."""
    claims.PACE = Pace(beat=0.1, stale=1.0, poll=0.05)
    generate(config)


def test_a_worker_that_was_stopped_for_long_and_wakes_up_harms_nothing(tmp_path):
    one = toy_config(tmp_path, engine=ENGINE)
    generate(one)
    slow = {"name": "tests.engine.lethal:slow"}
    config = toy_config(tmp_path, run=tmp_path / "stopped", engine=ENGINE, generator=slow)
    folder = RunFolder(config.run)
    stopped = start(impatient, config)
    while not list(folder.locks.glob("0*.claim") if folder.locks.exists() else ()):
        time.sleep(0.01)
    os.kill(stopped.pid, signal.SIGSTOP)
    assert in_a_process(impatient, config) == 0
    made = shard_bytes(config.run)
    assert made == shard_bytes(one.run)
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.join(60)
    assert stopped.exitcode == 0
    assert shard_bytes(config.run) == made
    assert audit_run(folder).problems == ()
    assert not list(folder.locks.iterdir())


@pytest.mark.parametrize(
    ("shown", "count", "devices"),
    [
        (None, 3, ["0", "1", "0"]),
        ("5,GPU-7", 2, ["5", "GPU-7"]),
        ("3", 2, ["3", "3"]),
    ],
)
def test_devices_are_those_that_are_shown(monkeypatch, shown, count, devices):
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 2 if shown is None else len(shown.split(",")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert workers.visible_devices(count) == devices


def test_one_per_device_and_the_cores_shared_out(tmp_path, monkeypatch):
    config = toy_config(tmp_path)
    assert workers.worker_count(config) == max(1, workers.torch.cuda.device_count())
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(workers, "available_cores", lambda: 64)
    assert workers.worker_count(config) == 8
    assert [workers.threads_of(config, count) for count in (1, 8, 100)] == [None, 8, 1]
