from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.datasets import DecodeSettings, Listing, list_folder, verification, verify
from augcond.errors import ConfigError, DatasetError
from tests.datasets.photos import encode, make_photo_folder, picture
from tests.toy import Counted

PLAIN = DecodeSettings()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photo_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def listing(photos):
    return list_folder(photos.root)


class CountingReader:
    """Reads through another reader and counts."""

    def __init__(self, reader):
        self._reader = reader
        self.reads = []

    def read(self, key):
        self.reads.append(key)
        return self._reader.read(key)

    def stat(self, key):
        return self._reader.stat(key)


def counting(listing):
    return Listing(
        listing.classes,
        listing.class_names,
        listing.keys,
        listing.labels,
        CountingReader(listing.reader),
        listing.ignored,
        listing.rejected,
    )


def same(first, second):
    return (first.images, first.rejected, first.ignored) == (second.images, second.rejected, second.ignored)


def test_nasty_folder_is_sorted_into_good_and_bad(photos, listing):
    dataset = verify(listing, PLAIN)
    assert {image.key: (image.width, image.height) for image in dataset.images} == photos.sizes
    assert {file.key: file.reason for file in dataset.rejected} == photos.rejected
    assert dataset.counts() == photos.counts()
    assert dataset.ignored == photos.ignored
    assert [image.key for image in dataset.images] == [key for key in listing.keys if key in photos.sizes]
    for image in dataset.images:
        assert image.sha256 == hashlib.sha256((photos.root / image.key).read_bytes()).hexdigest()
        assert dataset.classes[image.label] == image.key.split("/")[0]
    for file in dataset.rejected:
        assert dataset.classes[file.label] == file.key.split("/")[0]


def test_workers_and_chunks_do_not_matter(listing, monkeypatch):
    expected = verify(listing, PLAIN, workers=1)
    monkeypatch.setattr(verification, "_CHUNK", 7)
    assert same(verify(listing, PLAIN, workers=5), expected)


def test_progress_counts_every_image_once(listing):
    told = Counted()
    dataset = verify(listing, PLAIN, progress=told)
    assert told.total == told.done == len(listing.keys)
    assert told.failed == len(dataset.rejected) - len(listing.rejected)


def test_too_many_bad_files(photos, listing):
    bad = len(photos.rejected)
    total = bad + len(photos.sizes)
    with pytest.raises(DatasetError) as caught:
        verify(listing, PLAIN, max_bad_share=(bad - 0.5) / total)
    message = str(caught.value)
    assert message.startswith(f"{bad} of {total} files cannot be used (")
    assert "1 x empty file" in message
    assert "golden_retriever/half.jpg" in message
    assert "data.max_bad_share" in message
    assert len(verify(listing, PLAIN, max_bad_share=bad / total).rejected) == bad


