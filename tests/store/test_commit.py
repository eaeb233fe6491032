from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.conditioning import Draws
from augcond.errors import CorruptRunError, RunError
from augcond.planning import PlanRow
from augcond.store import commit
from augcond.store.commit import ShardFacts, ShardFiles, commit_shard, read_marker
from augcond.store.shards import GenerationSettings, ShardRow, shard_tables
from tests.toy import png

FACTS = ShardFacts("fingerprint", 8, 2, ("a note",), 1.5, {"torch": "2"})
SETTINGS = GenerationSettings(3.0, 20, "fake:fake", "1", ".png")


def files_in(folder: Path, number: int = 0, attempt: str = "a") -> ShardFiles:
    stem = folder / f"{number:05d}"
    return ShardFiles(*(stem.with_suffix(end) for end in (".parquet", ".done.json", ".unfit.json")), attempt)


def no_marker(data: bytes) -> bool:
    raise AssertionError("there is no marker to judge")


def rows(count: int) -> list[ShardRow]:
    made = []
    for i in range(count):
        row = PlanRow(f"cat/{i}/mixup", 0, "cat", "cat", i, "mixup", ("a.png", "b.png"), i, "a photo of a cat")
        failed = i % 3 == 2
        made.append(
            ShardRow(row, None, error="constant image")
            if failed
            else ShardRow(row, png(i), Draws(0.25, 0.25, (0.25, 0.75)))
        )
    return made


@pytest.fixture
def table() -> pa.Table:
    (whole,) = shard_tables(rows(7), ("cat", "dog"), SETTINGS)
    return whole


def test_marker_counts_and_hashes_what_was_written(tmp_path, table):
    files = files_in(tmp_path)
    marker = commit_shard([table], files, FACTS, no_marker)
    path = files.shard
    assert read_marker(files.marker) == marker
    assert (marker.rows, marker.ok, marker.failed, marker.reasons) == (7, 5, 2, {"constant image": 2})
    assert marker.sha256 == commit.file_sha256(path)
    assert marker.bytes == path.stat().st_size
    assert pq.read_table(path).equals(table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000.done.json", "00000.parquet"]


def test_same_table_gives_same_bytes(tmp_path, table):
    for number in (0, 1):
        commit_shard([table], files_in(tmp_path, number), FACTS, no_marker)
    assert (tmp_path / "00000.parquet").read_bytes() == (tmp_path / "00001.parquet").read_bytes()


def other_image(table: pa.Table) -> pa.Table:
    image = pa.array([*table["image"].to_pylist()[:-1], {"bytes": b"other", "path": "x.png"}], table["image"].type)
    return table.set_column(1, table.schema.field("image"), image)


@pytest.mark.parametrize(
    "broken",
    [lambda table: [table.slice(0, 3)], lambda table: [], lambda table: [other_image(table)]],
    ids=["fewer rows", "fewer groups", "another image"],
)
def test_a_disk_that_reads_back_other_rows_is_noticed(tmp_path, table, monkeypatch, broken):
    monkeypatch.setattr(commit, "shard_groups", lambda *_: iter(broken(table)))
    with pytest.raises(CorruptRunError, match="reads back with other rows"):
        commit_shard([table], files_in(tmp_path), FACTS, no_marker)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_reads_back_rubbish_is_noticed(tmp_path, table, monkeypatch):
    monkeypatch.setattr(commit, "write_parquet", lambda file, tables: file.write(b"rubbish"))
    with pytest.raises(CorruptRunError, match="is the disk failing"):
        commit_shard([table], files_in(tmp_path), FACTS, no_marker)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing_and_says_where(tmp_path, table, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commit.os, "fsync", full)
    with pytest.raises(RunError, match=r"00000.parquet cannot be written: No space left on device.*run the same"):
        commit_shard([table], files_in(tmp_path), FACTS, no_marker)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"rows": 3}', '{"notes": 3}'])
def test_broken_markers_do_not_count(tmp_path, text, caplog):
    path = tmp_path / "00000.done.json"
    path.write_text(text)
    assert read_marker(path) is None
    assert "not a whole marker" in caplog.text


def test_missing_marker_is_no_news(tmp_path, caplog):
    assert read_marker(tmp_path / "00000.done.json") is None
    assert not caplog.text


def test_marker_is_readable_json(tmp_path, table):
    commit_shard([table], files_in(tmp_path), FACTS, no_marker)
    values = json.loads((tmp_path / "00000.done.json").read_text())
    assert (values["notes"], values["file"]) == (["a note"], "00000.parquet")


def test_hugging_face_datasets_shows_an_image_and_a_class_label(tmp_path, table):
    from datasets import ClassLabel, Image, load_dataset

    commit_shard([table], files_in(tmp_path), FACTS, no_marker)
    loaded = load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), cache_dir=str(tmp_path / "cache"))["train"]
    assert isinstance(loaded.features["image"], Image)
    assert loaded.features["label"] == ClassLabel(names=["cat", "dog"])
    assert loaded[0]["image"].size == (20, 20)
    assert loaded[2]["image"] is None
    assert loaded[0]["source_keys"] == ["a.png", "b.png"]
    assert loaded.features["label"].int2str(loaded[0]["label"]) == "cat"
