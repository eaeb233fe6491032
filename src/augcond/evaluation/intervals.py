"""Means and spreads over seeds, and the difference between two settings, paired over seeds and test images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from augcond.evaluation.metrics import Predictions, metric_weights
from augcond.evaluation.results import METRICS, ArmResult, Difference, MetricName, Metrics, Seeds, Spread
from augcond.evaluation.statistics import half_width, p_value

if TYPE_CHECKING:
    from augcond.config import EvaluationConfig

_ACCURACIES: tuple[MetricName, ...] = ("overall", "class_mean", "many", "medium", "few")


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric; None where any is None."""
    return _over(metrics, lambda values: float(np.mean(values)))


def spread_metrics(metrics: Sequence[Metrics]) -> Metrics | None:
    """Return the standard deviation (n - 1) of each metric; None for fewer than two."""
    if len(metrics) < 2:
        return None
    return _over(metrics, lambda values: float(np.std(values, ddof=1)))


def _over(metrics: Sequence[Metrics], reduce: Callable[[list[float]], float]) -> Metrics:
    reduced: dict[str, Any] = {}
    for name in METRICS:
        values = [getattr(entry, name) for entry in metrics]
        reduced[name] = None if None in values else reduce(values)
    return Metrics(**reduced)


@dataclass(frozen=True, slots=True)
class SeedPredictions:
    """Predictions of one trained model.

    Attributes:
        predictions: of every test image.
        real_counts: real training images per class that the model had.
        path: where they are kept, relative to the folder of the results.
        seconds: time that making them took.
        sha256: of the file at `path`.
    """

    predictions: Predictions
    real_counts: tuple[int, ...]
    path: str = ""
    seconds: float = 0.0
    sha256: str = ""


Trained = Mapping[Seeds, SeedPredictions]
"""The models of one arm, by seed."""


def comparable(one: Trained, other: Trained) -> bool:
    """Return whether `compare` takes two arms: seeds in common, trained on as many real images, tested on the same."""
    return _obstacle(one, other) is None


def _obstacle(one: Trained, other: Trained) -> str | None:
    """Return why two arms cannot be subtracted, seed by seed; None where they can."""
    pairs = [(one[seeds], other[seeds]) for seeds in one if seeds in other]
    if not pairs:
        return "have no seed in common"
    for left, right in pairs:
        if left.real_counts != right.real_counts:
            counts = f"{list(left.real_counts)} and {list(right.real_counts)}"
            return f"were trained on different real images: {counts} of each class"
    first = pairs[0][0].predictions
    for side in (model.predictions for pair in pairs for model in pair):
        if side.keys != first.keys or not np.array_equal(side.labels, first.labels):
            return "were tested on different images"
    return None


def compare(arm: str, baseline: str, models: Mapping[str, Trained], bounds: EvaluationConfig) -> list[Difference]:
    """Return the differences of all accuracies between two arms, without intervals: see `with_intervals`.

    Several trainings of one split and one generation are averaged first, where there are several splits: seeds are
    then what differs from one to the next in everything. Where all share one split, seeds are its trainings.

    Args:
        arm: name of one arm.
        baseline: name of the arm to subtract.
        models: the models of each arm; seeds that only one of the two has are left out.
        bounds: of the shot groups.

    Raises:
        ValueError: no seed is in both arms, or they were trained on different numbers of real images or tested on
            different images.
    """
    obstacle = _obstacle(models[arm], models[baseline])
    if obstacle is not None:
        raise ValueError(f"{arm!r} and {baseline!r} {obstacle}")
    common = {seeds: own for seeds, own in models[arm].items() if seeds in models[baseline]}
    differences = {
        seeds: own.predictions.correct.astype(float) - models[baseline][seeds].predictions.correct
        for seeds, own in common.items()
    }
    paired, weights = _paired(common, differences, bounds)
    found = []
    for name in _ACCURACIES:
        if all(name in entry for entry in weights):
            per_seed, spread = paired.under(np.stack([entry[name] for entry in weights]))
            found.append(Difference(arm, baseline, name, float(per_seed.mean()), tuple(per_seed.tolist()), spread))
    return found


def with_accuracies(arms: Sequence[ArmResult], models: Mapping[str, Trained]) -> list[ArmResult]:
    """Return the arms of a table with the 95 % interval of each one's overall accuracy, where seeds suffice."""
    spreads: dict[str, Spread] = {}
    for name, trained in models.items():
        if len({model.predictions.keys for model in trained.values()}) == 1:
            correct = {seeds: model.predictions.correct.astype(float) for seeds, model in trained.items()}
            found, _ = _paired(trained, correct)
            spreads[name] = found.under(np.tile(found.tested / found.tested.sum(), (len(found.means), 1)))[1]
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, spread in spreads.items():
        reach = half_width(spread, [other for of, other in spreads.items() if of != name])
        mean = next(arm.mean.overall for arm in arms if arm.name == name)
        intervals[name] = None if reach is None else (mean - reach, mean + reach)
    return [replace(arm, interval=intervals.get(arm.name)) for arm in arms]


