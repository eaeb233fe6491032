"""What a budget buys: how many sets of images each round has, and how many images of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from augcond.errors import ConfigError

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(h?)")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried and trained, beside the images.

    Attributes:
        candidates: at most so many at once, real images alone not counted.
        sets: at most so many sets of images.
        proposed: at most so many of these are proposed by the sampler, once the designed ones are ranked.
        finalists: candidates of the last round: the config as it is, and of each side of the real images its best.
        folds: of each cross-validation, as far as the classes have images.
        trainings: cross-validations of each candidate of the last round; an even number.
        calibrating: candidates that the cheap judge must agree on with training before it ranks any.
    """

    candidates: int = 24
    sets: int = 12
    proposed: int = 3
    finalists: int = 3
    folds: int = 5
    trainings: int = 4
    calibrating: int = 8

    def __post_init__(self) -> None:
        if self.trainings < 2 or self.trainings % 2:
            raise ConfigError(f"a tuning takes an even number of trainings, not {self.trainings}")
        if self.folds < 2 or self.finalists < 3 or min(self.candidates, self.sets) < 1:
            raise ConfigError("a tuning takes two folds and three finalists or more, a candidate and a set of images")


@dataclass(frozen=True, slots=True)
class Pilot:
    """One round.

    Attributes:
        sets: sets of images at its start.
        images: of each set at its end.
        candidates: at its start, at most.
    """

    sets: int
    images: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """All rounds.

    Attributes:
        pilots: the rounds; the last one is that of the finalists.
        proposed: how many sets of the first round are proposed rather than designed.
        images: that all of them make, at most.
    """

    pilots: tuple[Pilot, ...]
    proposed: int
    images: int


FEWEST = 12
"""Images of a class in a pilot that a fold uses, on average. Half of each batch is drawn from them: seen too often they
harm, however good they are."""


def parse_budget(text: str) -> tuple[float, bool]:
    """Return how much a budget is, and whether it is hours rather than images.

    Raises:
        ConfigError: it is written otherwise.
    """
    found = _BUDGET.fullmatch(text.strip())
    if found is None or not float(found[1]) or (not found[2] and not float(found[1]).is_integer()):
        raise ConfigError(f"--budget {text!r}: expected a number of images, such as 2000, or of hours, such as 2h")
    return float(found[1]), bool(found[2])


def schedule_of(budget: int, fewest: int, planned: int, designed: int, effort: Effort) -> Schedule:
    """Return the rounds that `budget` images buy.

    Each round gets an equal part of the budget, so that a set of images that goes on has as many again as the cut ones
    together. No pilot grows beyond what the run itself plans.

    Args:
        budget: images in all.
        fewest: images of a pilot, at least.
        planned: images of a set of which every fold uses as many as the run plans.
        designed: sets of images there are to choose from.
        effort: see there.

    Raises:
        ConfigError: it does not buy two pilots.
    """
    if budget < 2 * fewest:
        raise ConfigError(
            f"--budget: it buys {budget} images, and two pilots take {2 * fewest} at least; more are better"
        )
    finalists = min(effort.finalists, effort.candidates)
    # As many as the first round can buy; where more rounds would begin with no more sets, there are fewer rounds.
    bought = max(budget // (3 * fewest), min(2 * finalists, budget // (2 * fewest)), min(finalists, budget // fewest))
    sets = min(designed + effort.proposed, effort.sets, effort.candidates, bought)
    proposed = min(effort.proposed, sets // 3, max(0, sets - 4))
    sets = min(sets, designed + proposed)
    if sets <= finalists:
        sets = min(sets, designed)
        images = min(budget // sets, planned)
        return Schedule((Pilot(sets, images, finalists),), 0, sets * images)
    steps = [sets, finalists]
    if sets > 2 * finalists:
        steps.insert(1, round((sets * finalists) ** 0.5))
    pilots: list[Pilot] = []
    grown = spent = 0
    for number, count in enumerate(steps):
        more = (budget - spent) // (len(steps) - number) // count
        made = min(grown + more, planned)
        spent += count * (made - grown)
        grown = made
        last = number == len(steps) - 1
        pilots.append(Pilot(count, grown, finalists if last else min(2 * count, effort.candidates)))
    return Schedule(tuple(pilots), proposed, spent)


def pilot_amounts(planned: Sequence[int], images: int) -> list[int]:
    """Return how many images of each class a pilot of so many images has: the run's own proportions, at least one.

    Args:
        planned: images per class of the run that is tuned.
        images: of the pilot.
    """
    total = sum(planned)
    return [min(count, max(1, count * images // total)) if count else 0 for count in planned]
