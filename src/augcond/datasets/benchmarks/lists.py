"""Long-tailed benchmarks that are official list files beside an image folder: lines such as `train/x.JPEG 0`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from augcond.datasets.base import Role
from augcond.datasets.benchmarks.base import Found, MissingDataError, differs, first_folder, require
from augcond.datasets.listfile import list_from_file
from augcond.datasets.readers import FileReader
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.datasets.base import Listing


@dataclass(frozen=True, slots=True)
class ListFiles:
    """The list files of one benchmark.

    Attributes:
        files: file name of each role.
        folders: where below the root they may lie.
        sizes: official number of lines of each role.
        classes: official number of classes; labels are 0 .. classes - 1.
        class_id: class id of a training image by its path; None where the path holds none.
        class_name: the words that prompts use, by label and class id.
        counts: official number of training images by label; empty where it is not known.
    """

    files: dict[Role, str]
    folders: tuple[str, ...]
    sizes: dict[Role, int]
    classes: int
    class_id: Callable[[str], str | None]
    class_name: Callable[[int, str], str]
    counts: tuple[int, ...] = ()


def list_part_of(lists: ListFiles, root: Path, role: Role) -> Found:
    """Return one role as its list file names it; the class ids of every role are those of the training list.

    Images that are listed but missing are found to be so when they are read, and rejected one by one.

    Raises:
        MissingDataError: a list file, or a folder that it names, is missing.
        DatasetError: a list file is not the official one.
    """
    require(root)
    folder = first_folder(root, lists.folders, lists.files["train"])
    train = list_from_file(folder / lists.files["train"])
    class_ids = _class_ids(lists, train, folder / lists.files["train"])
    listing = train if role == "train" else list_from_file(require(folder / lists.files[role], "file"))
    for top in sorted({key.split("/", 1)[0] for key in listing.keys}):
        if not (root / top).is_dir():
            raise MissingDataError(
                f"{folder / lists.files[role]} names images in {top}/, but {root} has no such folder"
            )
    order = {label: place for place, label in enumerate(class_ids)}
    labels = [_label(text, lists.classes, folder / lists.files[role]) for text in listing.classes]
    unknown = [label for label in labels if label not in order]
    if unknown:
        raise DatasetError(f"{folder / lists.files[role]}: label {unknown[0]} is none of the training list's")
    notes = differs(f"images listed in {lists.files[role]}", len(listing.keys), lists.sizes[role])
    if role == "train":
        notes = (*notes, *_count_notes(lists, train, class_ids))
    return Found(
        replace(
            listing,
            classes=tuple(class_ids.values()),
            class_names=tuple(lists.class_name(label, class_id) for label, class_id in class_ids.items()),
            labels=tuple(order[labels[place]] for place in listing.labels),
            reader=FileReader(root),
        ),
        notes,
    )


def _class_ids(lists: ListFiles, train: Listing, path: Path) -> dict[int, str]:
    """Return class id by label, in label order, from the paths of the training images."""
    named: dict[int, str] = {}
    for key, place in zip(train.keys, train.labels, strict=True):
        label, class_id = _label(train.classes[place], lists.classes, path), lists.class_id(key)
        if class_id is None:
            raise DatasetError(f"{path}: {key} names no class; expected the official list file")
        if named.setdefault(label, class_id) != class_id:
            raise DatasetError(f"{path}: label {label} stands for {named[label]} and for {class_id} (in {key})")
    twice = [class_id for class_id, count in Counter(named.values()).items() if count > 1]
    if twice:
        raise DatasetError(f"{path}: the class {twice[0]} has two labels")
    return dict(sorted(named.items()))


def _label(text: str, classes: int, path: Path) -> int:
    if not text.isdecimal() or int(text) >= classes:
        raise DatasetError(f"{path}: label {text!r}; the official list has 0 to {classes - 1}")
    return int(text)


def _count_notes(lists: ListFiles, train: Listing, class_ids: dict[int, str]) -> tuple[str, ...]:
    notes = differs("classes", len(class_ids), lists.classes)
    if not lists.counts:
        return notes
    found = Counter(int(train.classes[place]) for place in train.labels)
    wrong = [label for label, count in enumerate(lists.counts) if found[label] != count]
    if not wrong:
        return notes
    shown = _some([f"label {label} has {found[label]} images, not {lists.counts[label]}" for label in wrong])
    return (*notes, f"{len(wrong)} classes differ from the official counts: {shown}")


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
