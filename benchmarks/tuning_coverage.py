"""How often does the interval of a tuned gain hold what is then measured?

    python -m benchmarks.tuning --coverage                      # the table of docs/tuning.md, and its JSON
    python -m benchmarks.tuning --coverage --repetitions 50     # a look

The last round of `augcond tune`, and the first where that leaves few of many, simulated with classifiers that take
microseconds, so that folds share training images as they really do: classes are normal distributions in eight
dimensions, a training is the class means of a random four fifths of the images (what differs between trainings), a
candidate's images are made from two real ones, for the folds from those that `block_rounds` chooses, and drawn towards
a wrong place of their own. Candidates differ in how far; the first is the default. Then the best one is trained three
times on all real images, with images made from all of them, and judged on 300 test images a class. Looked at is the
interval of `choice_of`: in all rounds; in those that keep the default; in those that choose another; and in these what
it would be were the gain read off the very trainings and images that picked it.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from augcond.evaluation.tuning_choice import Folded, Lines, choice_of, own_gain
from augcond.experiments.tuning.folds import Blocks, block_rounds, draw_folds
from augcond.experiments.tuning.schedule import Pilot
from augcond.experiments.tuning.study import by_turns

RESULT = Path(__file__).parent / "results" / "tuning_coverage.json"
CLASSES, WIDTH, TESTED = 8, 8, 300
AMOUNT = 12
"""Images of a class that a candidate makes, and that each fold uses."""
TRAININGS, LATER = 4, 3
FINALISTS = 3
"""Candidates of the last round, where there were more in the first."""
MARKS = "<!-- simulated: python -m benchmarks.tuning --coverage -->", "<!-- end of what was simulated -->"
KINDS = ("estimate", "the default was kept", "another was chosen", "the same, not cross-fitted")
FEWEST = 20
"""Rounds of a cell that a share over them is told of."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid.

    Attributes:
        counts: real images of each class, of which those of a long tail fall from the first to the second.
        candidates: of the only round; more than four are cut to `FINALISTS` by a first one.
        wrong: how far, on average, a candidate's images are drawn away; far ones harm.
        folds: of each cross-validation.
    """

    counts: tuple[int, int]
    candidates: int
    wrong: float
    folds: int

    @property
    def is_cut(self) -> bool:
        """Whether a round before the last cuts the candidates."""
        return self.candidates > 4


def grid() -> Iterator[Cell]:
    """Yield the cells."""
    counts = ((2, 2), (4, 4), (8, 8), (16, 16), (60, 3))
    for one, candidates, wrong in itertools.product(counts, (1, 4, 24), (0.5, 1.5)):
        yield Cell(one, candidates, wrong, min(5, one[0]))


@dataclass(frozen=True, slots=True)
class _Made:
    images: np.ndarray  # (candidates, M, WIDTH)
    sources: np.ndarray  # (M, 2)
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class _World:
    real: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    pilot: _Made  # of which each fold uses as many as the run has
    whole: _Made
    test: np.ndarray
    test_labels: np.ndarray


def _world(cell: Cell, rng: np.random.Generator) -> _World:
    means = 0.8 * rng.standard_normal((CLASSES, WIDTH))
    counts = np.round(np.geomspace(*cell.counts, CLASSES)).astype(int)
    labels = np.repeat(np.arange(CLASSES), counts)
    real = means[labels] + rng.standard_normal((len(labels), WIDTH))
    reach = cell.wrong * rng.uniform(0.6, 1.4, (cell.candidates, 1, 1))
    wrong = reach * rng.standard_normal((cell.candidates, CLASSES, WIDTH)) / np.sqrt(WIDTH) * 2
    pretrained = means + 0.5 * rng.standard_normal((CLASSES, WIDTH))

    def made(sources: np.ndarray) -> _Made:
        own = labels[sources[:, 0]]
        centre = 0.4 * real[sources].mean(axis=1) + 0.6 * pretrained[own]
        noise = 0.7 * rng.standard_normal((cell.candidates, len(sources), WIDTH))
        return _Made(centre + wrong[:, own] + noise, sources, own)

    held = draw_folds(labels, cell.folds, int(rng.integers(1 << 30)))
    keys, names = [f"{place}" for place in range(len(labels))], [f"{label}" for label in range(CLASSES)]
    turns = Blocks.of(labels, held, CLASSES).turns([AMOUNT] * CLASSES)
    chosen = [one for some in block_rounds(keys, labels, held, names, [turns]) for one in some.values()]
    pilot = _pairs([([int(key) for key in one.sources], one.count) for one in chosen], rng)
    whole = _pairs([(np.flatnonzero(labels == label).tolist(), AMOUNT) for label in range(CLASSES)], rng)
    test_labels = np.repeat(np.arange(CLASSES), TESTED)
    test = means[test_labels] + rng.standard_normal((len(test_labels), WIDTH))
    return _World(real, labels, held, made(pilot), made(whole), test, test_labels)


def _pairs(pools: Sequence[tuple[list[int], int]], rng: np.random.Generator) -> np.ndarray:
    """Return the two sources of each image, (M, 2): different ones, where its pool has two."""
    drawn = [rng.choice(pool, 2, replace=len(pool) < 2) for pool, count in pools for _ in range(count)]
    return np.array(drawn)


def _right(
    world: _World, real: np.ndarray, candidate: int | None, judged: tuple[np.ndarray, np.ndarray], seed: list[int]
) -> np.ndarray:
    """Return which of the judged images a training on `real` (places) and the candidate's images gets right."""
    rng = np.random.default_rng(seed)
    seen = np.zeros(len(world.labels), dtype=bool)
    seen[real] = True
    weight = (rng.random(len(real)) < 0.8) + 1e-3
    sums = np.zeros((CLASSES, WIDTH))
    np.add.at(sums, world.labels[real], world.real[real] * weight[:, None])
    totals = np.bincount(world.labels[real], weight, CLASSES)
    centres = sums / np.maximum(totals, 1e-9)[:, None]
    if candidate is not None:
        made = world.whole if seen.all() else world.pilot
        clean = seen[made.sources].all(axis=1)
        weight = clean * ((rng.random(len(clean)) < 0.8) + 1e-3)
        sums = np.zeros((CLASSES, WIDTH))
        np.add.at(sums, made.labels, made.images[candidate] * weight[:, None])
        totals = np.bincount(made.labels, weight, CLASSES)
        some = totals > 0
        centres[some] = (centres[some] + sums[some] / totals[some][:, None]) / 2
    images, labels = judged
    nearest = ((images**2).sum(1)[:, None] - 2 * images @ centres.T + (centres**2).sum(1)).argmin(1)
    return np.asarray(nearest == labels)


