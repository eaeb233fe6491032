"""A report is replaced once the new one is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_report(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write a report into; it becomes FOLDER/report at the end.

    Where writing fails or is stopped, the report that was there stays.

    Args:
        folder: of a run or a sweep.
    """
    partial = folder / ".report.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    yield partial
    report = _report_folder(folder)
    shutil.rmtree(report, ignore_errors=True)
    partial.rename(report)


def _report_folder(folder: Path) -> Path:
    """Return where the report of a run or a sweep lies."""
    return folder / "report"


def page_path(folder: Path) -> Path:
    """Return where the page of a run or a sweep lies."""
    return _report_folder(folder) / "index.html"
