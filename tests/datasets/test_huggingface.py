"""Hugging Face datasets on disk: columns, classes, bytes as stored; every format the library writes."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.config import HuggingFaceConfig, parse_config
from augcond.datasets import load_dataset
from augcond.datasets.huggingface import list_huggingface
from augcond.datasets.loading import load_held_out
from augcond.datasets.splits import make_split
from augcond.errors import ConfigError, DatasetError
from tests.datasets.layouts import jpeg
from tests.toy import png

NAMES = ["tench", "gold fish", "unseen"]
LABELS = [1, 0, 1, 0]
FILES = [jpeg(1), png(2), jpeg(3), png(4)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def make(labels=LABELS, files=FILES, feature=None, image="img", label="fine_label"):
    features = datasets.Features({image: datasets.Image(), label: feature or datasets.ClassLabel(names=NAMES)})
    rows = {image: [file and {"bytes": file, "path": None} for file in files], label: labels}
    return datasets.Dataset.from_dict(rows, features=features)


def labelled(listing):
    return {key: listing.classes[label] for key, label in zip(listing.keys, listing.labels, strict=True)}


WANT = {
    "train/00000000": "gold fish",
    "train/00000001": "tench",
    "train/00000002": "gold fish",
    "train/00000003": "tench",
}


@pytest.fixture(params=["parquet", "folder of parquet", "save_to_disk", "save_to_disk of splits"])
def saved(request, tmp_path):
    path = tmp_path / "saved"
    if request.param == "parquet":
        path = tmp_path / "saved.parquet"
        make().to_parquet(path)
    elif request.param == "folder of parquet":
        path.mkdir()
        make().to_parquet(path / "train-00000-of-00001.parquet")
    elif request.param == "save_to_disk":
        make().save_to_disk(path)
    else:
        datasets.DatasetDict({"train": make(), "test": make([2], [jpeg(9)])}).save_to_disk(path)
    return path


def test_every_format_gives_the_same_images(saved):
    listing = list_huggingface(saved, HuggingFaceConfig(), "train")
    assert listing.classes == tuple(NAMES)
    assert labelled(listing) == WANT
    reader = pickle.loads(pickle.dumps(listing.reader))  # noqa: S301
    with ThreadPoolExecutor(8) as pool:
        # Byte for byte as stored: nothing is decoded and encoded anew.
        assert list(pool.map(reader.read, listing.keys * 5)) == FILES * 5
    rows, changed = reader.stat(listing.keys[0])
    assert rows == 4
    assert changed > 0


def test_through_the_config_with_splits(tmp_path):
    path = tmp_path / "saved"
    datasets.DatasetDict({"train": make(), "test": make([1], [jpeg(9)])}).save_to_disk(path)
    section = {"image": "img", "label": "fine_label", "test": "test"}
    config = parse_config({"data": {"source": "huggingface", "path": path, "huggingface": section}, "run": "x"}).data
    dataset = load_dataset(config, cache=tmp_path / "cache.parquet")
    assert dataset.counts() == [2, 2, 0]
    assert (tmp_path / "cache.parquet").exists()
    test = load_held_out(config, "test", dataset, make_split(dataset, None))
    assert [(image.key, image.label) for image in test.images] == [("test/00000000", 1)]
    with pytest.raises(ConfigError, match=r"data.validation is not set"):
        load_held_out(config, "validation", dataset, make_split(dataset, None))


def test_another_file_as_test_images(tmp_path):
    make().to_parquet(tmp_path / "a.parquet")
    make([0], [jpeg(9)]).to_parquet(tmp_path / "b.parquet")
    data = {"source": "huggingface", "path": tmp_path / "a.parquet", "test": tmp_path / "b.parquet"}
    config = parse_config({"data": data, "run": "x"}).data
    dataset = load_dataset(config)
    assert len(load_held_out(config, "test", dataset, make_split(dataset, None)).images) == 1


def test_rows_without_label_or_image_are_rejected(tmp_path):
    make([1, -1, None, 0], [jpeg(1), jpeg(2), jpeg(3), None]).save_to_disk(tmp_path / "saved")
    data = {"source": "huggingface", "path": tmp_path / "saved", "max_bad_share": 1.0}
    dataset = load_dataset(parse_config({"data": data, "run": "x"}).data)
    assert [image.key for image in dataset.images] == ["train/00000000"]
    assert [(file.key, file.reason) for file in dataset.rejected] == [
        ("train/00000001", "no label"),
        ("train/00000002", "no label"),
        ("train/00000003", "no image in this row"),
    ]


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        ("int64", [10, 9, 10, 2], ("2", "9", "10")),
        ("string", ["b", "a", "b", "10"], ("10", "a", "b")),
        ("float64", [3.0, 10.0, None, 3.0], ("3", "10")),
        ("float32", [0.0, 1.0, float("nan"), -1.0], ("0", "1")),
        ("bool", [True, False, None, True], ("false", "true")),
        ("int8", [0, 1, -1, 0], ("0", "1")),
        ("int8", [1, -1, 1, -1], ("-1", "1")),
    ],
)
def test_plain_labels(tmp_path, kind, labels, classes):
    make(labels, feature=datasets.Value(kind), image="picture", label="category").to_parquet(tmp_path / "x.parquet")
    listing = list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(), "train")
    assert listing.classes == classes
    whole = [str(label).lower().removesuffix(".0") for label in labels]
    assert [listing.classes[label] for label in listing.labels] == [label for label in whole if label in classes]
    assert [file.reason for file in listing.rejected] == ["no label"] * (4 - len(listing.keys))


def test_fractions_are_no_classes(tmp_path):
    make([0.5, 1.0, 2.0, 2.5], feature=datasets.Value("float64"), label="label").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"the column 'label' holds numbers such as 0\.5, which are no classes"):
        list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(), "train")


@pytest.mark.parametrize(
    "names", [("bus", "train", "boat"), ("test_tube", "cup"), ("valid", "invalid"), ("dev-kit", "x"), ("a 2 test", "b")]
)
def test_an_image_folder_that_is_read_in_part_is_refused(tmp_path, names):
    """`datasets` takes these names of classes for splits, and leaves the other classes out."""
    for seed, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(jpeg(seed))
    with pytest.raises(DatasetError, match=rf"reads 1 of the {len(names)} images.*set data\.source to folder"):
        list_huggingface(tmp_path / "photos", HuggingFaceConfig(), "train")


def test_an_image_folder_of_splits_is_read(tmp_path):
    for seed, name in enumerate(["train/cat", "train/dog", "test/cat"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(jpeg(seed))
    assert list_huggingface(tmp_path / "photos", HuggingFaceConfig(), "train").classes == ("cat", "dog")
    assert len(list_huggingface(tmp_path / "photos", HuggingFaceConfig(), "test").keys) == 1


def test_parquet_of_plain_bytes(tmp_path):
    pq.write_table(pa.table({"image": FILES, "label": LABELS, "note": list("abcd")}), tmp_path / "x.parquet")
    listing = list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(), "train")
    assert [listing.reader.read(key) for key in listing.keys] == FILES


def test_image_folder_with_files_by_path(tmp_path):
    for name, seed in (("cat", 1), ("dog", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(jpeg(seed))
    listing = list_huggingface(tmp_path / "photos", HuggingFaceConfig(), "train")
    assert listing.classes == ("cat", "dog")
    assert [listing.reader.read(key) for key in listing.keys] == [jpeg(1), jpeg(2)]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            {"image": "picture"},
            ConfigError,
            r"data.huggingface.image: .* has no image column 'picture'; it has img \(Image",
        ),
        ({"label": "img"}, ConfigError, "data.huggingface.label: .* has no label column 'img'"),
    ],
)
def test_wrong_columns(tmp_path, config, error, message):
    make().to_parquet(tmp_path / "x.parquet")
    with pytest.raises(error, match=message):
        list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(**config), "train")


def test_unclear_columns(tmp_path):
    pq.write_table(pa.table({"image": FILES, "coarse": [1, 2, 3, 4], "fine": [1, 2, 3, 4]}), tmp_path / "x.parquet")
    with pytest.raises(
        DatasetError, match=r"set data.huggingface.label to the column of the labels; it has image \(Value"
    ):
        list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(), "train")
    assert list_huggingface(tmp_path / "x.parquet", HuggingFaceConfig(label="fine"), "train").classes == tuple("1234")


def test_what_cannot_be_loaded(tmp_path, saved):
    with pytest.raises(DatasetError, match=r"no folder or file at .*nowhere; for a dataset of the hub, set"):
        list_huggingface(tmp_path / "nowhere", HuggingFaceConfig(), "train")
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match=r"x.csv: expected a folder, or a file of the kind .parquet"):
        list_huggingface(tmp_path / "x.csv", HuggingFaceConfig(), "train")
    if saved.is_dir() and not (saved / "state.json").exists():
        with pytest.raises(DatasetError, match=r"\(split 'dev'\) cannot be loaded as a Hugging Face dataset: "):
            list_huggingface(saved, HuggingFaceConfig(), "dev")


def test_a_dataset_of_the_hub_that_cannot_be_reached(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DatasetError, match=r"some/where \(split 'train'\) cannot be loaded .*: no route to the hub$"):
        list_huggingface(None, HuggingFaceConfig(id="some/where"), "train")


def test_a_dataset_of_the_hub_is_asked_for_by_id_configuration_and_revision(monkeypatch):
    asked = {}

    def load(name, config, **options):
        asked.update(options, name=name, config=config)
        return make()

    monkeypatch.setattr(datasets, "load_dataset", load)
    config = HuggingFaceConfig(id="uoft-cs/cifar100", config="plain", revision="abc")
    assert labelled(list_huggingface(None, config, "train")) == WANT
    assert asked == {"name": "uoft-cs/cifar100", "config": "plain", "split": "train", "revision": "abc"}
