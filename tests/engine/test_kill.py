"""SIGKILL at every moment of a job: after resuming, the shards are those of an uninterrupted run, byte for byte."""

from __future__ import annotations

import shutil

import pytest

from augcond.store import RunFolder, audit_run
from tests.engine.killing import KILLED, generate_alone, generate_and_kill
from tests.toy import shard_bytes, toy_config

SECTIONS = {"plan": {"per_class": 4}, "engine": {"shard_size": 16, "batch_size": 6}}  # 32 rows, 2 shards, 6 batches


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    config = toy_config(tmp_path_factory.mktemp("whole"), **SECTIONS)
    assert generate_alone(config) == 0
    return config


def assert_resumes(config, uninterrupted) -> None:
    assert generate_alone(config) == 0
    assert shard_bytes(config.run) == shard_bytes(uninterrupted.run)
    audit = audit_run(RunFolder(config.run))
    assert (audit.problems, audit.shards_left, audit.ok) == ((), 0, 32)
    assert not list(config.run.rglob("*.tmp"))
    assert not list((config.run / "locks").iterdir())


@pytest.mark.parametrize("nth", range(1, 7))
def test_kill_after_every_batch(tmp_path, uninterrupted, nth):
    shutil.copytree(uninterrupted.data.path, tmp_path / "photos")
    config = toy_config(tmp_path, **SECTIONS)
    assert generate_and_kill(config, "batch", nth, after=True) == KILLED
    assert_resumes(config, uninterrupted)


COUNTS = {"write": 4, "rename": 11, "link": 9}


# The calls of one job: what decoding found, config, sources and plan are written first, then shard and marker of each
# of two shards. What is linked are claims (`plan` thrice), shards, markers; renamed, too, are claims given back.
@pytest.mark.parametrize(
    ("point", "nth", "after"),
    [
        *((point, n, after) for point, count in COUNTS.items() for n in range(1, count + 1) for after in (False, True)),
        # What comes after a sync is a rename or a link, or the next sync.
        *(("fsync", n, False) for n in range(1, 21)),
    ],
)
def test_kill_at_every_step_of_a_commit(tmp_path, uninterrupted, point, nth, after):
    shutil.copytree(uninterrupted.data.path, tmp_path / "photos")
    config = toy_config(tmp_path, **SECTIONS)
    code = generate_and_kill(config, point, nth, after=after)
    assert code == KILLED, f"the job makes fewer than {nth} calls of {point}"
    assert_resumes(config, uninterrupted)


# Rows are readied up to two batches ahead, and images encoded while the next batch is made.
@pytest.mark.parametrize(
    ("point", "nth", "threads"),
    [
        ("prepare", 1, 1),
        ("prepare", 14, 2),
        ("prepare", 20, 8),
        ("encode", 3, 8),
        ("encode", 17, 1),
        ("encode", 32, 2),
    ],
)
def test_kill_in_a_feeding_thread(tmp_path, uninterrupted, point, nth, threads):
    shutil.copytree(uninterrupted.data.path, tmp_path / "photos")
    config = toy_config(tmp_path, **SECTIONS | {"engine": {**SECTIONS["engine"], "feeding_threads": threads}})
    assert generate_and_kill(config, point, nth) == KILLED
    assert_resumes(config, uninterrupted)


@pytest.mark.parametrize("after", [False, True])
def test_kill_as_embeddings_are_kept(tmp_path, uninterrupted, after):
    shutil.copytree(uninterrupted.data.path, tmp_path / "photos")
    config = toy_config(tmp_path, **SECTIONS)
    assert generate_and_kill(config, "embedding", 1, after=after) == KILLED
    assert_resumes(config, uninterrupted)


def test_killed_again_and_again(tmp_path, uninterrupted):
    shutil.copytree(uninterrupted.data.path, tmp_path / "photos")
    config = toy_config(tmp_path, **SECTIONS)
    for point in ("write", "rename", "batch", "fsync"):
        assert generate_and_kill(config, point, 2) == KILLED
    assert_resumes(config, uninterrupted)
