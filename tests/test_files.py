"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
import threading

import pyarrow as pa
import pytest

from augcond import files
from augcond.files import read_groups, replacing, replacing_folder, write_atomically, write_parquet, write_table


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

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space.*file'$"):
        write_atomically(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_while_a_file_is_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_once_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out"
    for name in ("first", "second"):
        with replacing_folder(path) as partial:
            (partial / name).touch()
        assert [p.name for p in path.iterdir()] == [name]
    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as partial:
        (partial / "third").touch()
        raise KeyboardInterrupt
    assert [p.name for p in path.iterdir()] == ["second"]
    with replacing_folder(path) as partial:
        assert list(partial.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_groups_are_read_as_they_were_written(tmp_path):
    groups = [pa.table({"a": [1, 2], "b": ["x", "y"]}), pa.table({"a": [3], "b": ["z"]})]
    path = tmp_path / "table.parquet"
    with path.open("wb") as file:
        write_parquet(file, iter(groups))
    assert list(read_groups(path)) == groups
    assert [group.to_pydict() for group in read_groups(path, ["b"])] == [{"b": ["x", "y"]}, {"b": ["z"]}]
    with pytest.raises(pa.ArrowInvalid, match="no column c, d"):
        list(read_groups(path, ["d", "a", "c"]))


def test_a_table_without_rows_is_read_with_its_columns(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(path, pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.string())}))
    assert [group.schema.names for group in read_groups(path, ["b"])] == [["b"]]
