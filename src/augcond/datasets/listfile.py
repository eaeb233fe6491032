"""List files: one line per image, with its path and its class."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from augcond.datasets.base import DatasetReader, Listing, RejectedFile, Role, path_of
from augcond.datasets.class_names import names_for
from augcond.datasets.formats import IMAGE_SUFFIXES
from augcond.datasets.readers import FileReader
from augcond.datasets.text import csv_rows, text_rows, without_label
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from augcond.config import DataConfig

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img")
LABEL_COLUMNS = ("label", "class", "class_id", "category", "category_id", "target", "y")

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_COMMENTED = re.compile(r"#[^\s#].*\.(\w+)[ \t]+[^ \t]+\s*$")
_LAST_BLANKS = re.compile(r"[ \t]+(?=[^ \t]+$)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Entry:
    line: int
    key: str
    class_id: str


def list_from_file(path: Path, class_names_file: Path | None = None) -> Listing:
    """Return the images that a list file names; no image is opened or looked for.

    Each line is `path label`, split at the last blanks so that paths may hold some. A `.csv` (or `.tsv`) file has a
    header with one of `PATH_COLUMNS` and one of `LABEL_COLUMNS`. Blank lines are skipped, and lines that start with #
    (a path that starts with # is written `./#...`; in a .csv see `csv_rows`). Paths are relative to the list file's
    folder. Labels are class ids: classes are in numeric order where all of them are integers, else sorted by code
    points.

    Args:
        path: the list file, UTF-8.
        class_names_file: see `read_class_names`; without it, prompts use the class ids (`_` as a space).

    Raises:
        DatasetError: the file cannot be read, a line is wrong, or an image is listed twice; file and line are named.
    """
    entries: dict[str, _Entry] = {}
    for entry in _entries(path):
        first = entries.setdefault(entry.key, entry)
        if first is not entry:
            raise DatasetError(_listed_twice(path, first, entry))
    if not entries:
        raise DatasetError(
            f"no images listed in {path}: expected lines such as `photos/a.jpg 0`, "
            "or a .csv file with the columns path,label"
        )
    unlabelled = without_label({entry.class_id for entry in entries.values()})
    rejected = tuple(
        RejectedFile(entry.key, -1, f"no label: {entry.class_id}")
        for entry in entries.values()
        if entry.class_id in unlabelled
    )
    entries = {key: entry for key, entry in entries.items() if entry.class_id not in unlabelled}
    classes = _in_order(path, list(entries.values()))
    index = {class_id: label for label, class_id in enumerate(classes)}
    return Listing(
        classes=classes,
        class_names=names_for(classes, class_names_file),
        keys=tuple(entries),
        labels=tuple(index[entry.class_id] for entry in entries.values()),
        reader=FileReader(path.parent),
        rejected=rejected,
        warnings=_commented_out(path),
    )


def _entries(path: Path) -> Iterator[_Entry]:
    delimiter = _DELIMITERS.get(path.suffix.lower())
    rows = _text_entries(path) if delimiter is None else _csv_entries(path, delimiter)
    for line, image, class_id in rows:
        if not image or not class_id:
            raise DatasetError(f"{path} line {line}: the {'path' if not image else 'label'} is empty")
        if "\0" in image:
            raise DatasetError(f"{path} line {line}: the path holds a NUL character")
        yield _Entry(line, _plain(image), class_id)


def _commented_out(path: Path) -> tuple[str, ...]:
    """Return that lines were taken for comments which look like images."""
    if path.suffix.lower() in _DELIMITERS:
        return ()
    lines = [
        number
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1)
        if (match := _COMMENTED.match(line)) and f".{match.group(1).lower()}" in IMAGE_SUFFIXES
    ]
    if not lines:
        return ()
    return (
        f"{path}: {len(lines)} lines that start with # and name an image, such as line {lines[0]}, are taken for "
        "comments: write ./# where a path starts so, or take them out",
    )


def _plain(path: str) -> str:
    """Return `path` without `.` and doubled or trailing slashes."""
    # A path object per line would take most of the time of a list of 100,000.
    if "//" in path or "./" in path or path.endswith(("/", "/.")):
        return PurePosixPath(path).as_posix()
    return path


def _text_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, text in text_rows(path):
        parts = _LAST_BLANKS.split(text)
        if len(parts) != 2:
            raise DatasetError(f"{path} line {line}: expected `path label`, got {text[:80]!r}")
        yield line, parts[0], parts[1]


def _csv_entries(path: Path, delimiter: str) -> Iterator[tuple[int, str, str]]:
    rows = csv_rows(path, delimiter)
    header = next(rows, None)
    if header is None:
        return
    columns = [cell.strip().lower() for cell in header.cells]
    image = _column(path, header.line, columns, PATH_COLUMNS)
    label = _column(path, header.line, columns, LABEL_COLUMNS)
    for row in rows:
        if len(row.cells) != len(columns):
            raise DatasetError(
                f"{path} line {row.line}: {len(row.cells)} fields, but the header has {len(columns)}; "
                'put fields that hold a separator in double quotes, such as "a,b.jpg"'
            )
        yield row.line, row.cells[image].strip(), row.cells[label].strip()


def _column(path: Path, line: int, columns: Sequence[str], accepted: Sequence[str]) -> int:
    found = [name for name in accepted if name in columns]
    if not found:
        raise DatasetError(
            f"{path} line {line}: the header names no column {accepted[0]!r} (or one of {', '.join(accepted[1:])}); "
            f"it has {', '.join(map(repr, columns))}"
        )
    if columns.count(found[0]) > 1:
        raise DatasetError(f"{path} line {line}: the header names column {found[0]!r} twice")
    return columns.index(found[0])


def _listed_twice(path: Path, first: _Entry, second: _Entry) -> str:
    where = f"{path} line {second.line}: {second.key} was listed before, in line {first.line}"
    if first.class_id == second.class_id:
        return f"{where}; keep one of the two lines"
    return f"{where}, as {first.class_id!r} and now as {second.class_id!r}; keep the line that is right"


def _in_order(path: Path, entries: Sequence[_Entry]) -> tuple[str, ...]:
    """Return the distinct class ids in label order."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        first.setdefault(entry.class_id, entry)
    if not all(_INTEGER.fullmatch(class_id) for class_id in first):
        return tuple(sorted(first))
    spellings: dict[int, _Entry] = {}
    for class_id, entry in first.items():
        other = spellings.setdefault(int(class_id), entry)
        if other is not entry:
            raise DatasetError(
                f"{path} line {entry.line}: label {class_id} is written {other.class_id} in line {other.line}; "
                "write one class in one way"
            )
    return tuple(spellings[number].class_id for number in sorted(spellings))


class ListReader(DatasetReader):
    """`list`: a file that lists images and their classes."""

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images that the file `data.path` lists."""
        return list_from_file(path_of(config))


READER = ListReader()
