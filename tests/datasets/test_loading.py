from __future__ import annotations

import subprocess
import sys

import pytest

from augcond.config import DataConfig
from augcond.datasets import load_dataset
from augcond.errors import DatasetError
from tests.datasets.photos import make_photo_folder


def test_folder(tmp_path):
    photos = make_photo_folder(tmp_path / "photos")
    config = DataConfig(path=photos.root, background="#abcdef")
    dataset = load_dataset(config, cache=tmp_path / "cache.parquet")
    assert dataset.counts() == photos.counts()
    assert dataset.decoding.background == "#abcdef"
    assert (tmp_path / "cache.parquet").exists()
    with pytest.raises(DatasetError, match="cannot be used"):
        load_dataset(DataConfig(path=photos.root, max_bad_share=0.0))


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