def simulate(cell: Cell, seed: int) -> dict[str, tuple[bool, float, float]]:
    """Return of each kind of interval whether it held the measured gain, its half width, and the estimate's error."""
    rng = np.random.default_rng(seed)
    world = _world(cell, rng)

    def judged(candidates: Sequence[int], trainings: Sequence[int]) -> Folded:
        right: dict[str, np.ndarray] = {}
        for arm in (None, *candidates):
            rows = np.zeros((len(trainings), len(world.labels)), dtype=bool)
            for row, training in zip(rows, trainings, strict=True):
                for fold in range(cell.folds):
                    out = world.held == fold
                    drawn = [seed, training, fold, 0 if arm is None else arm + 1]
                    row[out] = _right(world, np.flatnonzero(~out), arm, (world.real[out], world.labels[out]), drawn)
            right[str(arm)] = rows
        return Folded(world.labels, world.held, right.pop(str(None)), right)

    candidates: list[int] = list(range(cell.candidates))
    lines: Lines | None = None
    if cell.is_cut:
        first = judged(candidates, [0])
        scores = [first.side_scores(str(number)) for number in candidates]
        ranked = (
            sorted(candidates, key=lambda each: -scores[each][0]),
            sorted(candidates, key=lambda each: -scores[each][1]),
        )
        sets = {each: str(each) for each in candidates}
        one, other = by_turns(ranked, sets, Pilot(FINALISTS, 0, FINALISTS), [0])
        lines = [str(each) for each in one], [str(each) for each in other]
        candidates = sorted({*one, *other})
    folded = judged(candidates, range(1, TRAININGS + 1))
    choice = choice_of(folded, later=LATER, lines=lines, default="0")
    best, gain = choice.best, choice.gain
    everything, test = np.arange(len(world.labels)), (world.test, world.test_labels)

    def measured_of(arm: int | None) -> float:
        drawn = [[seed, 1000 + later, 0 if arm is None else 1] for later in range(LATER)]
        return float(np.mean([_right(world, everything, arm, test, each).mean() for each in drawn]))

    measured = measured_of(int(best)) - measured_of(None)
    found = {KINDS[0]: gain}
    if choice.chosen == "0":
        found[KINDS[1]] = gain
    elif choice.chosen == best:
        found |= {KINDS[2]: gain, KINDS[3]: own_gain(folded, best, later=LATER)}
    return {
        kind: (bool(one.low <= measured <= one.high), (one.high - one.low) / 2, float(one.mean - measured))
        for kind, one in found.items()
    }