def test_files_that_cannot_be_read_have_reasons(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.png").write_bytes(encode(picture_of(3), "PNG"))
    (tmp_path / "a" / "gone.png").symlink_to("nothing")
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    dataset = verify(list_folder(tmp_path), PLAIN, max_bad_share=1.0, cache=tmp_path / "c.parquet")
    assert [file.reason for file in dataset.rejected] == [
        "file not found",
        "too many levels of symbolic links",
        "not a regular file",
    ]
    # What cannot be read today may be readable tomorrow.
    assert pq.read_table(tmp_path / "c.parquet")["key"].to_pylist() == ["a/good.png"]


def test_a_wrong_background_is_told_before_any_work(listing):
    counted = counting(listing)
    with pytest.raises(ConfigError, match="background"):
        verify(counted, DecodeSettings("octarine"))
    assert not counted.reader.reads


def test_cache_saves_all_decoding(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_CHUNK", 10)
    cache = tmp_path / "run" / "images.parquet"
    cache.parent.mkdir()
    first = verify(listing, PLAIN, cache=cache)
    again = counting(listing)
    assert same(verify(again, PLAIN, cache=cache), first)
    assert not again.reader.reads
    assert list(cache.parent.iterdir()) == [cache]


def test_cache_notices_changed_new_and_lost_files(photos, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photos.root, root)
    cache = tmp_path / "cache.parquet"
    verify(list_folder(root), PLAIN, cache=cache)
    changed, new, lost = "tree frog/photo-00.jpg", "Café crème/a new.png", "n01440764/photo-01.png"
    (root / changed).write_bytes(encode(picture_of(1), "PNG"))
    (root / new).write_bytes(encode(picture_of(2), "PNG"))
    (root / lost).unlink()
    counted = counting(list_folder(root))
    dataset = verify(counted, PLAIN, cache=cache)
    assert sorted(counted.reader.reads) == sorted([changed, new])
    assert same(dataset, verify(list_folder(root), PLAIN))


def test_cache_of_other_settings_is_passed_over(listing, tmp_path):
    cache = tmp_path / "cache.parquet"
    verify(listing, PLAIN, cache=cache)
    small = DecodeSettings(max_pixels=2000)
    counted = counting(listing)
    dataset = verify(counted, small, cache=cache, max_bad_share=1.0)
    assert len(counted.reader.reads) == len(listing.keys)
    assert any("2000" in file.reason for file in dataset.rejected)


@pytest.mark.parametrize("damage", ["empty", "rubbish", "cut"])
def test_damaged_cache_is_told_and_replaced(listing, tmp_path, caplog, damage):
    cache = tmp_path / "cache.parquet"
    expected = verify(listing, PLAIN, cache=cache)
    data = cache.read_bytes()
    cache.write_bytes({"empty": b"", "rubbish": b"PAR1 no", "cut": data[: len(data) // 2]}[damage])
    with caplog.at_level(logging.WARNING):
        assert same(verify(listing, PLAIN, cache=cache), expected)
    assert "cache.parquet is not what augcond wrote" in caplog.text
    assert cache.read_bytes() == data


def test_interrupted_work_is_kept(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_CHUNK", 10)
    cache = tmp_path / "cache.parquet"

    def interrupt(done):
        if done == 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(listing, PLAIN, cache=cache, progress=Counted(interrupt))
    counted = counting(listing)
    verify(counted, PLAIN, cache=cache)
    assert set(counted.reader.reads) == set(listing.keys[30:])


def test_cache_is_written_while_at_work(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_CHUNK", 10)
    monkeypatch.setattr(verification, "_SAVE_EVERY", 20)
    cache = tmp_path / "cache.parquet"
    rows = []
    verify(listing, PLAIN, cache=cache, progress=Counted(lambda done: rows.append(cache.exists() and done)))
    assert rows.index(21) == 20


def test_a_failed_write_leaves_the_old_cache_and_no_temporary_file(listing, tmp_path, monkeypatch, caplog):
    cache = tmp_path / "cache.parquet"
    verify(listing, PLAIN, cache=cache)
    before = cache.read_bytes()

    def fail(*_):
        raise OSError(28, "disk full")

    monkeypatch.setattr(os, "fsync", fail)
    assert verify(listing, DecodeSettings(max_pixels=10**7), cache=cache).images
    assert "disk full" in caplog.text
    assert list(tmp_path.iterdir()) == [cache]
    assert cache.read_bytes() == before


def test_of_several_caches_the_first_that_is_there_is_read_and_all_are_written(listing, tmp_path, caplog):
    own, shared = tmp_path / "run" / "cache.parquet", tmp_path / "home" / "cache.parquet"
    own.parent.mkdir()
    shared.parent.mkdir()
    expected = verify(listing, PLAIN, cache=shared)
    again = counting(listing)
    assert same(verify(again, PLAIN, cache=(own, shared)), expected)
    assert not again.reader.reads
    assert own.read_bytes() == shared.read_bytes()
    # A home that cannot be written to is missed by nobody.
    nowhere = Path("/proc/home/cache.parquet")
    assert verify(listing, DecodeSettings(max_pixels=10**7), cache=(own, nowhere)).images
    assert not caplog.messages


def test_what_killed_processes_left_is_removed(listing, tmp_path):
    old, young = tmp_path / "cache.parquet.1.tmp", tmp_path / "cache.parquet.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    verify(listing, PLAIN, cache=tmp_path / "cache.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.parquet", "cache.parquet.2.tmp"]


class Bytes:
    """A reader that cannot tell whether anything changed."""

    def __init__(self, files):
        self._files = files

    def read(self, key):
        return self._files[key]


def test_a_reader_without_stat_uses_no_cache(tmp_path):
    listing = Listing(("a",), ("a",), ("x",), (0,), Bytes({"x": encode(picture_of(1), "PNG")}))
    cache = tmp_path / "cache.parquet"
    assert len(verify(listing, PLAIN, cache=cache).images) == 1
    assert not cache.exists()


@settings(deadline=None)  # machines under load are slow
@given(st.lists(st.sampled_from([b"", b"rubbish", "good"]), min_size=1, max_size=30), st.integers(1, 4))
def test_every_file_is_counted_once(kinds, workers):
    good = encode(picture_of(0), "PNG")
    files = {str(index): good if kind == "good" else kind for index, kind in enumerate(kinds)}
    listing = Listing(("a",), ("a",), tuple(files), (0,) * len(files), Bytes(files))
    dataset = verify(listing, PLAIN, max_bad_share=1.0, workers=workers)
    assert sorted([*(i.key for i in dataset.images), *(f.key for f in dataset.rejected)]) == sorted(files)
    assert len(dataset.images) == kinds.count("good")


def test_what_a_reader_of_ones_own_raises_is_the_reason_of_its_image():
    class Odd(Bytes):
        def read(self, key):
            if key == "stop":
                raise DatasetError("the archive is cut off")
            return super().read(key)

    files = {"good": encode(picture_of(0), "PNG"), "none": None}
    listing = Listing(("a",), ("a",), (*files, "lost"), (0, 0, 0), Odd(files))
    dataset = verify(listing, PLAIN, max_bad_share=1.0)
    reasons = {file.key: file.reason for file in dataset.rejected}
    assert reasons == {"none": "the reader gave a NoneType, not bytes", "lost": "the reader raised KeyError: 'lost'"}
    with pytest.raises(DatasetError, match="cut off"):
        verify(replace(listing, keys=(*files, "stop")), PLAIN, max_bad_share=1.0)


def picture_of(seed):
    import numpy as np

    return picture(np.random.default_rng(seed), 12, 9)
