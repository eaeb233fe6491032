"""ImageNet-LT: 1,000 classes of ILSVRC 2012 with 5 to 1,280 training images (Liu et al. 2019)."""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any

from augcond.datasets.benchmarks.base import Benchmark
from augcond.datasets.benchmarks.lists import ListFiles, list_part_of

_WORDNET_ID = re.compile(r"(?:^|/)(n[0-9]{8})/[^/]+$")


def official_counts() -> tuple[int, ...]:
    """Return the number of training images of each class, by label; 115,846 in all."""
    return tuple(_shipped("imagenet_lt_class_counts.json"))


def class_texts() -> tuple[str, ...]:
    """Return the text of each class, by label, that the paper's prompts use, such as `tench, Tinca tinca`."""
    return tuple(_shipped("imagenet_class_names.json"))


@lru_cache(maxsize=2)
def _shipped(name: str) -> list[Any]:
    return list(json.loads(files("augcond").joinpath("datasets", "benchmarks", "data", name).read_text("utf-8")))


def _wordnet_id(path: str) -> str | None:
    match = _WORDNET_ID.search(path)
    return match.group(1) if match else None


LISTS = ListFiles(
    files={"train": "ImageNet_LT_train.txt", "validation": "ImageNet_LT_val.txt", "test": "ImageNet_LT_test.txt"},
    folders=(".", "ImageNet_LT"),
    sizes={"train": 115_846, "validation": 20_000, "test": 50_000},
    classes=1000,
    class_id=_wordnet_id,
    class_name=lambda label, _: class_texts()[label],
    counts=official_counts(),
)

BENCHMARK = Benchmark(
    name="imagenet-lt",
    title="ImageNet-LT",
    classes=1000,
    sizes="115,846 / 20,000 / 50,000 images for train / validation / test",
    layout=(
        "ImageNet_LT_train.txt, ImageNet_LT_val.txt, ImageNet_LT_test.txt   (here or in ImageNet_LT/)",
        "train/n01440764/n01440764_190.JPEG ...             (ILSVRC 2012 training images, a folder per class)",
        "val/n01440764/ILSVRC2012_val_00000293.JPEG ...     (ILSVRC 2012 validation images, sorted into class folders)",
    ),
    download=(
        "the images: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org (registration)",
        "the three lists: https://liuziwei7.github.io/projects/LongTail.html",
    ),
    list_role=partial(list_part_of, LISTS),
    roles=("train", "validation", "test"),
    terms="ImageNet's terms of access allow non-commercial research and education only",
)
