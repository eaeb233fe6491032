"""Places-LT: 365 classes of Places365 with 5 to 4,980 training images (Liu et al. 2019)."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath

from augcond.datasets.benchmarks.base import Benchmark
from augcond.datasets.benchmarks.lists import ListFiles, list_part_of


def _scene(path: str) -> str | None:
    """Return the class of `data_256/a/apartment_building/outdoor/00000001.jpg`: `apartment_building-outdoor`."""
    folders = PurePosixPath(path).parts[1:-1]
    if folders and len(folders[0]) == 1:  # Places365 sorts its classes by their first letter
        folders = folders[1:]
    return "-".join(folders) or None


LISTS = ListFiles(
    files={"train": "Places_LT_train.txt", "validation": "Places_LT_val.txt", "test": "Places_LT_test.txt"},
    folders=(".", "Places_LT", "Places_LT_v2"),
    sizes={"train": 62_500, "validation": 7_300, "test": 36_500},
    classes=365,
    class_id=_scene,
    class_name=lambda _, class_id: class_id.replace("_", " ").replace("-", " "),
)

BENCHMARK = Benchmark(
    name="places-lt",
    title="Places-LT",
    classes=365,
    sizes="62,500 / 7,300 / 36,500 images for train / validation / test",
    layout=(
        "Places_LT_train.txt, Places_LT_val.txt, Places_LT_test.txt   (here, in Places_LT/ or in Places_LT_v2/)",
        "data_256/a/airfield/00000001.jpg ...    (Places365-Standard, small images, training)",
        "val_256/Places365_val_00000001.jpg ...  (the same, validation)",
    ),
    download=(
        "the images: train_256_places365standard.tar and val_256.tar from http://places2.csail.mit.edu/download.html",
        "the three lists: https://liuziwei7.github.io/projects/LongTail.html",
    ),
    list_role=partial(list_part_of, LISTS),
    roles=("train", "validation", "test"),
    terms="the terms of Places365 allow non-commercial research and education only",
)
