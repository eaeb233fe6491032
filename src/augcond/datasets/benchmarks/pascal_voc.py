"""PASCAL VOC 2012 as a classification set: the segmentation sets, by the class of the largest object."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from augcond.datasets.base import Listing, RejectedFile, Role
from augcond.datasets.benchmarks.base import Benchmark, Found, differs, first_folder, require
from augcond.datasets.decoding import available_cores
from augcond.datasets.readers import FileReader
from augcond.datasets.text import text_rows
from augcond.errors import DatasetError

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""In the order of their colour indices, 1 to 20."""

_WORDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
_BACKGROUND, _VOID = 0, 255
_SETS: dict[Role, str] = {"train": "train", "test": "val"}
_SIZES: dict[Role, int] = {"train": 1464, "test": 1449}
_FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", ".")


def list_role(root: Path, role: Role) -> Found:
    """Return the images of the segmentation set `train`, or of `val` for the role `test`, labelled by their masks.

    Images whose masks are missing or unreadable are in the listing's `rejected`.

    Raises:
        MissingDataError: a file or folder is missing.
        DatasetError: a mask is no palette image, or names a class that VOC does not have.
    """
    require(root)
    home = first_folder(root, _FOLDERS, "ImageSets")
    names = [text for _, text in text_rows(require(home / "ImageSets/Segmentation" / f"{_SETS[role]}.txt", "file"))]
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        require(home / folder)
    with ThreadPoolExecutor(available_cores()) as pool:
        outcomes = list(pool.map(lambda name: _label_of(home, name), names))
    keys = [f"JPEGImages/{name}.jpg" for name in names]
    listed = [(key, outcome) for key, outcome in zip(keys, outcomes, strict=True) if isinstance(outcome, int)]
    rejected = [RejectedFile(key, -1, why) for key, why in zip(keys, outcomes, strict=True) if isinstance(why, str)]
    return Found(
        Listing(
            classes=CLASSES,
            class_names=tuple(_WORDS.get(name, name) for name in CLASSES),
            keys=tuple(key for key, _ in listed),
            labels=tuple(label for _, label in listed),
            reader=FileReader(home),
            rejected=tuple(rejected),
        ),
        differs(f"images listed in {_SETS[role]}.txt", len(names), _SIZES[role]),
    )


def _label_of(home: Path, name: str) -> int | str:
    """Return the label of one image, or why it has none."""
    masks = []
    for folder in ("SegmentationObject", "SegmentationClass"):
        try:
            masks.append(read_mask(home / folder / f"{name}.png"))
        except FileNotFoundError:
            return f"no mask in {folder}"
        except OSError as error:
            return f"unreadable mask in {folder}: {error.strerror or error}"
    if masks[0].shape != masks[1].shape:
        return "its two masks differ in size"
    index = largest_object(*masks)
    if index is None:
        return "its masks show no object"
    if index > len(CLASSES):
        raise DatasetError(
            f"{home / 'SegmentationClass' / name}.png: colour index {index} is no class of VOC (1 to 20)"
        )
    return index - 1


def read_mask(path: Path) -> np.ndarray:
    """Return the colour indices of a palette PNG, (H, W) uint8.

    Raises:
        OSError: it cannot be read.
        DatasetError: it is no palette image.
    """
    with Image.open(path) as image:
        if image.mode not in ("P", "L"):
            raise DatasetError(
                f"{path}: a mask of mode {image.mode}, not of palette indices (P): extract VOCtrainval_11-May-2012.tar "
                "anew, and do not convert its masks"
            )
        return np.asarray(image, dtype=np.uint8)


def largest_object(objects: np.ndarray, classes: np.ndarray) -> int | None:
    """Return the colour index of the class of the object with the largest mask; None where there is no object.

    Args:
        objects: (H, W) object indices; 0 is background and 255 void (borders, difficult objects).
        classes: (H, W) class indices, likewise.

    Source: DA-Fusion (Trabucco et al. 2023), whose sets the paper uses; of objects of equal size, the first.
    """
    areas = np.bincount(objects.ravel(), minlength=256)
    areas[[_BACKGROUND, _VOID]] = 0
    if not areas.any():
        return None
    # By the most frequent class inside, since at a border the two masks can differ by a pixel.
    inside = np.bincount(classes[objects == int(areas.argmax())], minlength=256)
    inside[[_BACKGROUND, _VOID]] = 0
    return int(inside.argmax()) if inside.any() else None


BENCHMARK = Benchmark(
    name="pascal-voc",
    title="PASCAL VOC 2012",
    classes=20,
    sizes="1,464 / 1,449 images for train / test (the segmentation sets train and val)",
    layout=(
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt, val.txt",
        "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg ...",
        "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png ...",
        "VOCdevkit/VOC2012/SegmentationObject/2007_000032.png ...",
        "(data.path may also be VOCdevkit or VOC2012 itself)",
    ),
    download=("http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar (2 GB)",),
    list_role=list_role,
    roles=("train", "test"),
)