def _paired(
    models: Trained, values: Mapping[Seeds, np.ndarray], bounds: EvaluationConfig | None = None
) -> tuple[Paired, list[dict[str, np.ndarray]]]:
    """Return the `values` (N,) that models have of each image, by seed, and each seed's weights of the metrics."""
    first = next(iter(models.values())).predictions
    groups = _groups(values)
    means = np.stack([np.mean([values[seeds] for seeds in group], axis=0) for group in groups])
    paired = Paired.of(means, first.labels, first.probabilities.shape[1])
    if bounds is None:
        return paired, []
    return paired, [metric_weights(models[group[0]].real_counts, paired.tested.tolist(), bounds) for group in groups]


def _groups(pairs: Mapping[Seeds, Any]) -> list[list[Seeds]]:
    """Return the seeds that are averaged before anything is compared: see `compare`."""
    groups: dict[tuple[int | None, int], list[Seeds]] = {}
    for seeds in pairs:
        groups.setdefault((seeds.split, seeds.generation), []).append(seeds)
    return list(groups.values()) if len(groups) > 1 else [[seeds] for seeds in pairs]


@dataclass(frozen=True, slots=True)
class Paired:
    """Paired differences of S seeds on the same test images of C classes.

    Attributes:
        tested: test images per class, (C,).
        means: mean difference of each seed in each class, (S, C); 0 for a class without images.
        covariances: of the images' differences within each class between seeds, (C, S, S); the pooled one for a class
            of a single image.
    """

    tested: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, differences: np.ndarray, labels: np.ndarray, classes: int) -> Paired:
        """Return what `differences` (S, N) of images with `labels` (N,) come to."""
        seeds = len(differences)
        tested = np.bincount(labels, minlength=classes)
        images = np.maximum(tested, 1)
        means = np.stack([np.bincount(labels, row, minlength=classes) for row in differences]) / images
        within = differences - means[:, labels]
        squares = np.empty((classes, seeds, seeds))
        for one in range(seeds):
            for other in range(one + 1):
                squares[:, one, other] = np.bincount(labels, within[one] * within[other], minlength=classes)
                squares[:, other, one] = squares[:, one, other]
        freedom = np.maximum(tested - 1, 0)
        # With one image in every class nothing can be said of what is in a class; they pass for one class then.
        pooled = (
            squares.sum(axis=0) / freedom.sum() if freedom.any() else np.cov(differences, ddof=1).reshape(seeds, -1)
        )
        known = squares / np.maximum(freedom, 1)[:, None, None]
        return cls(tested, means, np.where((freedom > 0)[:, None, None], known, pooled))

    def under(self, weights: np.ndarray) -> tuple[np.ndarray, Spread]:
        """Return each seed's difference in a metric, (S,), and what makes their mean uncertain.

        Args:
            weights: of each class's accuracy in the metric, by seed, (S, C): shot groups differ from split to split.
        """
        per_seed = (self.means * weights).sum(axis=1)
        shares = weights / np.maximum(self.tested, 1)
        images = np.einsum("sc,tc,cst->st", shares, weights, self.covariances)
        seeds = len(per_seed)
        if seeds < 2:
            return per_seed, Spread(seeds, 0.0, float(images[0, 0]), 0.0)
        own = float(np.trace(images)) / seeds
        shared = float(images.sum() - np.trace(images)) / (seeds * (seeds - 1))
        shared = min(max(shared, 0.0), own)
        return per_seed, Spread(seeds, float(per_seed.var(ddof=1)), own - shared, shared)


def with_intervals(table: Sequence[Difference]) -> list[Difference]:
    """Return the differences of one table with their intervals and p-values, where there are seeds enough.

    The spread over seeds of each is shrunk towards that of the others with the same metric and the same baseline.
    """
    return [_with_interval(found, _others(found, table)) for found in table]


def _others(one: Difference, table: Sequence[Difference]) -> list[Spread]:
    return [
        other.spread
        for other in table
        if other is not one and (other.metric, other.baseline) == (one.metric, one.baseline) and other.spread
    ]


def _with_interval(found: Difference, others: Sequence[Spread]) -> Difference:
    spread = found.spread
    if spread is None or not (spread.between or spread.own or spread.shared):
        # Models that say the same of every image are one model.
        others = ()
    reach = None if spread is None else half_width(spread, others)
    if spread is None or reach is None:
        return found
    p = p_value(found.mean, spread, others)
    return replace(found, low=found.mean - reach, high=found.mean + reach, p=p)
