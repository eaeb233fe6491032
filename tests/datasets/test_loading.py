from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from augcond.config import DataConfig
from augcond.datasets import list_folder, load_dataset, verification
from augcond.datasets.loading import find_reader, has_held_out, list_held_out, list_images, load_held_out
from augcond.datasets.splits import Split
from augcond.errors import ConfigError, DatasetError
from tests.datasets.photos import make_photo_folder
from tests.toy import write_photos


def test_folder(tmp_path):
    photos = make_photo_folder(tmp_path / "photos")
    config = DataConfig(path=photos.root, background="#abcdef")
    dataset = load_dataset(config, cache=tmp_path / "cache.parquet")
    assert dataset.counts() == photos.counts()
    assert dataset.decoding.background == "#abcdef"
    assert (tmp_path / "cache.parquet").exists()
    with pytest.raises(DatasetError, match="cannot be used"):
        load_dataset(DataConfig(path=photos.root, max_bad_share=0.0))


def test_what_one_command_has_read_no_other_one_reads_again(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", {"cat": 2, "dog": 2})
    write_photos(tmp_path / "held out", {"cat": 1, "dog": 1})
    config = DataConfig(path=tmp_path / "photos", test=tmp_path / "held out")
    split = Split("all", 0, (), ())
    found = load_dataset(config)
    test = load_held_out(config, "test", found, split)

    def read(*_):
        raise AssertionError("it is known")

    monkeypatch.setattr(verification, "_examine", read)
    for cache in (None, tmp_path / "decoded.parquet", tmp_path / "decoded.parquet"):
        again = load_dataset(config.model_copy(update={"max_bad_share": 0.5}), cache=cache)
        assert again.images == found.images
    assert load_held_out(config, "test", found, split).images == test.images
    # Its own folder is another data set, as is what is decoded otherwise.
    with pytest.raises(AssertionError, match="it is known"):
        load_dataset(DataConfig(path=tmp_path / "held out", test=tmp_path / "photos"))
    with pytest.raises(AssertionError, match="it is known"):
        load_dataset(config.model_copy(update={"background": "black"}))


def test_list_of_the_same_photos_gives_the_same_images(tmp_path):
    photos = make_photo_folder(tmp_path / "photos")
    whole = load_dataset(DataConfig(path=photos.root))
    lines = [
        f'"photos/{image.key.replace(chr(34), chr(34) * 2)}",{whole.classes[image.label]}\n' for image in whole.images
    ]
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "".join(lines) + "photos/lost.jpg,tree frog\n", encoding="utf-8"
    )
    listed = load_dataset(DataConfig(source="list", path=tmp_path / "list.csv"))
    assert listed.classes == whole.classes
    assert [(image.key.removeprefix("photos/"), image.label, image.sha256) for image in listed.images] == [
        (image.key, image.label, image.sha256) for image in whole.images
    ]
    assert [(file.key, file.reason) for file in listed.rejected] == [("photos/lost.jpg", "file not found")]


def test_builtin_with_names_of_ones_own(tmp_path):
    dataset = load_dataset(DataConfig(source="builtin"))
    assert dataset.counts() == [200] * 10
    assert not dataset.rejected
    names = tmp_path / "names.csv"
    names.write_text("".join(f"{class_id},my {class_id}\n" for class_id in dataset.classes))
    renamed = load_dataset(DataConfig(source="builtin", class_names=names))
    assert renamed.class_names == tuple(f"my {class_id}" for class_id in dataset.classes)


def test_importing_is_light():
    code = "import augcond.datasets, sys; print(*{'torch', 'PIL', 'pyarrow', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    code = "from augcond.datasets import load_dataset, summarize, decode; import sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def list_two(config):
    return replace(list_folder(config.path), ignored=("by a function of one's own",))


def test_a_plain_function_is_a_reader(tmp_path):
    write_photos(tmp_path / "photos", {"cat": 2, "dog": 1})
    (tmp_path / "names.txt").write_text("cat\ta cat\ndog\ta dog\n")
    config = DataConfig(
        source="tests.datasets.test_loading:list_two",
        path=tmp_path / "photos",
        test=tmp_path / "photos",
        class_names=tmp_path / "names.txt",
    )
    listing = list_images(config)
    assert listing.ignored == ("by a function of one's own",)
    assert listing.class_names == ("a cat", "a dog")
    assert list_held_out(config, "test") == listing
    assert list_held_out(config, "validation") is None
    assert (has_held_out(config, "test"), has_held_out(config, "validation")) == (True, False)


def test_classes_and_values_are_no_readers():
    with pytest.raises(ConfigError, match="neither a DatasetReader nor a function that lists images"):
        find_reader("augcond.datasets.folder:FolderReader")
    with pytest.raises(ConfigError, match="neither a DatasetReader nor a function that lists images"):
        find_reader("augcond.datasets.folder:IMAGE_SUFFIXES")


def test_readers_say_what_they_take_and_bring(tmp_path):
    assert {name: sorted(find_reader(name).takes) for name in ("builtin", "coco", "folder", "huggingface")} == {
        "builtin": [],
        "coco": ["path"],
        "folder": ["path", "test", "validation"],
        "huggingface": ["huggingface", "path", "test", "validation"],
    }
    config = DataConfig(source="huggingface", path=tmp_path, huggingface={"test": "held"})
    assert find_reader("huggingface").held_out(config) == ("test",)
    assert find_reader("coco").held_out(config) == ("test",)
    with pytest.raises(ConfigError, match="source 'folder' needs a path"):
        list_images(DataConfig(path=tmp_path).model_copy(update={"path": None}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "folder"}, "source 'folder' needs a path"),
        ({"source": "huggingface"}, "source 'huggingface' needs a path or huggingface.id"),
        ({"source": "huggingface", "path": "p", "huggingface": {"id": "a/b"}}, "give data.path or data.huggingface.id"),
        (
            {"source": "huggingface", "path": "p", "test": "q", "huggingface": {"test": "held"}},
            "give data.test or data.huggingface.test, not both",
        ),
        ({"source": "coco", "path": "p", "validation": "q"}, "source 'coco' takes no validation"),
        ({"source": "builtin", "test": "q"}, "source 'builtin' takes no test"),
        ({"source": "folder", "path": "p", "webdataset": {}}, "source 'folder' takes no webdataset"),
        ({"source": "list", "path": "p", "huggingface": {}}, "source 'list' takes no huggingface"),
    ],
)
def test_keys_that_do_not_fit_the_source_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(values)
