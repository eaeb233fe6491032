"""How often do the 95 % intervals of paired differences hold the truth, and how wide are they?

    python -m benchmarks.coverage                     # prints a table, writes benchmarks/results/coverage.json
    python -m benchmarks.coverage --repetitions 200   # a look

Per-image differences of two classifiers are drawn with a known true difference: seeds differ from each other by
`ratio` times what the test images alone do to one seed; some of what the images do is common to all seeds, in each
repetition another part. Measured are an interval of one comparison alone, one in a table with four other rows (whose
spread over seeds differs by a factor of 1.35 up or down, one standard deviation, and half of whose variance is the
baseline's, which all have in common), and the paired bootstrap of augcond 0.1. Widths are in units of the interval
with known variances.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from augcond.evaluation.intervals import Paired
from augcond.evaluation.results import Spread
from augcond.evaluation.statistics import half_widths, moderated, p_values

RESULT = Path(__file__).parent / "results" / "coverage.json"
KINDS = ("alone", "in a table", "bootstrap of 0.1")
CLASSES, OTHER_ROWS = 10, 4
IMBALANCE = 10
"""Of the long-tailed test sets, whose metric is the mean over classes."""
UNLIKE = 0.3
"""Standard deviation of the logarithm of how far rows' seeds differ."""
RESAMPLES = 400
NORMAL = 1.959964


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid.

    Attributes:
        seeds: number of seeds.
        ratio: standard deviation from seed to seed, in units of that which test images make of one seed.
        images: test images.
        balanced: classes of one size and overall accuracy; else a long tail of them, and the mean over classes.
        difference: the true difference, as a share.
    """

    seeds: int
    ratio: float
    images: int
    balanced: bool
    difference: float


def grid(seeds: Sequence[int] = (3, 4, 5, 7, 10)) -> Iterable[Cell]:
    """Yield the cells of the whole grid."""
    places = itertools.product(seeds, (0.5, 1.0, 2.0, 3.4, 5.0), (300, 3000, 10_000), (True, False), (0.0, 0.03))
    return (Cell(*place) for place in places)


def measure_cell(cell: Cell, repetitions: int, seed: int) -> dict[str, dict[str, float]]:
    """Return coverage, in [0, 1], and mean width of each kind of interval in one cell."""
    rng = np.random.default_rng(seed)
    sizes = np.full(CLASSES, 1.0) if cell.balanced else IMBALANCE ** -np.linspace(0, 1, CLASSES)
    tested = np.maximum(np.round(cell.images * sizes / sizes.sum()).astype(int), 2)
    labels = np.repeat(np.arange(CLASSES), tested)
    weights = np.tile(tested / tested.sum() if cell.balanced else np.full(CLASSES, 1 / CLASSES), (cell.seeds, 1))
    per_image = float((weights[0] ** 2 / tested).sum())
    # The two classifiers disagree on this share of the images; seeds must have room to differ by that much.
    disagree = float(np.clip(11 * cell.ratio**2 * per_image, 0.15, 1.0))
    image = np.sqrt(disagree * per_image)
    errors, spreads, scales, known, drawn = [], [], [], [], []
    for _ in range(repetitions):
        common = rng.choice([0.0, 0.5, 1.0])
        mine, baselines = cell.ratio * image * np.exp(UNLIKE * rng.standard_normal(2))
        base = baselines * rng.standard_normal(cell.seeds)
        effects = (mine * rng.standard_normal(cell.seeds) + base) / np.sqrt(2)
        differences = _differences(rng, effects + cell.difference, len(labels), disagree, common)
        paired = Paired.of(differences, labels, CLASSES)
        per_seed, spread = paired.under(weights)
        errors.append(per_seed.mean() - cell.difference)
        spreads.append(spread)
        others = [_other_row(rng, cell, image, base, common) for _ in range(OTHER_ROWS)]
        scales.append(moderated(spread, others))
        variance = (mine**2 + baselines**2) / 2 / cell.seeds + image**2 * (common + (1 - common) / cell.seeds)
        known.append(NORMAL * np.sqrt(variance))
        drawn.append(_bootstrap(rng, per_seed, spread, cell.difference))
    own, shared = (np.array([getattr(spread, part) for spread in spreads]) for part in ("own", "shared"))
    found = {}
    for kind in KINDS[:2]:
        between = np.array([s.between for s in spreads] if kind == "alone" else [value for value, _ in scales])
        freedom = cell.seeds - 1 if kind == "alone" else scales[0][1]
        covered = p_values(np.array(errors), between, freedom, own, shared, cell.seeds) >= 0.05
        width = half_widths(between, freedom, own, shared, cell.seeds) / known
        found[kind] = {"coverage": float(covered.mean()), "width": float(width.mean())}
    covered, width = np.array(drawn).T
    found[KINDS[2]] = {"coverage": float(covered.mean()), "width": float((width / known).mean())}
    return found


def _differences(
    rng: np.random.Generator, effects: np.ndarray, images: int, disagree: float, common: float
) -> np.ndarray:
    """Return differences of -1, 0 and 1, (S, N), whose mean over images is on average `effects` (S,)."""
    draws = rng.random((len(effects), images), dtype=np.float32)
    same = rng.random(images) < common
    draws[:, same] = draws[0, same]
    effects = np.clip(effects, -disagree, disagree)
    better, worse = ((disagree + sign * effects[:, None]) / 2 for sign in (1, -1))
    return (draws < better).astype(float) - (draws > 1 - worse)


def _other_row(rng: np.random.Generator, cell: Cell, image: float, base: np.ndarray, common: float) -> Spread:
    own = cell.ratio * image * np.exp(UNLIKE * rng.standard_normal())
    noise = image * np.sqrt(1 - common) * rng.standard_normal(cell.seeds)
    per_seed = (own * rng.standard_normal(cell.seeds) + base) / np.sqrt(2) + noise
    return Spread(cell.seeds, float(per_seed.var(ddof=1)), image**2 * (1 - common), image**2 * common)


def _bootstrap(rng: np.random.Generator, per_seed: np.ndarray, spread: Spread, truth: float) -> tuple[bool, float]:
    """Return whether a bootstrap over seeds and images holds the truth, and half its width.

    Resampled images move the mean as a normal number would: there are hundreds of them.
    """
    seeds = len(per_seed)
    shares = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    moved = np.sqrt(spread.shared + spread.own * (shares**2).sum(axis=1)) * rng.standard_normal(RESAMPLES)
    low, high = np.quantile(shares @ per_seed + moved, [0.025, 0.975])
    return bool(low <= truth <= high), float(high - low) / 2


def summary(cells: Sequence[dict[str, Any]]) -> str:
    """Return a table of coverage and width by seeds and ratio."""
    lines = []
    for kind in KINDS:
        lines += ["", f"{kind}: coverage in % (worst cell), width; by ratio of seed to image noise"]
        ratios = sorted({float(cell["ratio"]) for cell in cells})
        lines.append("seeds  " + "".join(f"{ratio:>20g}" for ratio in ratios) + f"{'all':>20}")
        for seeds in sorted({cell["seeds"] for cell in cells}):
            row = f"{seeds:>5}  "
            for ratio in (*ratios, None):
                own = [c[kind] for c in cells if c["seeds"] == seeds and ratio in (None, c["ratio"])]
                coverage = [100 * one["coverage"] for one in own]
                width = np.mean([one["width"] for one in own])
                row += f"{f'{np.mean(coverage):.1f} ({min(coverage):.1f}) {width:.2f}':>20}"
            lines.append(row)
        every = [100 * cell[kind]["coverage"] for cell in cells]
        lines.append(f"all cells: mean {np.mean(every):.1f}, worst {min(every):.1f}")
    return "\n".join(lines[1:]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the grid, print it and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage")
    parser.add_argument("--repetitions", type=int, default=2000, help="of each cell (default 2000)")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the JSON goes")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    cells = []
    for number, cell in enumerate(grid()):
        found = measure_cell(cell, options.repetitions, number)
        cells.append(asdict(cell) | {kind: {k: round(v, 4) for k, v in of.items()} for kind, of in found.items()})
    sys.stdout.write(summary(cells))
    seconds = round(time.perf_counter() - started)
    values = {"repetitions": options.repetitions, "seconds": seconds, "cells": cells}
    options.result.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
