"""Shards in row groups, and the one way to read them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.errors import CorruptRunError
from augcond.pipeline import generate
from augcond.planning import PlanRow, index_of
from augcond.report.facts import read_facts
from augcond.report.sample import read_rows
from augcond.store import GenerationSettings, RunFolder, ShardRow, audit_run, export_run, shards
from augcond.store.commit import ShardFacts, commit_shard
from augcond.store.reuse import ReusableRows
from augcond.store.shards import COLUMNS, PROVENANCE, shard_columns, shard_features, shard_rows, shard_tables
from augcond.training.image_sets import synthetic_images
from augcond.training.synthetic import read_synthetic
from tests.store.test_commit import files_in, no_marker
from tests.tampering import vouch_for_shard
from tests.toy import toy_config

SETTINGS = GenerationSettings(1.0, 1, "fake:fake", "1", ".png")
FACTS = ShardFacts("fingerprint", 8, 2, (), 1.5, {})


def row(i: int, image: bytes | None) -> ShardRow:
    plan_row = PlanRow(f"a/{i}/image", 0, "a", "a", i, "image", ("a/0.jpg",), i, "p")
    return ShardRow(plan_row, image, error=None if image is not None else "constant image")


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """A shard of seven rows in groups of at most 1000 bytes of images: 2, 1 (too large a one), 3, 1 rows."""
    monkeypatch.setattr(shards, "_GROUP_BYTES", 1000)
    sizes = (500, 500, 1500, 600, None, 400, 700)
    rows = [row(i, None if size is None else bytes([i]) * size) for i, size in enumerate(sizes)]
    path = tmp_path / "00000.parquet"
    marker = commit_shard(shard_tables(rows, ("a",), SETTINGS), files_in(tmp_path), FACTS, no_marker)
    assert (marker.rows, marker.ok, marker.failed, marker.reasons) == (7, 6, 1, {"constant image": 1})
    return path


def test_rows_lie_in_groups_that_do_not_exceed_the_limit(shard):
    metadata = pq.read_metadata(shard)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [2, 1, 3, 1]
    assert shard_columns(shard, ("key",))["key"].to_pylist() == [f"a/{i}/image" for i in range(7)]


@pytest.mark.parametrize("places", [[], [0], [1, 2], [2, 3, 5, 6], list(range(7))])
def test_rows_are_read_across_groups(shard, places):
    rows = list(shard_rows(shard, ("image", "seed"), np.array(places, dtype=int)))
    assert [values["seed"] for values in rows] == places
    assert all(set(values["image"]["bytes"]) == {values["seed"]} for values in rows if values["image"])
    assert [values["seed"] for values in rows if values["image"] is None] == [4] * (4 in places)
    assert list(shard_rows(shard, ("seed",))) == [{"seed": i} for i in range(7)]


def test_wrong_uses_of_the_reader_are_named(shard):
    with pytest.raises(ValueError, match="no column colour: expected some of key, image"):
        shard_columns(shard, ("key", "colour"))
    with pytest.raises(ValueError, match="must ascend"):
        list(shard_rows(shard, ("key",), [1, 0]))
    with pytest.raises(CorruptRunError, match=r"00000\.parquet has 7 rows, not 8 at least"):
        list(shard_rows(shard, ("key",), [1, 7]))


def test_as_many_rows_as_fit_into_a_group(monkeypatch):
    monkeypatch.setattr(shards, "_GROUP_ROWS", 3)
    rows = [row(i, b"") for i in range(7)]
    assert [table.num_rows for table in shard_tables(rows, ("a",), SETTINGS)] == [3, 3, 1]


def test_columns_are_named_once():
    assert shard_features(("a",)).arrow_schema.names == list(COLUMNS)
    assert set(COLUMNS) - set(PROVENANCE) == {"image", "label", "status", "error"}


def test_the_index_of_a_key():
    assert index_of("50%25 off/12/embed-mixup") == 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with shards of one row group and of several."""
    root = tmp_path_factory.mktemp("groups")
    whole = toy_config(root, run=root / "whole")
    generate(whole)
    cut = toy_config(root, run=root / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_GROUP_BYTES", 300)
        generate(cut)
    metadata = pq.read_metadata(cut.run / "shards" / "00000.parquet")
    assert metadata.num_row_groups > 3
    return RunFolder(whole.run), RunFolder(cut.run)


def test_every_reader_reads_groups(runs, tmp_path):
    whole, cut = runs
    assert audit_run(cut).problems == ()
    for layout in ("imagefolder", "webdataset"):
        files = []
        for folder in runs:
            to = tmp_path / folder.path.name / layout
            export_run(folder, to, layout)
            files.append({path.relative_to(to): path.read_bytes() for path in to.rglob("*") if path.is_file()})
        assert files[0] == files[1]
    plan = cut.read_plan()
    rows = list(plan.plan.rows())[5:15][::-1]
    facts = cut.read_source_facts(plan.versions)
    taken, expected = (ReusableRows(plan, facts, [folder])(rows) for folder in (cut, whole))
    assert taken == expected
    assert set(taken) == {row.key for row in rows}
    sampled, expected = (list(read_rows(read_facts(folder), range(3, 20))) for folder in (cut, whole))
    assert sampled == expected
    places = np.arange(40)[::3]
    for limit in (1e9, 0):
        read, expected = (synthetic_images(read_synthetic(f), places, 16, limit) for f in (cut, whole))
        assert read.keys == expected.keys
        assert read.pixels.batch(range(len(read))).equal(expected.pixels.batch(range(len(read))))


def read_by_report(folder: RunFolder) -> None:
    list(read_rows(read_facts(folder), range(40)))


def read_by_training(folder: RunFolder) -> None:
    read_synthetic(folder)


def read_by_export(folder: RunFolder) -> None:
    export_run(folder, folder.path.parent / "out", "imagefolder")


def read_by_reuse(folder: RunFolder) -> None:
    plan = folder.read_plan()
    facts = folder.read_source_facts(plan.versions)
    ReusableRows(plan, facts, [folder])(list(plan.plan.rows()))


@pytest.mark.parametrize("read", [read_by_report, read_by_training, read_by_export, read_by_reuse])
@pytest.mark.parametrize("damage", ["footer", "pages", "foreign"])
def test_a_damaged_shard_is_named_by_every_reader(runs, tmp_path, read, damage):
    shutil.copytree(runs[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    path = folder.shard_path(1)
    size = path.stat().st_size
    if damage == "foreign":
        # As large as the marker says, so that only a reader can notice.
        pq.write_table(pa.table({"a": [1]}), path)
        with path.open("r+b") as file:
            data = file.read()
            file.seek(0)
            file.write(b"PAR1" + bytes(size - len(data)) + data[4:])
    else:
        data = bytearray(path.read_bytes())
        place = slice(size - 8, size - 4) if damage == "footer" else slice(4, 400)
        data[place] = bytes(byte ^ 0xFF for byte in data[place])
        path.write_bytes(data)
    assert path.stat().st_size == size
    # As if it had been committed so: what differs from its marker is not even opened.
    vouch_for_shard(folder, 1)
    with pytest.raises(CorruptRunError, match=r"00001\.parquet cannot be read.*run augcond generate again"):
        read(folder)
    assert any("00001.parquet cannot be read" in problem for problem in audit_run(folder).problems)


ROWS, BYTES = 2200, 1_000_000
MEMORY = 8 * 2**30


def write_and_read_a_large_shard(folder: Path) -> None:
    """Do what augcond and its README do with a shard of 2.2 GB of images."""
    import datasets

    base = os.urandom(BYTES)

    def image(i: int) -> bytes:
        return i.to_bytes(8, "big") + base

    path = folder / "00000.parquet"
    rows = [row(i, image(i)) for i in range(ROWS)]
    marker = commit_shard(shard_tables(rows, ("a",), SETTINGS), files_in(folder), FACTS, no_marker)
    del rows
    assert marker.bytes > 2**31
    metadata = pq.read_metadata(path)
    assert all(metadata.row_group(group).total_byte_size < 2**29 for group in range(metadata.num_row_groups))
    places = [0, 5, 300, ROWS - 1]
    read = shard_rows(path, ("key", "image"), places)
    assert all(values["image"]["bytes"] == image(place) for place, values in zip(places, read, strict=True))
    assert sum(1 for _ in shard_rows(path, tuple(COLUMNS))) == ROWS
    assert shard_columns(path, ("image",)).num_rows == ROWS
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    loaded = loaded.cast_column("image", datasets.Image(decode=False))
    assert len(loaded) == ROWS
    assert loaded[ROWS - 1]["image"]["bytes"] == image(ROWS - 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MEMORY


@pytest.mark.slow
def test_a_shard_of_more_than_2_gib_is_read_by_everyone(tmp_path):
    code = f"from tests.store.test_shards import *; write_and_read_a_large_shard(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
