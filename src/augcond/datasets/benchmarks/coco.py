"""COCO 2017 as a classification set: by the class of the largest annotated object."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from augcond.datasets.base import Listing, Role
from augcond.datasets.benchmarks.base import Benchmark, Found, differs, require
from augcond.datasets.readers import FileReader
from augcond.errors import DatasetError, MissingExtraError

_SETS: dict[Role, str] = {"train": "train2017", "test": "val2017"}
_SIZES: dict[Role, int] = {"train": 118_287, "test": 5_000}
_CLASSES = 80


def list_role(root: Path, role: Role) -> Found:
    """Return the images of train2017, or of val2017 for the role `test`, by the class of their largest annotation.

    Annotations of crowds (`iscrowd`) do not count; images without any other are left out. Of annotations of equal
    area, the first in the file counts.

    Raises:
        MissingDataError: a file or folder is missing.
        DatasetError: the annotations are damaged.
        MissingExtraError: pycocotools is not installed.
    """
    require(root)
    name = _SETS[role]
    path = require(root / "annotations" / f"instances_{name}.json", "file")
    require(root / name)
    coco = _load(path)
    try:
        categories = [coco.cats[number] for number in sorted(coco.cats)]
        names = tuple(category["name"] for category in categories)
        _check_names(categories, path)
        labels = {category["id"]: label for label, category in enumerate(categories)}
        listed = {}
        for number in sorted(coco.imgs):
            own = [entry for entry in coco.imgToAnns.get(number, ()) if not entry.get("iscrowd")]
            if own:
                largest = max(own, key=lambda entry: float(entry["area"]))
                listed[f"{name}/{coco.imgs[number]['file_name']}"] = labels[largest["category_id"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is no file of COCO instances ({type(error).__name__}: {error})") from error
    listing = Listing(
        classes=names,
        class_names=names,
        keys=tuple(listed),
        labels=tuple(listed.values()),
        reader=FileReader(root),
    )
    notes = differs(f"images in {path.name}", len(coco.imgs), _SIZES[role])
    return Found(listing, (*notes, *differs("classes", len(names), _CLASSES)))


def _check_names(categories: list[dict[str, Any]], path: Path) -> None:
    """Check that classes are told apart by their names, which become those of folders and models.

    Raises:
        DatasetError: two categories have one name, as exports of some tools do.
    """
    numbers: dict[str, int] = {}
    for category in categories:
        name, number = category["name"], category["id"]
        if name in numbers:
            raise DatasetError(
                f"{path} has two categories called {name!r} (ids {numbers[name]} and {number}): give each a name "
                "of its own there, or give all annotations of the one the id of the other"
            )
        numbers[name] = number


def _load(path: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise MissingExtraError(
            "source 'coco' needs pycocotools, which is not installed: pip install 'augcond[benchmarks]'"
        ) from None
    # It prints how far it is, and has no switch for that.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return COCO(str(path))
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise DatasetError(
                f"{path} is no file of COCO instances ({type(error).__name__}: {error}): extract "
                "annotations_trainval2017.zip anew"
            ) from error


BENCHMARK = Benchmark(
    name="coco",
    title="COCO 2017",
    classes=_CLASSES,
    sizes="118,287 / 5,000 images for train / test (train2017 and val2017), those without annotation left out",
    layout=(
        "annotations/instances_train2017.json, annotations/instances_val2017.json",
        "train2017/000000000009.jpg ...",
        "val2017/000000000139.jpg ...",
    ),
    download=(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip (0.24 GB)",
        "http://images.cocodataset.org/zips/train2017.zip (18 GB)",
        "http://images.cocodataset.org/zips/val2017.zip (1 GB)",
    ),
    list_role=list_role,
    roles=("train", "test"),
    modules=("pycocotools",),
)
