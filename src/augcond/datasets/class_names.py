"""Class-name files: the words that prompts use for class ids such as n01440764."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from augcond.datasets.base import names_in
from augcond.datasets.suspicions import comparable
from augcond.datasets.text import csv_rows, text_rows
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ID_COLUMNS = frozenset({"id", "class", "class_id", "label", "wnid"})
_NAME_COLUMNS = frozenset({"name", "class_name", "label_name", "text"})


def names_for(classes: Sequence[str], class_names_file: Path | None, *, several: bool = False) -> tuple[str, ...]:
    """Return the name of every class: from the file, or else the class id with `_` as a space.

    Args:
        classes: ids.
        class_names_file: see `read_class_names`.
        several: a name may hold several, parted by `|`.

    Raises:
        DatasetError: the file cannot be read, or lacks a class. Further classes in it do no harm: one file can serve
            every subset of a dataset.
    """
    if class_names_file is None:
        return tuple(" ".join(class_id.replace("_", " ").split()) or class_id for class_id in classes)
    names = read_class_names(class_names_file)
    by_form = {comparable(class_id): name for class_id, name in names.items()}
    found = [names.get(class_id) or by_form.get(comparable(class_id)) for class_id in classes]
    missing = [class_id for class_id, name in zip(classes, found, strict=True) if name is None]
    unknown = sorted(names.keys() - set(classes))
    if missing:
        near = difflib.get_close_matches(missing[0], unknown, n=1)
        hint = f" (is {near[0]!r} in the file meant to be {missing[0]!r}?)" if near else ""
        raise DatasetError(f"{class_names_file} names no class {_some(missing)}{hint}: add a line for each")
    for class_id, name in zip(classes, found, strict=True):
        if several and "" in names_in(str(name)):
            raise DatasetError(f"{class_names_file}: of the names of {class_id!r} in {name!r}, one is empty")
    return tuple(name for name in found if name is not None)


def read_class_names(path: Path) -> dict[str, str]:
    """Return class id -> name as a class-name file gives them.

    Lines are `id<TAB>name` or `id name of several words`; in a `.csv` file `id,name`, with or without a header.
    Blank lines and lines that start with # are skipped.

    Raises:
        DatasetError: the file cannot be read, or a line lacks an id or a name, or an id comes twice.
    """
    names: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, class_id, name in _pairs(path):
        if not class_id or not name:
            raise DatasetError(f"{path} line {line}: expected a class id and a name, such as `n01440764<TAB>tench`")
        if class_id in names:
            raise DatasetError(f"{path} line {line}: class {class_id!r} was named before, in line {lines[class_id]}")
        names[class_id], lines[class_id] = name, line
    if not names:
        raise DatasetError(f"{path} names no classes: expected lines such as `n01440764<TAB>tench`")
    return names


def _pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    if path.suffix.lower() == ".csv":
        rows = csv_rows(path)
        for index, row in enumerate(rows):
            class_id, name = (cell.strip() for cell in (*row.cells, "")[:2])
            # A class may be called "label"; with a column's name beside it, it is a header.
            if index == 0 and class_id.lower() in _ID_COLUMNS and name.lower() in _NAME_COLUMNS:
                continue
            yield row.line, class_id, " ".join(name.split())
        return
    for line, text in text_rows(path):
        class_id, _, name = text.partition("\t") if "\t" in text else text.partition(" ")
        yield line, class_id.strip(), " ".join(name.split())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
