from __future__ import annotations

import os
import pickle

import pytest

from augcond.datasets import list_folder
from augcond.errors import DatasetError
from tests.datasets.photos import make_photo_folder


@pytest.fixture
def put(tmp_path):
    def make(*names: str):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return tmp_path

    return make


def test_nasty_folder(tmp_path):
    photos = make_photo_folder(tmp_path)
    listing = list_folder(tmp_path)
    assert listing.classes == photos.classes == tuple(sorted(photos.classes))
    assert listing.class_names == ("Café crème", "golden retriever", "n01440764", "tree frog")
    rejected_later = {key for key in photos.rejected if "\\xe9" not in key}
    assert set(listing.keys) == set(photos.sizes) | rejected_later
    assert len(set(listing.keys)) == len(listing.keys)
    assert [listing.classes[label] for label in listing.labels] == [key.split("/")[0] for key in listing.keys]
    assert listing.ignored == photos.ignored
    assert {(file.key, file.reason) for file in listing.rejected} == {
        (key, reason) for key, reason in photos.rejected.items() if key not in rejected_later
    }
    for key in listing.keys:
        key.encode("utf-8")
        assert listing.reader.read(key) == (tmp_path / key).read_bytes()


def test_order_is_by_name_and_suffixes_in_any_case(put):
    root = put("b/2.JPG", "b/10.Jpeg", "B/x.png", "a/n/1.TIF", "a/z.webp", "a/m.tiff", "a/k.bmp", "é/q.GIF", "a/p.cr2")
    listing = list_folder(root)
    assert listing.classes == ("B", "a", "b", "é")
    assert listing.keys == (
        "B/x.png",
        "a/k.bmp",
        "a/m.tiff",
        "a/n/1.TIF",
        "a/z.webp",
        "b/10.Jpeg",
        "b/2.JPG",
        "é/q.GIF",
    )
    assert listing.labels == (0, 1, 1, 1, 1, 2, 2, 3)
    assert listing.ignored == ("a/p.cr2",)


def test_hidden_files_and_folders_are_skipped(put):
    root = put("a/1.jpg", "a/.1.jpg", "a/._1.jpg", "a/.cache/2.jpg", ".git/x.jpg", "a/.jpg")
    listing = list_folder(root)
    assert (listing.classes, listing.keys, listing.ignored) == (("a",), ("a/1.jpg",), ())


def test_an_empty_class_folder_is_a_class(put):
    root = put("a/1.jpg", "c/notes.txt")
    (root / "b").mkdir()
    listing = list_folder(root)
    assert listing.classes == ("a", "b", "c")
    assert listing.labels == (0,)


def test_photos_of_phones_and_browsers_are_images(put):
    root = put("a/1.jfif", "a/2.HEIC", "a/3.avif", "a/4.heif")
    assert list_folder(root).keys == ("a/1.jfif", "a/2.HEIC", "a/3.avif", "a/4.heif")


def test_no_images(put, tmp_path):
    root = put("a/notes.txt", "a/1.CR2", "a/2.cr2", "README")
    with pytest.raises(DatasetError) as caught:
        list_folder(root)
    assert str(caught.value) == (
        f"no images found in {root}: expected one sub-folder per class, each with .jpg, .png or .webp files; "
        "there are others, which are not read: 2 x .cr2, 1 x no suffix, 1 x .txt"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images found"):
        list_folder(tmp_path / "empty")


def test_no_images_but_in_what_is_skipped(put):
    root = put(".cat/1.jpg", ".dog/1.jpg")
    with pytest.raises(DatasetError, match=r"no images found.*; skipped: \.cat \(hidden\), \.dog \(hidden\)$"):
        list_folder(root)


def test_images_outside_class_folders(put):
    root = put("a/1.jpg", "3.jpg", "2.PNG")
    with pytest.raises(DatasetError, match=r"2 images lie directly in .*, such as 2\.PNG: expected one sub-folder per"):
        list_folder(root)


def test_splits_are_not_classes(put):
    root = put("train/cat/1.jpg", "val/cat/2.jpg")
    with pytest.raises(
        DatasetError, match=r"look like splits, not classes \(train, val\): give one .*train \(if these are classes"
    ):
        list_folder(root)
    assert list_folder(root / "train").classes == ("cat",)


def test_a_class_may_be_called_test(put):
    assert list_folder(put("test/1.jpg", "train/nested/2.jpg")).classes == ("test", "train")


def test_missing_folder_and_file_for_folder(put):
    root = put("list.txt")
    with pytest.raises(DatasetError, match=r"no folder at .*nowhere$"):
        list_folder(root / "nowhere")
    with pytest.raises(DatasetError, match=r"no folder at .*data.source: list"):
        list_folder(root / "list.txt")


def test_links(put, tmp_path):
    root = put("photos/a/1.jpg", "photos/b/2.jpg", "elsewhere/3.jpg", "elsewhere/deep/4.jpg") / "photos"
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "more again").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    listing = list_folder(root)
    assert listing.classes == ("a", "b", "linked")
    assert listing.keys == (
        *("a/1.jpg", "a/file.jpg", "a/gone.jpg", "a/more/3.jpg", "a/more/deep/4.jpg"),
        "b/2.jpg",
        *("linked/3.jpg", "linked/deep/4.jpg"),
    )
    with pytest.raises(FileNotFoundError):
        listing.reader.read("a/gone.jpg")


@pytest.mark.timeout(20)
def test_links_in_circles_and_upwards(put, tmp_path):
    root = put("photos/a/1.jpg", "photos/b/2.jpg", "photos/b/deep/3.jpg") / "photos"
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "disk").symlink_to("/")
    (root / "b" / "deep" / "back").symlink_to(root / "b")
    (root / "b" / "loop.jpg").symlink_to("loop.jpg")
    (root / "a" / "loop").symlink_to("loop")
    listing = list_folder(root)
    assert listing.keys == ("a/1.jpg", "b/2.jpg", "b/deep/3.jpg", "b/loop.jpg")
    assert listing.ignored == ("a/loop",)
    with pytest.raises(OSError):
        listing.reader.read("b/loop.jpg")


@pytest.mark.timeout(20)
def test_reading_a_pipe_or_a_folder_fails_instead_of_waiting(put):
    root = put("a/1.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    (root / "a" / "folder.jpg").mkdir()
    listing = list_folder(root)
    assert listing.keys == ("a/1.jpg", "a/pipe.jpg")
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(OSError):
            listing.reader.read(f"a/{name}")


def test_a_class_folder_whose_name_is_not_utf8(put):
    root = put("a/1.jpg")
    try:
        os.mkdir(os.fsencode(root) + b"/caf\xe9")  # noqa: PTH102 - Path takes no bytes
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(DatasetError, match=r"class folder caf\\xe9 in .* is not UTF-8"):
        list_folder(root)


def test_a_folder_that_cannot_be_read(put, monkeypatch):
    root = put("a/1.jpg", "b/2.jpg")
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"folder .*b cannot be read: Permission denied"):
        list_folder(root)


def test_reader_is_picklable_and_tells_changes(put):
    root = put("a/1.jpg")
    reader = pickle.loads(pickle.dumps(list_folder(root).reader))  # noqa: S301
    before = reader.stat("a/1.jpg")
    assert before[0] == len("a/1.jpg")
    (root / "a" / "1.jpg").write_bytes(b"longer than before")
    assert reader.stat("a/1.jpg") != before
    assert reader.stat("a/2.jpg") is None