def measure(repetitions: int) -> list[dict[str, Any]]:
    """Return coverage, mean half width and mean error of each kind of interval, cell by cell."""
    cells = []
    for number, cell in enumerate(grid()):
        drawn = [simulate(cell, 1000 * number + repetition) for repetition in range(repetitions)]
        found = asdict(cell)
        for kind in KINDS:
            known = [one[kind] for one in drawn if kind in one]
            if not known:
                continue  # nothing was ever chosen
            held, width, error = np.array(known, dtype=float).T
            means = {"rounds": len(known), "coverage": held.mean(), "half_width": width.mean(), "bias": error.mean()}
            found[kind] = {name: round(float(value), 4) for name, value in means.items()}
        cells.append(found)
    return cells


def summary(cells: Sequence[dict[str, Any]]) -> str:
    """Return the table as Markdown: coverage in percent, half width and bias in points."""
    lines = ["| real images a class | candidates | " + " | ".join(f"{kind}: holds, +-, bias" for kind in KINDS) + " |"]
    lines.append("|" + "---|" * (2 + len(KINDS)))
    for cell in cells:
        head = f"| {'-'.join(map(str, dict.fromkeys(cell['counts'])))} | {cell['candidates']} (wrong {cell['wrong']}) |"
        told = [cell.get(kind) for kind in KINDS]
        found = [[100 * one[key] for key in ("coverage", "half_width", "bias")] if one else [] for one in told]
        cols = ["{:.1f}, {:.1f}, {:+.1f}".format(*each) if each else "" for each in found]
        lines.append(f"{head} {' | '.join(cols)} |")
    return "\n".join(lines) + "\n"


def table(values: Mapping[str, Any]) -> str:
    """Return the table of docs/tuning.md from what `run` writes, and a sentence on how often the interval holds."""
    cells = values["cells"]
    heads = ["candidates", "where", "rounds", "holds what is measured", "in the worst cell", "half width"]
    lines = [f"| {' | '.join([*heads, 'off by, on average'])} |", "|" + "---|" * (len(heads) + 1)]
    for candidates, kind in itertools.product(sorted({cell["candidates"] for cell in cells}), KINDS):
        told = [cell[kind] for cell in cells if cell["candidates"] == candidates and kind in cell]
        if not told:
            continue  # of one candidate there is no other
        rounds = np.array([one["rounds"] for one in told], dtype=int)
        held, width, bias = (100 * np.array([one[key] for one in told]) for key in ("coverage", "half_width", "bias"))
        least = f"{held[rounds >= FEWEST].min():.1f} %" if (rounds >= FEWEST).any() else ""
        means = [np.average(each, weights=rounds) for each in (held, width, bias)]
        of = f"{candidates}, cut to {FINALISTS}" if candidates > 4 else f"{candidates}"
        where = "all rounds" if kind == KINDS[0] else kind
        lines.append(
            f"| {of} | {where} | {rounds.sum():,} | {means[0]:.1f} % | {least} | {means[1]:.1f} | {means[2]:+.1f} |"
        )
    every = [(100 * cell[KINDS[0]]["coverage"], cell["counts"]) for cell in cells]
    least, counts = min(every)
    images = " to ".join(map(str, dict.fromkeys(counts)))
    told_of = (
        f"{len(cells)} cells of {values['repetitions']} rounds. Over all of them the interval holds what is measured "
        f"in {np.mean([held for held, _ in every]):.1f} %, least often with {images} images a class ({least:.1f} %). "
        f"The worst cell is that of cells with {FEWEST} such rounds or more."
    )
    return "\n".join([*lines, "", told_of])


def run(repetitions: int, result: Path = RESULT, page: Path | None = None) -> None:
    """Simulate the grid, print it, and write it and the table of `page`, docs/tuning.md where None."""
    from benchmarks import tuning_page  # what draws takes seconds to import

    started = time.perf_counter()
    cells = measure(repetitions)
    sys.stdout.write(summary(cells))
    values = {"repetitions": repetitions, "seconds": round(time.perf_counter() - started), "cells": cells}
    result.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    tuning_page.fill(page or tuning_page.PAGE, MARKS, table(values))
