"""Everything cheap is checked before anything dear: what would stop a run in some hours is found in a second.

Every stage of the pipeline calls `ensure_ready` first; `augcond run --dry` shows the same problems. A check is a
function that is given a `Look` and yields problems, and an entry of `_CHECKS`. None decodes an image, loads weights or
fetches anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from augcond.checks.data import check_extras, check_held_out, check_plan, check_real_images
from augcond.checks.generation import check_names, check_place, check_room, check_weights
from augcond.checks.look import EVERYTHING, Listed, Look, Problem, Work
from augcond.checks.prompts import check_prompts, check_toy
from augcond.checks.training import check_arms, check_counts, check_screening

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.datasets.base import HeldOut

__all__ = ["EVERYTHING", "Listed", "Look", "Problem", "Work", "check_run", "ensure_ready"]

logger = logging.getLogger(__name__)

_CHECKS: tuple[Callable[[Look], Iterator[Problem]], ...] = (
    check_place,
    check_names,
    check_extras,
    check_real_images,
    check_plan,
    check_held_out,
    check_toy,
    check_prompts,
    check_weights,
    check_arms,
    check_counts,
    check_screening,
    check_room,
)


def check_run(look: Look) -> list[Problem]:
    """Return what would stop the work on a run, and what is missing that it can fetch or do without."""
    return list(dict.fromkeys(problem for check in _CHECKS for problem in check(look)))


def ensure_ready(config: RunConfig, work: Collection[Work], on: HeldOut = "test", listed: Listed | None = None) -> None:
    """Raise what `check_run` finds that would stop the work, all of it in one message; log the rest.

    Args:
        config: the run.
        work: what is to be done; see `Look.trains` for when that is reason to look at training.
        on: which images models are to be judged on.
        listed: see `Look`.

    Raises:
        AugcondError: of the type of the first problem.
    """
    problems = check_run(Look(config, work, on, listed))
    details = dict.fromkeys(problem.detail for problem in problems if problem.error is not None)
    for problem in problems:
        if problem.error is not None:
            raise problem.error("\n".join(details))
    for problem in problems:
        logger.warning("%s: %s", problem.what, problem.detail)
