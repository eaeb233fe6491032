from __future__ import annotations

import hashlib
import shutil

import pytest

from augcond.errors import RunError, RunLockedError
from augcond.experiments.push import prepare_push
from augcond.pipeline import evaluate, generate, train
from augcond.store import RunFolder, clean_run, run_status, spare_files
from augcond.store.disk import FOREIGN
from augcond.store.names import FILES
from tests.toy import shard_bytes
from tests.training.toys import toy_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = toy_run(tmp_path_factory.mktemp("disk"), training={"steps": 2, "seeds": 1}, plan={"per_class": 2})
    generate(config)
    train(config)
    evaluate(config)
    folder = RunFolder(config.run)
    prepare_push(folder, "me/toys")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "plan.parquet.0123.tmp").write_bytes(b"half")
    (folder.path / "models" / "text" / "seed-7").mkdir(parents=True)
    (folder.path / "models" / "text" / "seed-7" / "checkpoint.safetensors").write_bytes(b"step 1")
    return config


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def digests(folder):
    return {
        path.relative_to(folder.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.path.rglob("*")
        if path.is_file()
    }


def test_status_counts_every_byte_once(made):
    folder = RunFolder(made.run)
    disk = run_status(folder).disk
    inodes = {path.stat().st_ino: path.stat().st_size for path in folder.path.rglob("*") if path.is_file()}
    assert sum(disk.values()) == sum(inodes.values())
    assert disk[FOREIGN] == len("mine")
    assert disk["shard"] == sum(len(data) for data in shard_bytes(folder.path).values())
    assert list(disk.values()) == sorted(disk.values(), reverse=True)
    # The shard that is pushed as it is has two names.
    assert disk["shard to push"] == 0


def test_what_is_cleaned_is_what_was_said_and_no_image_model_or_result(run):
    before = digests(run)
    said = [file.path.relative_to(run.path).as_posix() for file in spare_files(run)]
    assert [file.path.relative_to(run.path).as_posix() for file in clean_run(run)] == said
    assert before.keys() - digests(run).keys() == set(said)
    assert {name: digest for name, digest in before.items() if name not in said} == digests(run)
    assert {"decoded.parquet", "push/README.md", "models/text/seed-7/checkpoint.safetensors"} < set(said)
    assert "plan.parquet.0123.tmp" in said
    assert not (run.path / "push").exists()
    assert {"notes.txt", "results.json", "shards/00000.parquet", "models/text/seed-0/model.safetensors"} <= digests(
        run
    ).keys()


def test_images_are_spared_whatever_is_added_to_the_list():
    kept = (
        "shard",
        "shard made again",
        "marker",
        "plan",
        "sources",
        "config",
        "card",
        "weights",
        "predictions",
        "results",
    )
    assert not any(FILES[kind].spare for kind in kept)


def test_nothing_is_cleaned_beside_a_worker_that_lives(run):
    before = digests(run)
    with run.claims(), pytest.raises(RunLockedError, match=r"other processes work on .*: stop them first"):
        clean_run(run)
    assert digests(run) == before


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "decoded.parquet").write_text("mine")
    with pytest.raises(RunError, match="is no run"):
        clean_run(RunFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["decoded.parquet"]
