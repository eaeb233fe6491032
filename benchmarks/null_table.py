"""How often does a table without any true difference get a verdict of gain or loss?

    python -m benchmarks.null_table               # 2,000 tables at 3, 5 and 10 seeds; writes benchmarks/results

Five recipes and a baseline that are all equally good: each model's accuracy differs by chance from seed to seed (as far
as in our own records: 2.2 points of a difference), and each test image is easy or hard for all. Predictions go through
the code that judges every run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from augcond.config import EvaluationConfig
from augcond.evaluation.intervals import SeedPredictions, compare, with_intervals
from augcond.evaluation.metrics import Predictions
from augcond.evaluation.results import Difference, Seeds
from augcond.evaluation.verdicts import judged

RESULT = Path(__file__).parent / "results" / "null_table.json"
RECIPES, CLASSES = 5, 10
ACCURACY, BETWEEN = 0.73, 0.022 / np.sqrt(2)
COUNTS = (200, 120, 71, 43, 26, 15, 9, 6, 3, 2)


def draw_table(rng: np.random.Generator, seeds: int, images: int) -> list[Difference]:
    """Return the differences of one table without a true one, with verdicts."""
    labels = np.arange(images) % CLASSES
    keys = tuple(map(str, range(images)))
    easy = rng.normal(0, 1, images)
    said = np.eye(CLASSES)
    models: dict[str, dict[Seeds, SeedPredictions]] = {}
    for arm in ("real-only", *(f"recipe-{number}" for number in range(RECIPES))):
        models[arm] = {}
        for seed in range(seeds):
            # Ability and easiness and chance: the share of right answers is ACCURACY on average over the images.
            score = easy + rng.normal(0, 1, images)
            wanted = ACCURACY + BETWEEN * rng.standard_normal()
            right = score > _threshold(wanted)
            predicted = np.where(right, labels, (labels + 1) % CLASSES)
            predictions = Predictions(keys, labels, said[predicted])
            models[arm][Seeds(seed, seed, seed)] = SeedPredictions(predictions, COUNTS)
    found: list[Difference] = []
    for arm in list(models)[1:]:
        # Everything but overall accuracy is exploratory, and gets no verdict.
        found += [one for one in compare(arm, "real-only", models, EvaluationConfig()) if one.metric == "overall"]
    return judged(with_intervals(found), range(len(found)))


def _threshold(share: float) -> float:
    """Return what a normal number of variance 2 exceeds with the probability `share`."""
    from statistics import NormalDist

    return NormalDist(0, np.sqrt(2)).inv_cdf(1 - share)


def share_with_verdict(seeds: int, tables: int, images: int = 3000, seed: int = 0) -> float:
    """Return the share of tables with at least one verdict of gain or loss."""
    rng = np.random.default_rng([seed, seeds])
    decided = [any(one.verdict in ("gain", "loss") for one in draw_table(rng, seeds, images)) for _ in range(tables)]
    return sum(decided) / tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_table")
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--images", type=int, default=3000)
    options = parser.parse_args(arguments)
    found = {seeds: share_with_verdict(seeds, options.tables, options.images) for seeds in (3, 5, 10)}
    for seeds, share in found.items():
        sys.stdout.write(f"{seeds} seeds: {100 * share:.1f} % of {options.tables} tables have a verdict\n")
    values = {"tables": options.tables, "images": options.images, "recipes": RECIPES, "share_with_verdict": found}
    RESULT.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
