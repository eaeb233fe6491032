"""How many seeds and test images it takes to decide a difference of a given size, from the variances measured.

    Var(one seed's difference) = splits + trainings / T + own / images,     Var(mean) = that / S + shared / images

over S seeds with T trainings each. A run has one split and one set of generated images: its seeds are trainings alone.
A sweep draws all of it anew for every seed; with `--trainings` it also tells the two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

import numpy as np

from augcond.errors import RunError
from augcond.evaluation.results import FEWEST_SEEDS, LEVEL, Spread
from augcond.evaluation.statistics import BORROWED, half_widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.evaluation.results import Difference, Results

POWER = 0.8
"""A difference counts as within reach where it is decided so often."""

MOST_SEEDS = 100
TIMES_THE_IMAGES, TRAININGS = (1, 2, 4), (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of a paired difference in overall accuracy, as shares squared; means over the table's comparisons.

    Attributes:
        seeds: the most that a comparison has.
        comparisons: number of comparisons whose verdicts are corrected together.
        images: test images.
        splits: between splits and what is generated from them; None where there is one split.
        trainings: between trainings on one split and its images; None where each split has one training: `splits` then
            holds both.
        own: from test images, as far as seeds do not share it.
        shared: from test images that all seeds have alike.
    """

    seeds: int
    comparisons: int
    images: int
    splits: float | None
    trainings: float | None
    own: float
    shared: float

    def spread(self, seeds: int, trainings: int = 1, images: int | None = None) -> Spread:
        """Return what makes a mean over so many seeds, trainings a seed and test images uncertain."""
        scale = self.images / (images or self.images)
        own = scale * self.own / trainings
        between = own + (self.splits or 0.0)
        if self.trainings is not None:
            # Where there is one split, its trainings are the seeds.
            between += self.trainings / (trainings if self.splits is not None else 1)
        return Spread(seeds, between, own, scale * self.shared)


@dataclass(frozen=True, slots=True)
class Needed:
    """How many seeds it takes; None for more than `MOST_SEEDS`."""

    images: int
    trainings: int
    seeds: int | None


def components(results: Results) -> Components:
    """Return the variances that a table measured.

    Raises:
        RunError: nothing was compared, or with fewer than two seeds.
    """
    asked = [one for one in results.differences if one.family and one.spread and one.seeds > 1 and one.spread.own > 0]
    if not asked:
        raise RunError(
            "nothing to measure variances by: it takes results of this version with two arms and two seeds at least; "
            "raise training.seeds, or run augcond evaluate again"
        )
    spreads = [one.spread for one in asked if one.spread]
    between, own, shared = (fmean(getattr(spread, part) for spread in spreads) for part in ("between", "own", "shared"))
    rest = max(between - own, 0.0)
    within = [found for one in asked if (found := _within(results, one)) is not None]
    several = len({(seed.seeds.split, seed.seeds.generation) for arm in results.arms for seed in arm.seeds}) > 1
    splits: float | None = rest if several else None
    trainings: float | None = None if several else rest
    if several and within:
        # Test images are part of what differs from training to training.
        count = fmean(count for _, count in within)
        own *= count
        trainings = max(fmean(variance for variance, _ in within) - own, 0.0)
        splits = max(rest - trainings / count, 0.0)
    seeds = max(one.seeds for one in asked)
    return Components(seeds, max(one.family for one in asked), results.test_images, splits, trainings, own, shared)


def _within(results: Results, one: Difference) -> tuple[float, float] | None:
    """Return the variance between trainings of one split, and their number; None where there is one of each."""
    arms = [{seed.seeds: seed.metrics.overall for seed in results.arm(name).seeds} for name in (one.arm, one.baseline)]
    groups: dict[tuple[int | None, int], list[float]] = {}
    for seeds in arms[0].keys() & arms[1].keys():
        groups.setdefault((seeds.split, seeds.generation), []).append(arms[0][seeds] - arms[1][seeds])
    squares = sum(sum((value - fmean(group)) ** 2 for value in group) for group in groups.values())
    freedom = sum(len(group) - 1 for group in groups.values())
    return (squares / freedom, fmean(map(len, groups.values()))) if freedom else None


def reach(spread: Spread, comparisons: int) -> float:
    """Return how large a measured difference must be to be decided, as the first of so many comparisons (Holm)."""
    freedom = spread.seeds - 1 + (BORROWED if comparisons > 1 else 0)
    level = 1 - (1 - LEVEL) / comparisons
    between, own, shared = (np.array(value) for value in (spread.between, spread.own, spread.shared))
    return float(half_widths(between, freedom, own, shared, spread.seeds, level))


def detectable(found: Components, spread: Spread) -> float:
    """Return the true difference that is decided in `POWER` of all cases."""
    error = float(np.sqrt(spread.between / spread.seeds + spread.shared))
    return reach(spread, found.comparisons) + NormalDist().inv_cdf(POWER) * error


def needed(found: Components, effect: float, trainings: Sequence[int] = TRAININGS) -> list[Needed]:
    """Return how many seeds it takes to decide a true difference, by test images and trainings a seed.

    Args:
        found: the variances.
        effect: the difference, as a share.
        trainings: numbers of trainings a seed; one alone where these are not told apart from splits.
    """
    told = trainings if found.splits is not None and found.trainings is not None else (1,)
    cells = []
    for times in TIMES_THE_IMAGES:
        for count in told:
            images = times * found.images
            enough = (
                seeds
                for seeds in range(FEWEST_SEEDS, MOST_SEEDS + 1)
                if detectable(found, found.spread(seeds, count, images)) <= effect
            )
            cells.append(Needed(images, count, next(enough, None)))
    return cells


def what_it_takes(results: Results, effect: float = 0.01) -> list[str]:
    """Return `in_words` for a page of results; nothing where nothing can be said."""
    try:
        return in_words(components(results), effect)
    except RunError:
        return []


def in_words(found: Components, effect: float) -> list[str]:
    """Return the variances and what it takes, in sentences."""

    def points(variance: float) -> str:
        return f"{100 * variance**0.5:.2f}"

    parts = []
    if found.splits is not None:
        parts.append(
            f"{points(found.splits)} between splits" + ("" if found.trainings is not None else " and trainings")
        )
    if found.trainings is not None:
        parts.append(f"{points(found.trainings)} between trainings of one split")
    parts.append(f"{points(found.own + found.shared)} from {found.images:,} test images")
    lines = [f"One seed's difference varies by (standard deviations, in points): {', '.join(parts)}."]
    if found.splits is None:
        lines.append(
            "There is one split here: how far other splits and other generated images differ is not known, and no "
            "number of trainings tells. augcond sweep draws them anew for every seed."
        )
    if found.seeds >= FEWEST_SEEDS:
        sure = detectable(found, found.spread(found.seeds))
        lines.append(
            f"With {found.seeds} seeds a true difference of {100 * sure:.1f} points is decided in {100 * POWER:.0f} % "
            f"of all cases, corrected for {found.comparisons} comparison{'s' if found.comparisons != 1 else ''}."
        )
    unit = "point" if effect == 0.01 else "points"
    for cell in needed(found, effect):
        trained = f", {cell.trainings} trainings a seed" if cell.trainings > 1 else ""
        seeds = f"{cell.seeds} seeds" if cell.seeds else f"more than {MOST_SEEDS} seeds"
        lines.append(f"{100 * effect:g} {unit}: {seeds} with {cell.images:,} test images{trained}.")
    return lines
