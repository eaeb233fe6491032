"""A process that examines images: `python -m augcond.datasets.examiner`, started by `examining.py`."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from augcond.datasets.decoding import leave_large_ones
from augcond.datasets.examining import Outcome, outcome_of, tell
from augcond.errors import AugcondError, LargeImageError
from augcond.interruption import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.datasets.base import DecodeSettings


def _examine_block(block: Sequence[bytes], settings: DecodeSettings) -> list[Outcome | None]:
    found: list[Outcome | None] = []
    for data in block:
        try:
            found.append(outcome_of(data, settings))
        except LargeImageError:
            found.append(None)
    return found


def main() -> None:
    """Examine what comes over standard input, until it ends."""
    # The parent hears from the terminal, and closes the pipe.
    for number in names("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM"):
        signal.signal(number, signal.SIG_IGN)
    orders = sys.stdin.buffer
    # Whatever a library prints is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    leave_large_ones()
    try:
        settings: DecodeSettings = pickle.load(orders)  # noqa: S301 - of our parent
        while True:
            block: list[bytes] = pickle.load(orders)  # noqa: S301
            try:
                answer: list[Outcome | None] | Exception = _examine_block(block, settings)
            except AugcondError as error:
                answer = error
            except Exception:
                answer = RuntimeError(traceback.format_exc())
            tell(answers, answer)
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
