"""WebDataset shards: samples, labels and damage against shards made by the webdataset package and by hand."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import webdataset

from augcond.config import WebDatasetConfig, parse_config
from augcond.datasets import load_dataset
from augcond.datasets.webdataset import list_webdataset
from augcond.errors import DatasetError
from tests.datasets.layouts import jpeg
from tests.toy import png


def labelled(listing):
    return {key: listing.classes[label] for key, label in zip(listing.keys, listing.labels, strict=True)}


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            data = data.encode() if isinstance(data, str) else data
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two shards of three samples each, written by the webdataset package itself."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(2):
        with webdataset.TarWriter(str(folder / f"train-{number:06d}.tar")) as writer:
            for index in range(3):
                seed = 3 * number + index
                writer.write(
                    {"__key__": f"{seed:04d}", "jpg": jpeg(seed), "cls": (10, 9, 2)[index], "txt": "a caption"}
                )
    return folder


def test_shards_of_the_webdataset_package(shards):
    listing = list_webdataset(shards, WebDatasetConfig())
    assert listing.classes == ("2", "9", "10")
    assert labelled(listing) == {
        "train-000000.tar/0000.jpg": "10",
        "train-000000.tar/0001.jpg": "9",
        "train-000000.tar/0002.jpg": "2",
        "train-000001.tar/0003.jpg": "10",
        "train-000001.tar/0004.jpg": "9",
        "train-000001.tar/0005.jpg": "2",
    }
    reader = pickle.loads(pickle.dumps(listing.reader))  # noqa: S301
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, listing.keys * 5)) == [jpeg(seed) for seed in range(6)] * 5
    size, changed = reader.stat(listing.keys[0])
    assert (size, changed) == (len(jpeg(0)), (shards / "train-000000.tar").stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("train-{000000..000001}.tar", 6), ("train-*.tar", 6), ("train-000001.tar", 3), ("train-00000{1..1}.tar", 3)],
)
def test_patterns(shards, pattern, count):
    listing = list_webdataset(shards / pattern, WebDatasetConfig())
    assert len(listing.keys) == count
    assert set(listing.keys) <= set(list_webdataset(shards, WebDatasetConfig()).keys)


def test_through_the_config(shards):
    values = {"source": "webdataset", "path": shards / "train-000000.tar", "test": shards / "train-000001.tar"}
    config = parse_config({"data": {**values, "webdataset": {"label": "cls"}}, "run": "unused"}).data
    dataset = load_dataset(config, cache=shards / "cache.parquet")
    assert dataset.counts() == [1, 1, 1]
    assert (shards / "cache.parquet").exists()


def test_labels_in_text_and_json(tmp_path):
    members = [
        ("a/1.png", png(1)),
        ("a/1.json", json.dumps({"label": "tench", "Fine": 4})),
        ("a/2.seg.png", png(2)),
        ("a/2.PNG", png(3)),
        ("a/2.json", json.dumps({"label": 7, "Fine": 30})),
        ("a/1.txt", "gold fish\n"),
        ("a/2.txt", "tench"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    assert labelled(list_webdataset(path, WebDatasetConfig())) == {"x.tar/a/1.png": "tench", "x.tar/a/2.png": "7"}
    by_key = list_webdataset(path, WebDatasetConfig(label="json:Fine"))
    assert by_key.classes == ("4", "30")
    by_text = list_webdataset(path, WebDatasetConfig(label="txt"))
    assert (by_text.classes, by_text.class_names) == (("gold fish", "tench"), ("gold fish", "tench"))
    seg = list_webdataset(path, WebDatasetConfig(image="seg.png"))
    assert labelled(seg) == {"x.tar/a/2.seg.png": "7"}
    assert seg.reader.read("x.tar/a/2.seg.png") == png(2)
    assert [(file.key, file.reason) for file in seg.rejected] == [("x.tar/a/1.?", "no image")]


def test_samples_without_image_or_label_are_rejected_with_the_reason(tmp_path):
    members = [
        ("1.jpg", jpeg(1)),
        ("1.cls", "3"),
        ("2.cls", "3"),
        ("3.jpg", jpeg(3)),
        ("4.jpg", jpeg(4)),
        ("4.cls", " \n"),
        ("5.jpg", jpeg(5)),
        ("5.cls", b"\xff\xfe"),
        ("README", "no sample"),
        ("sub/.hidden.jpg", jpeg(6)),
    ]
    listing = list_webdataset(write_tar(tmp_path / "x.tar", members), WebDatasetConfig())
    assert labelled(listing) == {"x.tar/1.jpg": "3"}
    assert {file.key: file.reason for file in listing.rejected} == {
        "x.tar/2.?": "no image",
        "x.tar/3.jpg": "no label: no .cls",
        "x.tar/4.jpg": "no label in .cls",
        "x.tar/5.jpg": "no label: .cls cannot be read",
    }
    assert listing.ignored == ("x.tar/README", "x.tar/sub/.hidden.jpg")


def test_json_values_that_are_no_labels(tmp_path):
    contents = ['{"label": 1}', '{"label": true}', '{"label": [1]}', "[1]", "{", '{"other": 1}']
    members = []
    for index, content in enumerate(contents):
        members += [(f"{index}.jpg", jpeg(index)), (f"{index}.json", content)]
    listing = list_webdataset(write_tar(tmp_path / "x.tar", members), WebDatasetConfig())
    assert labelled(listing) == {"x.tar/0.jpg": "1", "x.tar/1.jpg": "true"}
    assert [file.reason for file in listing.rejected] == [
        "no label in .json",
        "no label in .json",
        "no label: .json cannot be read",
        "no label in .json",
    ]


def test_a_shard_cut_anywhere_is_refused(shards):
    path = shards / "train-000001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
        boundaries = [member.offset for member in tar]
    for length in sorted({0, 100, 511, 513, end - 512, end - 1, end, *boundaries[1:], boundaries[3] + 700}):
        path.write_bytes(whole[:length])
        with pytest.raises(
            DatasetError, match=r"train-000001.tar is cut off or damaged after \d samples .*copy it anew"
        ):
            list_webdataset(shards, WebDatasetConfig())
    path.write_bytes(whole[: end + 512])
    assert len(list_webdataset(shards, WebDatasetConfig()).keys) == 6


def test_a_damaged_header_is_refused(shards):
    path = shards / "train-000000.tar"
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        second = tar.getmembers()[3].offset
    data[second : second + 20] = b"\x01" * 20
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train-000000.tar is cut off or damaged after 1 samples"):
        list_webdataset(shards, WebDatasetConfig())


def test_a_shard_that_shrinks_while_it_is_read(shards):
    listing = list_webdataset(shards, WebDatasetConfig())
    path = shards / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(OSError, match="the shard has become shorter"):
        listing.reader.read(listing.keys[-1])
    with pytest.raises(FileNotFoundError):
        listing.reader.read("train-000001.tar/9999.jpg")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", jpeg(1)), ("a.cls", "1"), ("a.jpg", jpeg(2))], "holds a.jpg twice"),
        (
            [("a.jpg", jpeg(1)), ("a.png", png(1)), ("a.cls", "1")],
            r"several images \(jpg, png\): set data.webdataset.image",
        ),
        ([("a.jpg", jpeg(1)), ("a.npy", b"1")], r"the first sample of .*x.tar, a, has no label.* beside .jpg, .npy"),
        ([("README", "x")], "no samples in"),
    ],
)
def test_unclear_shards_are_refused(tmp_path, members, message):
    with pytest.raises(DatasetError, match=message):
        list_webdataset(write_tar(tmp_path / "x.tar", members), WebDatasetConfig())


def test_missing_shards(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no shards at .*empty: expected a .tar file"):
        list_webdataset(tmp_path / "empty", WebDatasetConfig())
    write_tar(tmp_path / "t-000.tar", [("a.jpg", jpeg(1)), ("a.cls", "1")])
    with pytest.raises(DatasetError, match=r"no shard at .*t-001.tar"):
        list_webdataset(tmp_path / "t-{000..001}.tar", WebDatasetConfig())
    packed = tmp_path / "t.tar.gz"
    packed.write_bytes(b"\x1f\x8b")
    with pytest.raises(DatasetError, match=r"t.tar.gz: members are read by their offset, so unpack it"):
        list_webdataset(packed, WebDatasetConfig())


def test_augconds_own_export_comes_back(tmp_path):
    members = [("cat-0-image.png", png(1)), ("cat-0-image.cls", "0"), ("cat-0-image.json", '{"class_id": "cat"}')]
    path = write_tar(tmp_path / "00000.tar", members)
    assert list_webdataset(path, WebDatasetConfig(label="json:class_id")).classes == ("cat",)


def members(*names, label="cls"):
    return [(f"{name}.{kind}", data) for name in names for kind, data in (("jpg", jpeg(1)), (label, f"{name[0]}"))]


@pytest.mark.parametrize("zeros", [0, 512, 30_000, 3 << 20])
@pytest.mark.parametrize("count", [2, 3])
def test_joined_shards_are_read_to_the_last(tmp_path, zeros, count):
    """What `cat a.tar b.tar` makes; tarfile stops at the end of the first."""
    parts = [write_tar(tmp_path / f"{number}.tar", members(f"{number}a", f"{number}b")) for number in range(count)]
    joined = tmp_path / "joined" / "x.tar"
    joined.parent.mkdir()
    joined.write_bytes(b"".join(part.read_bytes() + bytes(zeros) for part in parts))
    listing = list_webdataset(joined, WebDatasetConfig())
    assert list(listing.keys) == [f"x.tar/{number}{letter}.jpg" for number in range(count) for letter in "ab"]
    assert labelled(listing) == {key: key[6] for key in listing.keys}
    assert {listing.reader.read(key) for key in listing.keys} == {jpeg(1)}


@pytest.mark.parametrize("rest", [b"rubbish", b"x" * 2000, "half", "again"])
def test_what_follows_the_end_of_a_shard_and_is_no_shard_is_refused(tmp_path, rest):
    path = write_tar(tmp_path / "x.tar", members("0", "1"))
    whole = path.read_bytes()
    half = write_tar(tmp_path / "y.tar", members("2")).read_bytes()[:700]
    path.write_bytes(whole + {"half": half, "again": whole}.get(rest, rest))
    with pytest.raises(DatasetError, match="holds 0.jpg twice" if rest == "again" else "is cut off or damaged after"):
        list_webdataset(path, WebDatasetConfig())


def test_captions_are_no_labels_unless_they_are_named_so(tmp_path):
    captions = [(f"{i}.txt", f"a photo of dog number {i} on a lawn") for i in range(6)]
    path = write_tar(tmp_path / "x.tar", sorted([*captions, *((f"{i}.jpg", jpeg(i)) for i in range(6))]))
    with pytest.raises(DatasetError, match=r"each of the 6 images has a label of its own.*set data\.webdataset\.label"):
        list_webdataset(path, WebDatasetConfig())
    assert len(list_webdataset(path, WebDatasetConfig(label="txt")).classes) == 6


@pytest.mark.parametrize(
    ("labels", "classes", "rejected"),
    [
        ([3.0, 4.0, 3.0], ("3", "4"), 0),
        ([3.5, 4.0, 3.0], ("3", "4"), 1),
        ([0, 1, -1], ("0", "1"), 1),
        ([True, False, True], ("false", "true"), 0),
        (["0", "", "1"], ("0", "1"), 1),
        ([0, None, 1], ("0", "1"), 1),
    ],
)
def test_labels_in_json_are_read_as_they_are_meant(tmp_path, labels, classes, rejected):
    found = [(f"{i}.json", json.dumps({"label": label})) for i, label in enumerate(labels)]
    path = write_tar(tmp_path / "x.tar", sorted([*found, *((f"{i}.jpg", jpeg(i)) for i in range(3))]))
    listing = list_webdataset(path, WebDatasetConfig())
    assert (listing.classes, len(listing.rejected)) == (classes, rejected)
