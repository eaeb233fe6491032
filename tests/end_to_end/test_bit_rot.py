"""Shards that are not what was committed: what reads them says so, and takes nothing from them."""

from __future__ import annotations

import os
import shutil

import pytest

from augcond.errors import CorruptRunError
from augcond.pipeline import generate, train
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder, audit_run, export_run
from augcond.store.commit import read_marker
from augcond.store.shards import shard_rows
from tests.tampering import rewrite_json
from tests.toy import shard_bytes
from tests.training.toys import toy_run

READERS = {
    "train": lambda config, _: train(config),
    "export": lambda config, to: export_run(RunFolder(config.run), to, "imagefolder"),
    "report": lambda config, _: write_report(RunFolder(config.run), ReportSettings(pictures=10)),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The config of a run that is generated, and what its shards were."""
    training = {"seeds": 1, "steps": 2, "arms": [{"name": "mixup", "recipe": "mixup"}]}
    config = toy_run(tmp_path_factory.mktemp("original"), plan={"per_class": 2}, training=training)
    generate(config)
    return config, shard_bytes(config.run)


@pytest.fixture
def rotten(original, tmp_path):
    """The config of a copy of it, in whose shard 0 a bit of an image is another; sizes and times are as they were."""
    config, _ = original
    shutil.copytree(config.run, tmp_path / "run")
    path = RunFolder(tmp_path / "run").shard_path(0)
    state = path.stat()
    data = bytearray(path.read_bytes())
    image = next(shard_rows(path, ("image",)))["image"]["bytes"]
    # Within the pixels: the file stays a parquet file, and the image a PNG or nearly one.
    data[data.find(image[:60]) + 50] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return config.model_copy(update={"run": tmp_path / "run"})


@pytest.mark.parametrize("reader", READERS)
def test_what_reads_images_refuses_a_changed_shard_and_generate_makes_it_anew(rotten, original, tmp_path, reader):
    folder = RunFolder(rotten.run)
    assert generate(rotten).shards == 0  # it reads markers only
    with pytest.raises(
        CorruptRunError, match=r"00000\.parquet .*not what was committed.*augcond generate makes it anew"
    ):
        READERS[reader](rotten, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert folder.unfit_path(0).exists()
    assert any("00000.unfit.json" in problem for problem in audit_run(folder).problems)
    assert generate(rotten).shards == 1
    assert shard_bytes(rotten.run) == original[1]
    assert audit_run(folder).problems == ()
    READERS[reader](rotten, tmp_path / "out")


def test_no_row_of_a_changed_shard_is_taken_over(rotten, original, tmp_path, caplog):
    again = rotten.model_copy(update={"run": tmp_path / "again"})
    generate(again, reuse=[rotten.run])
    assert "00000.parquet: not what was committed; none of its rows is taken" in caplog.text
    markers = RunFolder(again.run).verified_markers(RunFolder(again.run).read_plan())
    assert [marker.notes != () for marker in markers] == [False] + [True] * (len(markers) - 1)
    assert images(again.run) == images(original[0].run)


def test_retrying_failed_rows_keeps_no_row_of_a_changed_shard(rotten, original, caplog):
    folder = RunFolder(rotten.run)
    marker = folder.marker_path(0)
    # As if one row had failed: a marker that asks to be retried.
    rewrite_json(marker, ok=read_marker(marker).ok - 1, failed=1, reasons={"made to fail": 1})
    assert generate(rotten, retry_failed=True).shards == 1
    assert "none of its rows is taken" in caplog.text
    assert images(rotten.run) == images(original[0].run)


def test_where_nothing_can_be_written_the_way_out_is_named(rotten, monkeypatch):
    folder = RunFolder(rotten.run)
    monkeypatch.setattr(type(folder.path), "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(CorruptRunError, match=r"Delete it there, and augcond generate makes it anew"):
        folder.verified_markers(folder.read_plan())


def test_a_shard_that_was_made_anew_meanwhile_is_not_refused(rotten, original, monkeypatch):
    folder = RunFolder(rotten.run)
    plan = folder.read_plan()
    intact = RunFolder.is_intact

    def makes_it_anew(self, number, marker):
        found = intact(self, number, marker)
        folder.shard_path(number).write_bytes(original[1][folder.shard_path(number).name])
        return found

    monkeypatch.setattr(RunFolder, "is_intact", makes_it_anew)
    assert len(folder.verified_markers(plan)) == len(plan.fingerprints)
    assert folder.marker_path(0).exists()


def images(run):
    folder = RunFolder(run)
    plan = folder.read_plan()
    return [list(shard_rows(folder.shard_path(n), ("key", "image"))) for n in range(len(plan.fingerprints))]
