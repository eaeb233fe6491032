from __future__ import annotations

import json
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.conditioning import Draws
from augcond.errors import CorruptRunError, RunError
from augcond.files import write_atomically
from augcond.planning import PlanRow
from augcond.store import commit
from augcond.store.commit import ShardFacts, commit_shard, read_marker
from augcond.store.shards import GenerationSettings, ShardRow, shard_tables
from tests.toy import png

FACTS = ShardFacts("fingerprint", 8, 2, ("a note",), 1.5, {"torch": "2"})
SETTINGS = GenerationSettings(3.0, 20, "fake:fake", "1", ".png")


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
    path, marker_path = tmp_path / "00000.parquet", tmp_path / "00000.done.json"
    marker = commit_shard([table], path, marker_path, FACTS)
    assert read_marker(marker_path) == marker
    assert (marker.rows, marker.ok, marker.failed, marker.reasons) == (7, 5, 2, {"constant image": 2})
    assert marker.sha256 == commit.file_sha256(path)
    assert marker.bytes == path.stat().st_size
    assert pq.read_table(path).equals(table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000.done.json", "00000.parquet"]


def test_same_table_gives_same_bytes(tmp_path, table):
    for name in ("a", "b"):
        commit_shard([table], tmp_path / name, tmp_path / f"{name}.json", FACTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_disk_that_reads_back_other_keys_is_noticed(tmp_path, table, monkeypatch):
    monkeypatch.setattr(commit, "shard_groups", lambda *_: iter([table.slice(0, 3)]))
    with pytest.raises(CorruptRunError, match="reads back with other rows"):
        commit_shard([table], tmp_path / "00000.parquet", tmp_path / "00000.done.json", FACTS)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing_and_says_where(tmp_path, table, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "00000.done.json").write_text("{}")
    monkeypatch.setattr(commit.os, "fsync", full)
    with pytest.raises(RunError, match=r"00000.parquet cannot be written: No space left on device.*run the same"):
        commit_shard([table], tmp_path / "00000.parquet", tmp_path / "00000.done.json", FACTS)
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


def test_write_atomically_replaces(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_several_may_write_one_file_at_once(tmp_path):
    path = tmp_path / "file"
    barrier = threading.Barrier(4)
    errors = []

    def write(data):
        try:
            for _ in range(25):
                barrier.wait(30)
                write_atomically(path, data)
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=write, args=(bytes([number]) * 50_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(path.read_bytes())) == 1
    assert len(path.read_bytes()) == 50_000
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path, old, young = (tmp_path / name for name in ("file", "file.dead.tmp", "file.live.tmp"))
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_atomically(path, b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "file.live.tmp"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commit.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space.*file'$"):
        write_atomically(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []


def test_marker_is_readable_json(tmp_path, table):
    commit_shard([table], tmp_path / "s", tmp_path / "m", FACTS)
    assert json.loads((tmp_path / "m").read_text())["notes"] == ["a note"]


def test_hugging_face_datasets_shows_an_image_and_a_class_label(tmp_path, table):
    from datasets import ClassLabel, Image, load_dataset

    path = tmp_path / "00000.parquet"
    commit_shard([table], path, tmp_path / "m", FACTS)
    loaded = load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert isinstance(loaded.features["image"], Image)
    assert loaded.features["label"] == ClassLabel(names=["cat", "dog"])
    assert loaded[0]["image"].size == (20, 20)
    assert loaded[2]["image"] is None
    assert loaded[0]["source_keys"] == ["a.png", "b.png"]
    assert loaded.features["label"].int2str(loaded[0]["label"]) == "cat"
