"""Folders that are no classes, files that are no photos: refused with what to give, skipped and said, or warned of."""

from __future__ import annotations

import re

import pytest

from augcond.datasets import list_folder
from augcond.errors import DatasetError


def files(*patterns: str) -> tuple[str, ...]:
    """Return the names that patterns such as `{train,test}/{cat,dog}/{1,2}.jpg` stand for."""
    names: list[str] = []
    for pattern in patterns:
        head, brace, rest = pattern.partition("{")
        if not brace:
            names.append(pattern)
            continue
        choices, _, tail = rest.partition("}")
        names += (head + choice + end for choice in choices.split(",") for end in files(tail))
    return tuple(names)


def make(root, *patterns):
    for name in files(*patterns):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


REFUSED = {
    "udemy: splits and single images": (
        ("{training_set,test_set}/{cats,dogs}/{1,2}.jpg", "single_prediction/x.jpg"),
        "look like splits.*such as .*/training_set ",
    ),
    "three splits and one more folder": (
        ("{train,valid,test}/{cat,dog}/{1,2}.jpg", "extra/1.jpg"),
        "look like splits.*/train ",
    ),
    "three splits and notes": (("{Train,Val}/{a,b}/1.jpg", "docs/readme.txt"), "look like splits.*/Train "),
    "test images lie flat": (("train/{cat,dog}/1.jpg", "test/{1,2}.jpg"), "look like splits.*/train "),
    "camel case": (("{imagesTraining,imagesTest,trainSet,testSet}/{a,b}/1.jpg",), "look like splits.*/trainSet "),
    "splits of one class": (("{train,test}/cat/1.jpg",), "look like splits.*/train "),
    "splits of other depths": (("train/birds/{a,b}/1.jpg", "test/birds/{a,b}/2.jpg"), "look like splits.*/train "),
    "numbered splits": (("{train_1,train_2,test_1}/{a,b}/1.jpg",), "look like splits.*/train_1 "),
    "splits inside classes": (
        ("{cat,dog}/{train,test}/1.jpg",),
        r"hold splits \(cat/test, cat/train\).*folder of its own",
    ),
    "an anomaly set": (
        ("{bottle,cable}/{train,test}/good/1.png", "{bottle,cable}/ground_truth/broken/1.png"),
        "hold splits",
    ),
    "test images inside every class": (("{cat,dog}/{1,2}.jpg", "{cat,dog}/test/3.jpg"), "hold splits"),
    "splits below a wrapper": (
        ("set/{train,test}/{a,b}/1.jpg",),
        "hold splits.*give one of them, such as .*/set/train ",
    ),
    "a wrapper": (
        ("PetImages/{Cat,Dog}/{1,2}.jpg", "readme.txt"),
        r"inside PetImages \(Cat, Dog\).*give .*/PetImages ",
    ),
    "a wrapper and what a Mac adds": (
        ("archive/pets/{cat,dog}/1.jpg", "__MACOSX/archive/pets/cat/1.jpg"),
        "give .*/archive/pets ",
    ),
    "boxes of YOLO": (
        ("images/{1,2,3}.jpg", "labels/{1,2,3}.txt"),
        "labels in .* holds files about the images in images",
    ),
    "boxes of VOC": (
        ("JPEGImages/{1,2}.jpg", "Annotations/{1,2}.xml"),
        "Annotations in .* holds files about the images",
    ),
    "boxes under another name": (
        ("pics/{1,2}.jpg", "boxes_of_pics/{1,2}.json"),
        "boxes_of_pics in .* holds files about",
    ),
    "masks": (("images/{1,2}.png", "masks/{1,2}.png"), "masks in .* holds files about the images in images"),
    "masks of another kind": (("cars/{a,b}.jpg", "ground truth/{a,b}.png"), "ground truth in .* holds files about"),
    "YOLO inside splits": (("{train,valid}/images/1.jpg", "{train,valid}/labels/1.txt"), "look like splits.*/train "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_certainly_no_class_is_refused_with_what_to_give(case, tmp_path):
    patterns, message = REFUSED[case]
    with pytest.raises(DatasetError, match=message):
        list_folder(make(tmp_path, *patterns))


WARNED = {
    "an unlabelled folder": (("{cat,dog,_unlabeled}/{1,2}.jpg",), "_unlabeled .2 images. is taken for a class"),
    "unsorted in words": (("{cat,dog,not sorted}/1.jpg",), "not sorted .1 images"),
    "a new folder": (("{cat,dog,New Folder (2)}/1.jpg",), r"New Folder \(2\) "),
    "a class copied": (("{cat,dog,cat - Copy}/1.jpg",), "cat - Copy looks like a copy of the class cat"),
    "a class backed up": (("{cat,dog,dog_old}/1.jpg",), "dog_old looks like a copy of the class dog"),
    "splits without classes": (("{train2017,val2017}/{1,2}.jpg",), r"called like splits \(train2017, val2017\)"),
    "cameras around classes": (("{north,south}/{cat,dog}/1.jpg",), r"the same folders \(cat, dog\) lie in 2 classes"),
    "depth maps": (("photo/{a,b,c}.jpg", "far/{a,b,c}.png"), "hold files of the same 3 names"),
    "masks beside photos": (
        ("{benign,normal}/x ({1,2,3}).png", "benign/x ({1,2,3})_mask.png"),
        r"3 images are called .* with another ending '_mask'",
    ),
    "photos in two kinds": (("{cat,dog}/{1,2,3}.{jpg,png}",), "6 images are called .* with another suffix"),
    "thumbnails with their size": (
        ("{cat,dog}/{a,b,c}.jpg", "cat/a-150x100.jpg", "cat/{b,c}-100x150.jpg"),
        "3 images are called .*-0x0",
    ),
    "a folder of edited copies": (
        ("{cat,dog}/{1,2}.jpg", "cat/edited/{1,2}.jpg"),
        "cat/edited: images called like those",
    ),
    "masks beside a folder of photos": (
        ("{cat,dog}/{rgb,masks}/{1,2}.png",),
        "cat/masks, dog/masks: images called like",
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_looks_wrong_is_said(case, tmp_path):
    patterns, message = WARNED[case]
    listing = list_folder(make(tmp_path, *patterns))
    assert len(listing.keys) == len(files(*patterns))
    assert re.search(message, "\n".join(listing.warnings))


SKIPPED = {
    "@eaDir": (("cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",), "cat/@eaDir"),
    "thumbnails of an unknown indexer": (("cat/index/1.jpg/small.jpg",), "cat/index/1.jpg"),
    "thumbs": (("cat/thumbs/{1,2}.jpg",), "cat/thumbs"),
    "previews of one in two": (("cat/Previews/1.jpg",), "cat/Previews"),
    "__MACOSX": (("__MACOSX/cat/1.jpg",), "__MACOSX"),
    "checkpoints of notebooks": ((".ipynb_checkpoints/1.jpg",), ".ipynb_checkpoints"),
    "checkpoints inside a class": (("cat/.ipynb_checkpoints/1.jpg",), "cat/.ipynb_checkpoints"),
    "a bin": (("$RECYCLE.BIN/{1,2}.jpg",), "$RECYCLE.BIN"),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_systems_leave_is_skipped_and_said(case, tmp_path):
    patterns, path = SKIPPED[case]
    listing = list_folder(make(tmp_path, "{cat,dog}/{1,2}.jpg", *patterns))
    assert listing.keys == files("{cat,dog}/{1,2}.jpg")
    assert [entry.path for entry in listing.skipped] == [path]
    assert listing.skipped[0].reason


def test_a_set_that_is_as_it_should_be_is_left_alone(tmp_path):
    """Words that splits, masks and thumbnails are called by are names of classes too."""
    make(
        tmp_path,
        *("{mask,no_mask,train,testudo,small dog,label}/{1,2,3,4}.jpg", "test tube/img_{1,2,3}.jpg", "copy/1.jpg"),
        *(
            "cat/indoor/{1,2}.jpg",
            "cat/{1,2} (1).jpg",
            "dog/left/a.png",
            "dog/right/b.png",
            "ground beetle/x.{jpg,png}",
        ),
    )
    listing = list_folder(tmp_path)
    assert (listing.warnings, listing.skipped) == ((), ())
    assert listing.classes == (
        *(
            "cat",
            "copy",
            "dog",
            "ground beetle",
            "label",
            "mask",
            "no_mask",
            "small dog",
            "test tube",
            "testudo",
            "train",
        ),
    )
