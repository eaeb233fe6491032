"""Accuracy overall, per class and per shot group, the confusion matrix, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from augcond.datasets.summary import SHOT_GROUPS, shot_group
from augcond.evaluation.results import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.config import EvaluationConfig

CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier says of the test images, each of them once.

    Attributes:
        keys: of the images, unique.
        labels: true labels, int64, (N,).
        probabilities: of each class, float, (N, C), rows sum to 1.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("an image is predicted more than once")
        if not len(self.keys) == len(self.labels) == len(self.probabilities):
            raise ValueError(f"{len(self.keys)} keys, {len(self.labels)} labels, {len(self.probabilities)} predictions")

    @property
    def predicted(self) -> np.ndarray:
        """The most probable label of each image, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def correct(self) -> np.ndarray:
        """Whether each image is classified right, bool, (N,)."""
        return np.asarray(self.predicted == self.labels)


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Return the number of images by true and predicted label, int64, (C, C)."""
    classes = predictions.probabilities.shape[1]
    flat = predictions.labels * classes + predictions.predicted
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def confused(predictions: Predictions) -> tuple[tuple[int, int, int], ...]:
    """Return (true label, predicted label, number of images) wherever there are any, sorted."""
    matrix = confusion_matrix(predictions)
    places = np.argwhere(matrix)
    return tuple((int(true), int(predicted), int(matrix[true, predicted])) for true, predicted in places)


def per_class_accuracy(predictions: Predictions) -> list[float | None]:
    """Return the accuracy of each class, None for one without a test image."""
    matrix = confusion_matrix(predictions)
    return [float(row[label] / row.sum()) if row.sum() else None for label, row in enumerate(matrix)]


def calibration_error(predictions: Predictions, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error, in [0, 1].

    The mean distance between confidence (the highest probability) and accuracy over `bins` bins of equal width, each
    weighted by its images.

    Source: Guo et al. 2017, arXiv 1706.04599.
    """
    confidence = predictions.probabilities.max(axis=1)
    # A confidence on a bound belongs to the bin above it, as in torchmetrics; 1 to the last.
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=predictions.correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def metric_weights(counts: Sequence[int], tested: Sequence[int], bounds: EvaluationConfig) -> dict[str, np.ndarray]:
    """Return, for each metric, the weight (C,) of each class's accuracy in it.

    Args:
        counts: real training images per class.
        tested: test images per class; a class without any weighs nothing.
        bounds: of the shot groups.

    Returns:
        `overall`, `class_mean`, and each shot group that has a class with test images; weights sum to 1.
    """
    images = np.asarray(tested, float)
    present = images > 0
    weights = {"overall": images / images.sum(), "class_mean": present / present.sum()}
    groups = np.array([shot_group(count, bounds) for count in counts])
    for group in SHOT_GROUPS:
        members = present & (groups == group)
        if members.any():
            weights[group] = members / members.sum()
    return weights


def measure(predictions: Predictions, counts: Sequence[int], bounds: EvaluationConfig) -> Metrics:
    """Return how good predictions are.

    Args:
        predictions: of every test image.
        counts: real training images per class, (C,).
        bounds: of the shot groups.
    """
    tested = confusion_matrix(predictions).sum(axis=1)
    accuracy = np.array([value or 0.0 for value in per_class_accuracy(predictions)])
    values = {name: float(w @ accuracy) for name, w in metric_weights(counts, tested.tolist(), bounds).items()}
    return Metrics(
        overall=values["overall"],
        class_mean=values["class_mean"],
        many=values.get("many"),
        medium=values.get("medium"),
        few=values.get("few"),
        calibration_error=calibration_error(predictions),
    )
