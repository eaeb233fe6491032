"""Means and spreads over seeds, and paired bootstrap intervals of the difference between two settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from augcond.conditioning.streams import numpy_stream
from augcond.evaluation.metrics import Predictions, confusion_matrix, metric_weights
from augcond.evaluation.results import METRICS, Difference, MetricName, Metrics, Seeds

if TYPE_CHECKING:
    from augcond.config import EvaluationConfig

_SEED = 0  # the same resamples for every pair: intervals compare
_CHUNK = 256  # resamples at a time
_KEPT = 10_000_000  # so many numbers are kept for the next pair of arms, 40 MB


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
    """Return the differences of all accuracies between two arms, with their 95 % intervals.

    A resample draws seeds, and test images within each class, with replacement; both arms get the same ones, so what
    makes a seed or an image easy for both cancels. With few seeds the interval is too narrow for the spread over
    seeds (three seeds have few resamples): read it beside the spread.

    Args:
        arm: name of one arm.
        baseline: name of the arm to subtract.
        models: the models of each arm; seeds that only one of the two has are left out.
        bounds: of the shot groups, and the number of resamples.

    Raises:
        ValueError: no seed is in both arms, or they were trained on different numbers of real images or tested on
            different images.
    """
    obstacle = _obstacle(models[arm], models[baseline])
    if obstacle is not None:
        raise ValueError(f"{arm!r} and {baseline!r} {obstacle}")
    pairs = [(own, models[baseline][seeds]) for seeds, own in models[arm].items() if seeds in models[baseline]]
    first = pairs[0][0].predictions
    tested = confusion_matrix(first).sum(axis=1)
    weights = [metric_weights(left.real_counts, tested.tolist(), bounds) for left, _ in pairs]
    names: list[MetricName] = [
        name for name in ("overall", "class_mean", "many", "medium", "few") if all(name in entry for entry in weights)
    ]
    differences = np.stack(
        [left.predictions.correct.astype(float) - right.predictions.correct for left, right in pairs]
    )
    resampled = _resample(differences, first.labels, len(tested), bounds.bootstrap)
    plain = _class_means(differences, np.ones((1, len(first.labels))), first.labels, len(tested))[0]
    found = []
    for name in names:
        per_seed = np.stack([entry[name] for entry in weights])  # (S, C)
        value = float(np.mean(np.sum(plain * per_seed, axis=1)))
        drawn = np.einsum("bsc,sc,bs->b", resampled.classes, per_seed, resampled.seeds)
        low, high = np.quantile(drawn, [0.025, 0.975])
        found.append(Difference(arm, baseline, name, value, float(low), float(high), len(pairs)))
    return found


@dataclass(frozen=True, slots=True)
class _Resamples:
    """`classes`: mean difference per class, (B, S, C); `seeds`: weight of each seed, (B, S), rows sum to 1."""

    classes: np.ndarray
    seeds: np.ndarray


def _resample(differences: np.ndarray, labels: np.ndarray, classes: int, count: int) -> _Resamples:
    seeds = differences.shape[0]
    draw = _drawn_once if count * len(labels) <= _KEPT else _draw
    drawn, chunks = draw(seeds, labels.astype(np.int64).tobytes(), classes, count)
    parts = [_class_means(differences, times.astype(float), labels, classes) for times in chunks]
    return _Resamples(np.concatenate(parts), drawn)


def _draw(seeds: int, labels: bytes, classes: int, count: int) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    """Return the weight of each seed, (B, S), and how often each image comes, in chunks of B, (b, N)."""
    rng = numpy_stream(_SEED, "bootstrap")
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count) / seeds
    array = np.frombuffer(labels, np.int64)
    members = [np.flatnonzero(array == label) for label in range(classes)]

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, count, _CHUNK):
            times = np.zeros((min(_CHUNK, count - start), len(array)), np.int32)
            for own in members:
                if len(own):
                    times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), len(times))
            yield times

    return drawn, chunks()


@lru_cache(maxsize=4)
def _drawn_once(seeds: int, labels: bytes, classes: int, count: int) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    """Return what `_draw` does; drawing takes most of the time, and the arms of a table share their images."""
    drawn, chunks = _draw(seeds, labels, classes, count)
    return drawn, list(chunks)


def _class_means(differences: np.ndarray, times: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean difference per class, (B, S, C), of images that come `times` (B, N) often; 0 without images."""
    means = np.zeros((len(times), len(differences), classes))
    for label in range(classes):
        own = np.flatnonzero(labels == label)
        if len(own):
            means[:, :, label] = times[:, own] @ differences[:, own].T / len(own)
    return means
