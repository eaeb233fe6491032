"""Every benchmark in its official layout: counts, labels and roles against answers worked out by hand."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.datasets.benchmarks import BENCHMARK_NAMES, find_role, get_benchmark, list_benchmark
from augcond.datasets.benchmarks.imagenet_lt import class_texts, official_counts
from augcond.datasets.benchmarks.pascal_voc import largest_object
from augcond.datasets.loading import has_held_out, load_held_out
from augcond.datasets.splits import make_split
from augcond.errors import ConfigError, DatasetError, LeakError, MissingExtraError
from augcond.training.guards import check_apart, overlap
from tests.datasets import layouts


def labelled(listing):
    return {key: listing.classes[label] for key, label in zip(listing.keys, listing.labels, strict=True)}


def data_config(name, root, **keys):
    return parse_config({"data": {"source": name, "path": root, **keys}, "run": "unused"}).data


@pytest.fixture(params=BENCHMARK_NAMES)
def copy(request, tmp_path):
    return request.param, layouts.LAYOUTS[request.param](tmp_path / "copy")


def test_parts_are_apart_and_share_their_classes(copy):
    name, root = copy
    config = data_config(name, root)
    train = load_dataset(config)
    split = make_split(train, None)
    assert not train.rejected
    assert has_held_out(config, "test")
    for role in get_benchmark(name).roles[1:]:
        held_out = load_held_out(config, role, train, split)
        assert held_out.images
        assert not held_out.rejected
        assert held_out.classes == train.classes
        assert not overlap(train, held_out)
    assert pickle.loads(pickle.dumps(train.reader)).read(train.images[0].key)  # noqa: S301


def test_a_benchmark_without_validation_images_says_what_to_do(tmp_path):
    config = data_config("caltech101", layouts.caltech101(tmp_path))
    train = load_dataset(config)
    assert not has_held_out(config, "validation")
    with pytest.raises(ConfigError, match=r"caltech101 has no validation images of its own: set data\.split"):
        load_held_out(config, "validation", train, make_split(train, None))


VOC = "VOCdevkit/VOC2012"
PIECES = {
    "imagenet-lt": ("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt", "train", "val"),
    "places-lt": ("Places_LT_v2", "Places_LT_v2/Places_LT_test.txt", "data_256", "val_256"),
    "pascal-voc": (
        VOC,
        f"{VOC}/ImageSets",
        f"{VOC}/ImageSets/Segmentation/val.txt",
        f"{VOC}/JPEGImages",
        f"{VOC}/SegmentationClass",
        f"{VOC}/SegmentationObject",
    ),
    "coco": ("annotations", "annotations/instances_val2017.json", "train2017", "val2017"),
    "caltech101": ("101_ObjectCategories",),
    "flowers102": ("imagelabels.mat", "setid.mat", "jpg"),
}


def test_every_missing_piece_gives_the_layout_and_the_download(copy):
    name, root = copy
    benchmark = get_benchmark(name)
    for piece in (".", *PIECES[name]):
        entry = root / piece
        aside = root.parent / "aside"
        shutil.move(entry, aside)
        with pytest.raises(DatasetError) as caught:
            for role in benchmark.roles:
                list_benchmark(name, root, role)
        shutil.move(aside, entry)
        message = str(caught.value)
        assert message.startswith(f"{benchmark.title}: ")
        assert " no " in message.splitlines()[0]
        assert entry.name in message
        for line in (*benchmark.layout, *benchmark.download, "docs/benchmarks.md"):
            assert line in message


def test_small_copies_are_said_to_differ_from_the_official_sizes(copy, caplog):
    name, root = copy
    with caplog.at_level(logging.WARNING, "augcond"):
        list_benchmark(name, root)
    assert f"{name}, role train: " in caplog.text
    assert "not the official" in caplog.text


def test_unknown_names():
    with pytest.raises(ConfigError, match="no benchmark 'imagenet'; known: imagenet-lt, "):
        get_benchmark("imagenet")


def test_class_name_files_go_before_the_benchmarks_own(tmp_path):
    root = layouts.caltech101(tmp_path / "copy")
    names = tmp_path / "names.tsv"
    names.write_text("Faces\ta face\nFaces_easy\tan easy face\naccordion\tan accordion\n")
    assert load_dataset(data_config("caltech101", root, class_names=names)).class_names[0] == "a face"


# ImageNet-LT and Places-LT


def test_imagenet_lt(tmp_path):
    gone = "train/n01440764/n01440764_1.JPEG"
    root = layouts.imagenet_lt(tmp_path, {0: 20, 1: 3, 2: 2, 999: 1}, missing=[gone])
    dataset = load_dataset(data_config("imagenet-lt", root))
    assert dataset.classes == ("n01440764", "n01443537", "n01484850", "n15075141")
    assert dataset.class_names[:2] == ("tench, Tinca tinca", "goldfish, Carassius auratus")
    assert dataset.class_names[3] == "toilet tissue, toilet paper, bathroom tissue"
    assert dataset.counts() == [19, 3, 2, 1]
    assert [(file.key, file.label, file.reason) for file in dataset.rejected] == [(gone, 0, "file not found")]
    validation = list_benchmark("imagenet-lt", root, "validation")
    assert labelled(validation)["train/n01484850/n01484850_2.JPEG"] == "n01484850"
    assert [validation.labels.count(label) for label in range(4)] == [1, 1, 1, 1]
    test = list_benchmark("imagenet-lt", root, "test")
    assert labelled(test)["val/n15075141/ILSVRC2012_val_00099901.JPEG"] == "n15075141"
    assert [test.labels.count(label) for label in range(4)] == [2, 2, 2, 2]


def test_imagenet_lt_counts_are_checked_class_by_class(tmp_path):
    root = layouts.imagenet_lt(tmp_path, {0: 50, 1: 3})
    assert find_role("imagenet-lt", root, "train").notes == (
        "53 images listed in ImageNet_LT_train.txt, not the official 115,846",
        "2 classes, not the official 1,000",
        "999 classes differ from the official counts: label 1 has 3 images, not 250, label 2 has 0 images, not 516, "
        "label 3 has 0 images, not 352 and 996 more",
    )


def test_the_shipped_facts_are_the_official_ones():
    counts = official_counts()
    assert (len(counts), sum(counts), min(counts), max(counts)) == (1000, 115_846, 5, 1280)
    assert [sum(n > 100 for n in counts), sum(20 <= n <= 100 for n in counts), sum(n < 20 for n in counts)] == [
        385,
        479,
        136,
    ]
    assert sum(1280 - n for n in counts) == 1_164_154
    assert len(class_texts()) == 1000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/n01440764/x.JPEG 1000", "label '1000'; the official list has 0 to 999"),
        ("train/n01443537/x.JPEG 0", "label 0 stands for n01440764 and for n01443537"),
        ("train/n01440764/x.JPEG 7", "the class n01440764 has two labels"),
        ("train/tench/x.JPEG 7", "train/tench/x.JPEG names no class"),
        ("images/n01440765/x.JPEG 7", "names images in images/, but .* has no such folder"),
    ],
)
def test_other_lists_than_the_official_one_are_refused(tmp_path, line, message):
    root = layouts.imagenet_lt(tmp_path)
    with (root / "ImageNet_LT_train.txt").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DatasetError, match=message):
        list_benchmark("imagenet-lt", root)


def test_labels_that_only_the_test_list_has_are_refused(tmp_path):
    root = layouts.imagenet_lt(tmp_path)
    (root / "ImageNet_LT_test.txt").write_text("val/n01440764/x.JPEG 5\n")
    with pytest.raises(DatasetError, match=r"ImageNet_LT_test.txt: label 5 is none of the training list's"):
        list_benchmark("imagenet-lt", root, "test")


def test_places_lt(tmp_path):
    root = layouts.places_lt(tmp_path)
    train = list_benchmark("places-lt", root)
    assert train.classes == ("airfield", "apartment_building-outdoor", "zen_garden")
    assert train.class_names == ("airfield", "apartment building outdoor", "zen garden")
    assert [train.labels.count(label) for label in range(3)] == [4, 2, 1]
    assert labelled(list_benchmark("places-lt", root, "test")) == {
        "val_256/Places365_val_00000001.jpg": "airfield",
        "val_256/Places365_val_00000002.jpg": "apartment_building-outdoor",
        "val_256/Places365_val_00000003.jpg": "zen_garden",
    }
    assert (
        labelled(list_benchmark("places-lt", root, "validation"))["data_256/z/zen_garden/00000002.jpg"] == "zen_garden"
    )


# PASCAL VOC


def test_pascal_voc_takes_the_largest_object(tmp_path):
    scenes = {
        # 6 x 6 beats 5 x 7, though two dogs together are larger.
        "2007_000001": layouts.voc_masks([("dog", (0, 0, 5, 7)), ("dog", (6, 0, 11, 7)), ("cat", (12, 0, 18, 6))]),
        # The border eats the larger one: 100 - 70 pixels against 36.
        "2007_000002": layouts.voc_masks([("cat", (12, 0, 18, 6)), ("sofa", (0, 0, 10, 10))], void=(0, 0, 10, 7)),
        # A hundred void and background pixels are no object.
        "2007_000003": layouts.voc_masks([("tvmonitor", (20, 0, 21, 1))], void=(0, 0, 20, 16)),
        # Of equals the first.
        "2007_000004": layouts.voc_masks([("person", (0, 0, 4, 4)), ("bus", (8, 0, 12, 4))]),
        # What covers another takes its pixels.
        "2007_000005": layouts.voc_masks([("diningtable", (0, 0, 10, 10)), ("pottedplant", (0, 0, 10, 6))]),
        "2007_000006": layouts.voc_masks([], void=(0, 0, 3, 3)),
        "2007_000007": layouts.voc_masks([("car", (0, 0, 4, 4))]),
    }
    root = layouts.pascal_voc(tmp_path, {"train": scenes, "val": {}})
    home = root / "VOCdevkit/VOC2012"
    (home / "SegmentationObject/2007_000007.png").unlink()
    listing = list_benchmark("pascal-voc", root)
    assert labelled(listing) == {
        "JPEGImages/2007_000001.jpg": "cat",
        "JPEGImages/2007_000002.jpg": "cat",
        "JPEGImages/2007_000003.jpg": "tvmonitor",
        "JPEGImages/2007_000004.jpg": "person",
        "JPEGImages/2007_000005.jpg": "pottedplant",
    }
    assert [(file.key, file.reason) for file in listing.rejected] == [
        ("JPEGImages/2007_000006.jpg", "its masks show no object"),
        ("JPEGImages/2007_000007.jpg", "no mask in SegmentationObject"),
    ]
    assert len(listing.classes) == 20
    assert [listing.class_names[listing.classes.index(name)] for name in ("diningtable", "tvmonitor", "aeroplane")] == [
        "dining table",
        "tv monitor",
        "aeroplane",
    ]
    assert labelled(list_benchmark("pascal-voc", home)) == labelled(listing)
    with pytest.raises(DatasetError, match="no images for test"):
        list_benchmark("pascal-voc", root, "test")


def test_the_two_masks_may_differ_at_a_border():
    objects, classes = layouts.voc_masks([("dog", (0, 0, 4, 4))])
    classes[0, :4] = 255
    classes[1, 0] = 8
    assert largest_object(objects, classes) == 12
    assert largest_object(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)) is None


def test_masks_that_were_converted_are_refused(tmp_path):
    root = layouts.pascal_voc(tmp_path)
    path = root / "VOCdevkit/VOC2012/SegmentationClass/2007_000003.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path)
    with pytest.raises(DatasetError, match=r"2007_000003.png: a mask of mode RGB, not of palette indices"):
        list_benchmark("pascal-voc", root)
    layouts.save_mask(path, np.full((16, 24), 33, np.uint8))
    with pytest.raises(DatasetError, match=r"2007_000003.png: colour index 33 is no class of VOC"):
        list_benchmark("pascal-voc", root)


# COCO


def test_coco_takes_the_largest_annotation_that_is_no_crowd(tmp_path):
    images = [
        [(1, 10.0, 0), (18, 12.5, 0), (3, 11.0, 0)],
        [(1, 900.0, 1), (3, 2.0, 0)],
        [(1, 900.0, 1)],
        [],
        [(90, 5.0, 0), (1, 5.0, 0)],
    ]
    root = layouts.coco(tmp_path, {"train2017": images, "val2017": [[(18, 1.0, 0)]]})
    listing = list_benchmark("coco", root)
    assert labelled(listing) == {
        "train2017/000000000009.jpg": "dog",
        "train2017/000000000018.jpg": "car",
        "train2017/000000000045.jpg": "toothbrush",
    }
    assert listing.classes == listing.class_names == ("person", "car", "dog", "toothbrush")
    assert labelled(list_benchmark("coco", root, "test")) == {"val2017/000000000010.jpg": "dog"}
    assert find_role("coco", root, "test").notes[0] == "1 images in instances_val2017.json, not the official 5,000"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}'])
def test_damaged_coco_annotations_are_refused(tmp_path, content):
    root = layouts.coco(tmp_path)
    (root / "annotations/instances_train2017.json").write_text(content)
    with pytest.raises(
        DatasetError, match=r"instances_train2017.json is no file of COCO instances|no images for train"
    ):
        list_benchmark("coco", root)


def test_two_coco_categories_of_one_name_are_refused_before_anything_is_made(tmp_path):
    root = layouts.coco(tmp_path)
    path = root / "annotations/instances_train2017.json"
    values = json.loads(path.read_text())
    values["categories"][2]["name"] = values["categories"][0]["name"]
    path.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=r"two categories called 'person' \(ids 1 and \d+\): give each a name"):
        list_benchmark("coco", root)


@pytest.mark.parametrize(("name", "module"), [("coco", "pycocotools.coco"), ("flowers102", "scipy.io")])
def test_a_missing_extra_names_its_pip_command(tmp_path, monkeypatch, name, module):
    root = layouts.LAYOUTS[name](tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'augcond\[benchmarks\]'"):
        list_benchmark(name, root)


def test_coco_prints_nothing(tmp_path, capsys):
    list_benchmark("coco", layouts.coco(tmp_path))
    assert capsys.readouterr().out == ""


# Caltech101 and Flowers102


def test_caltech101_without_background_in_halves(tmp_path):
    root = layouts.caltech101(tmp_path)
    train, test = list_benchmark("caltech101", root), list_benchmark("caltech101", root, "test")
    assert train.classes == test.classes == ("Faces", "Faces_easy", "accordion")
    assert train.class_names == ("faces", "faces easy", "accordion")
    assert [train.labels.count(label) for label in range(3)] == [3, 2, 4]
    assert [test.labels.count(label) for label in range(3)] == [2, 2, 3]
    assert not set(train.keys) & set(test.keys)
    assert len({*train.keys, *test.keys}) == 16
    assert all(key.split("/")[0] == class_id for key, class_id in labelled(train).items())
    assert not train.ignored
    # The same halves on every machine, wherever the copy lies.
    assert test.keys[:2] == list_benchmark("caltech101", root / "101_ObjectCategories", "test").keys[:2]
    assert [key for key in test.keys if key.startswith("Faces/")] == PINNED_HALF


PINNED_HALF = ["Faces/image_0002.jpg", "Faces/image_0004.jpg"]


def test_flowers102(tmp_path):
    #        image 1  2   3  4  5  6    7
    labels = [102, 5, 5, 1, 1, 102, 5]
    root = layouts.flowers102(tmp_path, labels, {"trnid": [6, 2], "valid": [4], "tstid": [7, 1, 3, 5]})
    assert labelled(list_benchmark("flowers102", root)) == {
        "jpg/image_00002.jpg": "005",
        "jpg/image_00004.jpg": "001",
        "jpg/image_00006.jpg": "102",
    }
    test = list_benchmark("flowers102", root, "test")
    assert labelled(test) == {
        "jpg/image_00001.jpg": "102",
        "jpg/image_00003.jpg": "005",
        "jpg/image_00005.jpg": "001",
        "jpg/image_00007.jpg": "005",
    }
    assert [test.class_names[label] for label in (0, 4, 101)] == [
        "pink primrose",
        "english marigold",
        "blackberry lily",
    ]


def test_flower_files_that_do_not_fit_are_refused(tmp_path):
    root = layouts.flowers102(tmp_path, [1, 2], {"trnid": [1], "valid": [3], "tstid": [2]})
    with pytest.raises(DatasetError, match=r"names images 1 to 3, but imagelabels.mat has 2: download both anew"):
        list_benchmark("flowers102", root)
    layouts.flowers102(tmp_path, [0, 2], {"trnid": [1], "valid": [2], "tstid": [2]})
    with pytest.raises(DatasetError, match="labels from 0 to 2, not 1 to 102"):
        list_benchmark("flowers102", root)
    (root / "imagelabels.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(DatasetError, match=r"imagelabels.mat holds no 'labels' .* download it anew"):
        list_benchmark("flowers102", root)


def test_the_default_flowers_have_every_class_in_every_part(tmp_path):
    root = layouts.flowers102(tmp_path)
    assert json.dumps(sorted(set(list_benchmark("flowers102", root).labels))) == json.dumps(list(range(102)))


def test_a_picture_that_a_benchmark_holds_twice_is_a_warning_and_one_of_your_own_an_error(tmp_path, caplog):
    root = layouts.caltech101(tmp_path)
    config = data_config("caltech101", root)
    train = load_dataset(config)
    test = list_benchmark("caltech101", root, "test")
    home = root / "101_ObjectCategories"
    shutil.copy(home / train.images[0].key, home / test.keys[0])
    held_out = load_held_out(config, "test", train, make_split(train, None))
    with caplog.at_level(logging.WARNING, "augcond.training"):
        check_apart(train, held_out, "test", official=True)
    assert "1 test images of the benchmark are byte for byte training images too" in caplog.text
    with pytest.raises(LeakError, match="1 test images are training images too"):
        check_apart(train, held_out, "test")
    with pytest.raises(LeakError):
        check_apart(train, train, "test", official=True)
