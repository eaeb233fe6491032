"""One static page that shows a run: what went in, what was made, whether it helped, and what it cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augcond.report.build import ReportSettings, write_report

__all__ = ["ReportSettings", "write_report"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: jinja2, matplotlib and torch take longer to import than `augcond --help` may take.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("augcond.report.build"), name)
