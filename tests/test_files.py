"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from augcond import files
from augcond.files import (
    foreign_entries,
    read_groups,
    replacing,
    replacing_contents,
    write_atomically,
    write_parquet,
)


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


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError, match=r"A folder is in its place: remove it: '[^']*/file'$"):
        write_atomically(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_temporary_name_is_in_no_message(tmp_path):
    with pytest.raises(OSError, match=r"No such file or directory: '[^']*/gone/file'$"):
        write_atomically(tmp_path / "gone" / "file", b"data")


def test_what_fails_while_a_file_is_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_folder_held_is_replaced_once_all_is_written(tmp_path):
    folder = tmp_path / "out"
    for name in ("first", "second"):
        with replacing_contents(folder) as partial:
            (partial / name).mkdir()
            (partial / name / "file").write_text(name)
        assert contents(folder) == [name, f"{name}/file"]
    with pytest.raises(KeyboardInterrupt), replacing_contents(folder) as partial:
        (partial / "third").touch()
        raise KeyboardInterrupt
    assert contents(folder) == ["second", "second/file"]
    assert list(foreign_entries(folder)) == []


def test_what_fails_leaves_no_new_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing_contents(tmp_path / "out"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_wrote_stays(tmp_path):
    """Whatever a list says, which may come from anywhere, and beside files of ours."""
    outside = tmp_path / "photo.jpg"
    folder = tmp_path / "out"
    with replacing_contents(folder) as partial:
        (partial / "a").mkdir()
        (partial / "a" / "ours").touch()
    outside.touch()
    (folder / "a" / "theirs").touch()
    (folder / "link").symlink_to(tmp_path)
    assert sorted(foreign_entries(folder)) == ["a/theirs", "link"]
    names = folder / ".augcond-files.txt"
    _, *entries = names.read_text().splitlines()  # as 0.1 wrote it, without a sum
    names.write_text("\n".join([*entries, "../photo.jpg", str(outside), "link/photo.jpg", ""]))
    with replacing_contents(folder) as partial:
        (partial / "b").touch()
    assert outside.exists()
    assert contents(folder) == ["a", "a/theirs", "b", "link"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "zeroed", "not UTF-8", "pipe"])
def test_by_a_damaged_list_nothing_goes(tmp_path, caplog, damage):
    folder = tmp_path / "out"
    with replacing_contents(folder) as partial:
        (partial / "a").touch()
        (partial / "b").touch()
    path = folder / ".augcond-files.txt"
    data = path.read_bytes()
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    else:
        new = {"truncated": data[:-2], "flipped": data[:-2] + b"c\n", "empty": b"", "zeroed": bytes(9)}
        path.write_bytes(new.get(damage, b"\xff"))
    with replacing_contents(folder) as partial:
        (partial / "a").touch()
    assert contents(folder) == ["a", "b"]
    assert [record.message for record in caplog.records] == [
        f"{path} is not what augcond wrote: what lies there from before, and is not replaced, stays"
    ]
    assert list(foreign_entries(folder)) == ["b"]


@pytest.mark.parametrize("stop", range(1, 8))
def test_stopped_anywhere_all_that_was_written_is_known(tmp_path, monkeypatch, stop):
    """Between any two changes of the disk, and the next call mends it."""
    folder = tmp_path / "out"

    def write(names):
        with replacing_contents(folder) as partial:
            for name in names:
                (partial / name).mkdir()
                (partial / name / "file").write_text(name)

    write("ab")
    calls = count(1)

    def stopping(function):
        def wrapper(*args, **kwargs):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink", "rmdir"):
            patched.setattr(Path, name, stopping(getattr(Path, name)))
        with suppress(KeyboardInterrupt):
            write("bc")
    assert list(foreign_entries(folder)) == []
    write("bc")
    assert contents(folder) == ["b", "b/file", "c", "c/file"]


def contents(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".augcond-files.txt"
    )


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
    with path.open("wb") as file:
        write_parquet(file, [pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.string())})])
    assert [group.schema.names for group in read_groups(path, ["b"])] == [["b"]]


def test_folders_are_made_so_deep_and_no_deeper(tmp_path):
    files.make_folder(tmp_path / "a" / "b", 2)
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(FileNotFoundError):
        files.make_folder(tmp_path / "gone" / "a" / "b", 2)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("moved", [False, True], ids=["writing", "moving in"])
def test_what_was_killed_is_no_contents_until_it_is_done_again(tmp_path, moved):
    folder = tmp_path / "out"
    (folder / ".augcond-partial").mkdir(parents=True)
    if moved:
        (folder / ".augcond-unfinished").mkdir()
        (folder / "half").touch()
    assert not files.is_written(folder)
    with pytest.raises(KeyboardInterrupt), replacing_contents(folder):
        raise KeyboardInterrupt
    assert not files.is_written(folder)
    with replacing_contents(folder) as partial:
        (partial / "half").write_text("whole")
    assert files.is_written(folder)
    assert (folder / "half").read_text() == "whole"
    assert not [path for path in folder.iterdir() if path.is_dir()]
