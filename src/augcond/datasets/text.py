"""Lines and CSV rows of small text files, with their line numbers."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from augcond.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Row:
    """A CSV row.

    Attributes:
        line: number of the (last) line it stands in, from 1.
        cells: its fields, at least one.
    """

    line: int
    cells: tuple[str, ...]


def text_rows(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is neither blank nor a comment (#), stripped of blanks and tabs.

    Raises:
        DatasetError: the file cannot be read.
    """
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip(" \t\r\n")
        if text and not text.startswith("#"):
            yield number, text


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[Row]:
    """Yield the rows of a CSV file but blank ones and comments.

    A comment starts with # and stands before the first row, or has another number of cells than that: labels and paths
    may start with # too.

    Raises:
        DatasetError: the file cannot be read, or is no well-formed CSV; the message names the line.
    """
    lines = _lines(path)
    first = next((place for place, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    # A comment becomes a blank line, not none, so that line numbers stay right.
    reader = csv.reader(chain(["\n"] * first, lines[first:]), delimiter=delimiter, strict=True)
    width = 0
    try:
        for cells in reader:
            width = width or (len(cells) if any(cell.strip() for cell in cells) else 0)
            comment = cells and cells[0].startswith("#") and len(cells) != width
            if any(cell.strip() for cell in cells) and not comment:
                yield Row(reader.line_num, tuple(cells))
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num}: {error}") from error


def _lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text, each with its end. Only newlines end one: names may hold U+2028."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"no file at {path}") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path} line {line}: not UTF-8; save the file as UTF-8") from error
    return [line + "\n" for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n")]


def class_text(value: Any) -> str | None:
    """Return the class id that a stored label stands for; None where it is empty, no number, or holds several.

    Whole floats are written as integers: tables and JSON turn 3 into 3.0 where another row has no label.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value) if isinstance(value, str | int) and value != "" else None


def without_label(class_ids: Collection[str]) -> frozenset[str]:
    """Return those of the distinct class ids that mean no label: -1 beside the number 0, as in hidden test sets."""
    numbered = "0" in class_ids and all(_INTEGER.fullmatch(class_id) for class_id in class_ids)
    return frozenset({"-1"} & set(class_ids)) if numbered else frozenset()


def label_order(class_ids: Iterable[str]) -> tuple[str, ...]:
    """Return class ids in numeric order where all of them are integers, else sorted by code points."""
    distinct = set(class_ids)
    if all(_INTEGER.fullmatch(class_id) for class_id in distinct):
        return tuple(sorted(distinct, key=lambda class_id: (int(class_id), class_id)))
    return tuple(sorted(distinct))
