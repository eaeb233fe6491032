"""What a unit measured, as JSON: one file per unit, written at once when the unit is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from augcond.files import write_atomically

FORMAT = 1
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Record = dict[str, Any]


def record_path(results: Path, name: str) -> Path:
    """Return where the record of the unit `name` lies."""
    return results / f"{name}.json"


def write_record(results: Path, name: str, record: Record) -> None:
    """Write a record, whole or not at all."""
    path = record_path(results, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def read_record(results: Path, name: str) -> Record | None:
    """Return the record of a unit; None where it is not measured.

    Raises:
        ValueError: the file is of another version, or no record.
    """
    path = record_path(results, name)
    return _read(path) if path.exists() else None


def read_records(results: Path) -> Iterator[Record]:
    """Yield all records, sorted by the names of their units.

    Raises:
        ValueError: a file is of another version, or no record.
    """
    for path in sorted(results.rglob("*.json")):
        yield _read(path)


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no record: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path} is no record of format {FORMAT}: move it away and measure it again")
    return record


def pack_labels(labels: list[int]) -> str:
    """Return labels below 36 as one digit each: thousands of them stay one short line.

    Raises:
        ValueError: a label is 36 or more.
    """
    if labels and max(labels) >= len(_DIGITS):
        raise ValueError(f"label {max(labels)}: records hold at most {len(_DIGITS)} classes")
    return "".join(_DIGITS[label] for label in labels)


def unpack_labels(text: str) -> list[int]:
    """Return the labels that `pack_labels` packed."""
    return [_DIGITS.index(digit) for digit in text]
