"""Makes small copies of the benchmarks in their official layouts: same names, same formats, few tiny images.

Run `python -m tests.datasets.layouts FOLDER` to look at them.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from augcond.datasets.benchmarks.flower_names import FLOWER_NAMES
from augcond.datasets.benchmarks.pascal_voc import CLASSES as VOC_CLASSES

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

VOC_SIZE = (24, 16)  # width, height


def jpeg(seed: int, size: tuple[int, int] = (24, 16)) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# ImageNet-LT and Places-LT: list files beside the images.

WORDNET_IDS = {0: "n01440764", 1: "n01443537", 2: "n01484850", 999: "n15075141"}


def imagenet_lt(root: Path, counts: Mapping[int, int] | None = None, missing: Sequence[str] = ()) -> Path:
    """Write ImageNet-LT with so many training images by label, one validation and two test images per class.

    Validation images come from the training folder, as in the official lists, and test images from `val/`.
    """
    counts = counts or {0: 5, 1: 3, 2: 2, 999: 1}
    seed = 0
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, count in counts.items():
        wnid = WORDNET_IDS[label]
        train = [f"train/{wnid}/{wnid}_{number}.JPEG" for number in range(count + 1)]
        test = [f"val/{wnid}/ILSVRC2012_val_{label:06d}{number:02d}.JPEG" for number in range(2)]
        for path in (*train, *test):
            seed += 1
            if path not in missing:
                put(root / path, jpeg(seed))
        lists["train"] += [f"{path} {label}" for path in train[:-1]]
        lists["val"].append(f"{train[-1]} {label}")
        lists["test"] += [f"{path} {label}" for path in test]
    for role, lines in lists.items():
        put(root / f"ImageNet_LT_{role}.txt", "\n".join(lines) + "\n")
    return root


SCENES = ("airfield", "apartment_building/outdoor", "zen_garden")


def places_lt(root: Path) -> Path:
    """Write Places-LT with 4, 2 and 1 training images; test images lie in one folder, as in the official layout."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, (scene, count) in enumerate(zip(SCENES, (4, 2, 1), strict=True)):
        folder = f"data_256/{scene[0]}/{scene}"
        for number in range(count + 1):
            put(root / folder / f"{number + 1:08d}.jpg", jpeg(10 * label + number))
            lists["train" if number < count else "val"].append(f"{folder}/{number + 1:08d}.jpg {label}")
        name = f"val_256/Places365_val_{label + 1:08d}.jpg"
        put(root / name, jpeg(100 + label))
        lists["test"].append(f"{name} {label}")
    for role, lines in lists.items():
        put(root / "Places_LT_v2" / f"Places_LT_{role}.txt", "\n".join(lines) + "\n")
    return root


# PASCAL VOC: palette masks of objects and classes.


def voc_palette() -> list[int]:
    """Return the 256 colours of VOC's masks, as its development kit defines them."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        bits = index
        for shift in range(7, -1, -1):
            red |= (bits & 1) << shift
            green |= (bits >> 1 & 1) << shift
            blue |= (bits >> 2 & 1) << shift
            bits >>= 3
        colours += [red, green, blue]
    return colours


def voc_masks(objects: Sequence[tuple[str, Box]], void: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return object and class mask (H, W) of a scene; later boxes cover earlier ones, `void` covers all."""
    width, height = VOC_SIZE
    both = np.zeros((2, height, width), np.uint8)
    for index, (class_id, (left, top, right, bottom)) in enumerate(objects, start=1):
        both[0, top:bottom, left:right] = index
        both[1, top:bottom, left:right] = VOC_CLASSES.index(class_id) + 1
    if void:
        left, top, right, bottom = void
        both[:, top:bottom, left:right] = 255
    return both[0], both[1]


def save_mask(path: Path, mask: np.ndarray) -> None:
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    put(path, buffer.getvalue())


Masks = tuple[np.ndarray, np.ndarray]


