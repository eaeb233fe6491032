"""A process that examines images: `python -m augcond.datasets.examiner`, started by `examining.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from augcond.datasets.decoding import leave_large_ones
from augcond.datasets.examining import Outcome, outcome_of
from augcond.errors import LargeImageError
from augcond.processes import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from augcond.datasets.base import DecodeSettings


def examiner(settings: DecodeSettings) -> Callable[[Sequence[bytes]], list[Outcome | None]]:
    """Return what says what came of some images; None of those that are left to the parent."""
    leave_large_ones()

    def outcome(data: bytes) -> Outcome | None:
        try:
            return outcome_of(data, settings)
        except LargeImageError:
            return None

    return lambda block: [outcome(data) for data in block]


if __name__ == "__main__":
    serve(examiner)
