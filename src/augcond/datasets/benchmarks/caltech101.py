"""Caltech101: 101 classes of objects, without the class of background pictures."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from augcond.datasets.base import Role
from augcond.datasets.benchmarks.base import Benchmark, Found, differs, first_folder, require
from augcond.datasets.folder import list_folder

BACKGROUND = "BACKGROUND_Google"
_HOME = "101_ObjectCategories"
_FOLDERS = (".", "caltech-101", "caltech101")
_CLASSES, _IMAGES = 101, 8_677


def list_role(root: Path, role: Role) -> Found:
    """Return one half of the images of each class; the larger half, where they differ, is for training.

    Caltech101 has no official split; halves per class are what DA-Fusion and the paper use. They are drawn by a hash of
    the file's name, so they are the same on every machine and with every seed.

    Raises:
        MissingDataError: the folder of class folders is missing.
    """
    require(root)
    home = root if root.name == _HOME else first_folder(root, _FOLDERS, _HOME) / _HOME
    whole = list_folder(home)
    kept = [class_id for class_id in whole.classes if class_id != BACKGROUND]
    places = {label: kept.index(class_id) for label, class_id in enumerate(whole.classes) if class_id != BACKGROUND}
    images = [(key, places[label]) for key, label in zip(whole.keys, whole.labels, strict=True) if label in places]
    members: list[list[str]] = [[] for _ in kept]
    for key, label in images:
        members[label].append(key)
    keys = {key for own in members for key in _half(own, role)}
    listing = replace(
        whole,
        classes=tuple(kept),
        class_names=tuple(class_id.lower().replace("_", " ") for class_id in kept),
        keys=tuple(key for key, _ in images if key in keys),
        labels=tuple(label for key, label in images if key in keys),
        rejected=tuple(replace(file, label=places[file.label]) for file in whole.rejected if file.label in places),
        ignored=tuple(name for name in whole.ignored if not name.startswith(f"{BACKGROUND}/")),
    )
    notes = (*differs("classes", len(kept), _CLASSES), *differs("images", len(images), _IMAGES))
    return Found(listing, notes)


def _half(keys: list[str], role: Role) -> list[str]:
    drawn = sorted(keys, key=lambda key: blake2b(key.encode(), person=b"augcond-caltech").digest())
    middle = (len(drawn) + 1) // 2
    return drawn[:middle] if role == "train" else drawn[middle:]


BENCHMARK = Benchmark(
    name="caltech101",
    title="Caltech101",
    classes=_CLASSES,
    sizes="8,677 images, one half of each class for train and one for test",
    layout=(
        f"{_HOME}/accordion/image_0001.jpg ...",
        f"({BACKGROUND} is left out; data.path may also be {_HOME} itself, or hold it in caltech-101/)",
    ),
    download=(
        "caltech-101.zip from https://data.caltech.edu/records/mzrjq-6wc02, and inside it 101_ObjectCategories.tar.gz",
    ),
    list_role=list_role,
    roles=("train", "test"),
)