def pascal_voc(root: Path, sets: Mapping[str, Mapping[str, Masks]] | None = None) -> Path:
    """Write VOC 2012 with these scenes by set (`train`, `val`) and image; by default two and one of every class."""
    home = root / "VOCdevkit" / "VOC2012"
    if sets is None:
        whole: Box = (2, 2, 20, 14)
        sets = {
            name: {
                f"{year}_{number:06d}": voc_masks([(class_id, whole)])
                for number, class_id in enumerate(VOC_CLASSES * times)
            }
            for name, year, times in (("train", 2007, 2), ("val", 2008, 1))
        }
    for name, scenes in sets.items():
        put(home / "ImageSets" / "Segmentation" / f"{name}.txt", "".join(f"{image}\n" for image in scenes))
        for seed, (image, (objects, classes)) in enumerate(scenes.items()):
            put(home / "JPEGImages" / f"{image}.jpg", jpeg(seed + 1000 * (name == "val"), VOC_SIZE))
            save_mask(home / "SegmentationObject" / f"{image}.png", objects)
            save_mask(home / "SegmentationClass" / f"{image}.png", classes)
    return root


# COCO: instances in JSON.

COCO_CATEGORIES = {1: "person", 3: "car", 18: "dog", 90: "toothbrush"}
"""Four of the 80; their official numbers have gaps."""

Annotation = tuple[int, float, int]
"""Category, area, whether it is a crowd."""


def coco(root: Path, sets: Mapping[str, Sequence[Sequence[Annotation]]] | None = None) -> Path:
    """Write COCO 2017 with these annotations by set and image; by default two train and one val image per class."""
    if sets is None:
        one: list[list[Annotation]] = [[(number, 50.0, 0)] for number in COCO_CATEGORIES]
        sets = {"train2017": one * 2, "val2017": one}
    for name, images in sets.items():
        values: dict[str, Any] = {
            "info": {"description": "COCO 2017 Dataset", "year": 2017},
            "licenses": [],
            "images": [],
            "annotations": [],
            "categories": [{"supercategory": "x", "id": n, "name": text} for n, text in COCO_CATEGORIES.items()],
        }
        for index, entries in enumerate(images):
            number = 9 * (index + 1) + (name == "val2017")
            values["images"].append({"id": number, "file_name": f"{number:012d}.jpg", "width": 24, "height": 16})
            put(root / name / f"{number:012d}.jpg", jpeg(number))
            for category, area, crowd in entries:
                box = {"bbox": [0.0, 0.0, area, 1.0], "segmentation": [[0, 0, area, 0, area, 1]]}
                ids = {"id": len(values["annotations"]) + 1, "image_id": number, "category_id": category}
                values["annotations"].append({**ids, "area": area, "iscrowd": crowd, **box})
        put(root / "annotations" / f"instances_{name}.json", json.dumps(values))
    return root


# Caltech101: class folders, one of them background.


def caltech101(root: Path, counts: Mapping[str, int] | None = None) -> Path:
    """Write Caltech101 with so many images per class; BACKGROUND_Google is always there."""
    counts = counts or {"Faces": 5, "Faces_easy": 4, "accordion": 7}
    seed = 0
    for name, count in {**counts, "BACKGROUND_Google": 4}.items():
        for number in range(count):
            seed += 1
            put(root / "101_ObjectCategories" / name / f"image_{number + 1:04d}.jpg", jpeg(seed))
    put(root / "101_ObjectCategories" / "BACKGROUND_Google" / "tmp", "")
    return root


# Flowers102: labels and split in MATLAB files.


def flowers102(
    root: Path, labels: Sequence[int] | None = None, roles: Mapping[str, Sequence[int]] | None = None
) -> Path:
    """Write Flowers102 with these labels (1 to 102) of images 1, 2, ... and these image numbers by role.

    By default one image of every class in each of trnid, valid and tstid.
    """
    if labels is None or roles is None:
        count = len(FLOWER_NAMES)
        labels = [*range(1, count + 1)] * 3
        starts = {"tstid": 1, "trnid": count + 1, "valid": 2 * count + 1}
        roles = {name: range(start, start + count) for name, start in starts.items()}
    for number in range(1, len(labels) + 1):
        put(root / "jpg" / f"image_{number:05d}.jpg", jpeg(number))
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    savemat(root / "setid.mat", {name: np.array([list(numbers)], np.uint16) for name, numbers in roles.items()})
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "imagenet-lt": imagenet_lt,
    "places-lt": places_lt,
    "pascal-voc": pascal_voc,
    "coco": coco,
    "caltech101": caltech101,
    "flowers102": flowers102,
}


if __name__ == "__main__":
    for name, make in LAYOUTS.items():
        print(make(Path(sys.argv[1]) / name))  # noqa: T201
