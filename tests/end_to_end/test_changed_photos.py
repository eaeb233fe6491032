"""A real image whose bytes changed while size and time of change stayed: nothing is made or learnt from it unseen."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from augcond.datasets import DecodeSettings, list_folder, list_images, verify
from augcond.datasets.contents import changed_images, open_image
from augcond.engine.work import Work, do_work
from augcond.errors import DatasetError
from augcond.pipeline import evaluate, generate, train
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder
from augcond.store.shards import shard_rows
from tests.datasets.photos import encode
from tests.toy import write_photos
from tests.training.toys import toy_run

TRAINING = {"seeds": 1, "steps": 2, "arms": [{"name": "mixup", "recipe": "mixup"}]}


def run_of(root, per_class=2):
    return toy_run(root, plan={"per_class": per_class}, training=TRAINING)


def other_picture(path, settled=True):
    """Put another picture of the same size in bytes at `path`; return what was there."""
    before = path.read_bytes()
    state = path.stat()
    other = encode(Image.fromarray(np.full((16, 16, 3), 77, np.uint8)), "PNG")
    path.write_bytes(other + bytes(len(before) - len(other)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns) if settled else None)
    return before


def rows(config):
    folder = RunFolder(config.run)
    paths = [folder.shard_path(number) for number in range(len(folder.read_plan().fingerprints))]
    return {
        row["key"]: row
        for path in paths
        for row in shard_rows(path, ("key", "source_keys", "status", "error", "image"))
    }


@pytest.fixture
def grown(tmp_path):
    """The config of a run of six rows that is to have more, and the path of a photo that its new rows use."""
    generate(run_of(tmp_path))
    return run_of(tmp_path, per_class=8), tmp_path / "train" / "a" / "0.png"


def test_no_row_is_made_from_a_changed_source(grown, tmp_path):
    config, photo = grown
    before = other_picture(photo)
    generate(config)
    made = rows(config)
    old = set(rows_of_first_plan(made))
    for key, row in made.items():
        uses = "a/0.png" in row["source_keys"] and key not in old
        assert (row["status"] == "failed") == uses
        assert not uses or "not those that were recorded" in row["error"]
    assert any("a/0.png" in row["source_keys"] and key not in old for key, row in made.items())
    photo.write_bytes(before)
    generate(config, retry_failed=True)
    whole = config.model_copy(update={"run": tmp_path / "whole"})
    generate(whole)
    assert {key: row["image"] for key, row in rows(config).items()} == {
        key: row["image"] for key, row in rows(whole).items()
    }


def rows_of_first_plan(made):
    """Return the keys that a plan of two images a class has."""
    return [key for key in made if int(key.split("/")[1]) < 2]


def test_a_worker_that_lists_the_images_itself_finds_it_too(tmp_path):
    config = run_of(tmp_path, per_class=4)
    generate(config)
    users = [key for key, row in rows(config).items() if "a/0.png" in row["source_keys"]]
    other_picture(tmp_path / "train" / "a" / "0.png")
    for marker in (config.run / "shards").glob("*.done.json"):
        marker.unlink()
    failed = []
    do_work(Work(config.run, config), lambda number, marker: failed.append(marker.failed))
    assert sum(failed) == len(users) > 0


def test_training_names_the_image_and_the_way_out(tmp_path):
    config = run_of(tmp_path)
    generate(config)
    before = other_picture(tmp_path / "train" / "b" / "1.png")
    with pytest.raises(
        DatasetError, match=r"real image b/1\.png: .*not those that were recorded.*Bring it back.*touch"
    ):
        train(config)
    (tmp_path / "train" / "b" / "1.png").write_bytes(before)
    train(config)


def test_evaluation_names_the_image(tmp_path):
    config = run_of(tmp_path)
    generate(config)
    train(config)
    other_picture(tmp_path / "test" / "c" / "3.png")
    with pytest.raises(DatasetError, match=r"real image c/3\.png: .*not those that were recorded"):
        evaluate(config)


def test_an_image_that_is_gone_in_between_is_named(tmp_path):
    write_photos(tmp_path, {"a": 2})
    dataset = verify(list_folder(tmp_path), DecodeSettings())
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"real image a/0\.png was found whole, .*: file not found. Bring it back"):
        open_image(dataset, "a/0.png")
    assert open_image(dataset, "a/1.png").size == (17, 24)


def test_the_report_shows_no_changed_source(tmp_path):
    config = run_of(tmp_path)
    generate(config)
    used = next(row["source_keys"][0] for row in rows(config).values() if row["source_keys"])
    other_picture(tmp_path / "train" / used)
    write_report(RunFolder(config.run), ReportSettings(pictures=10))
    page = (config.run / "report" / "index.html").read_text()
    assert "1 source images can no longer be read, or are not those that the run was made from" in page


def test_changed_images_are_told_apart(tmp_path):
    config = run_of(tmp_path)
    generate(config)
    reader = list_images(config.data).reader
    recorded = {key: sha256 for key, (_, sha256) in RunFolder(config.run).read_sources().items()}
    assert list(changed_images(reader, recorded)) == []
    other_picture(tmp_path / "train" / "a" / "0.png")
    (tmp_path / "train" / "c" / "2.png").unlink()
    assert list(changed_images(reader, recorded)) == [
        ("a/0.png", "its contents are not those that were recorded (the sha256 is another)"),
        ("c/2.png", "file not found"),
    ]
