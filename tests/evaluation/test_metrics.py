"""Metrics against torchmetrics and scikit-learn, and the bounds of the shot groups."""

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from augcond.config import EvaluationConfig
from augcond.evaluation.metrics import (
    Predictions,
    calibration_error,
    confusion_matrix,
    measure,
    metric_weights,
    per_class_accuracy,
)

CLASSES = 5


def random_predictions(seed: int = 0, count: int = 400, classes: int = CLASSES) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=rng.dirichlet(np.full(classes, 2.0)))
    logits = rng.normal(size=(count, classes)) * 1.5
    logits[np.arange(count), labels] += 1
    odds = np.exp(logits)
    return Predictions(tuple(map(str, range(count))), labels.astype(np.int64), odds / odds.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_torchmetrics_and_scikit_learn(seed):
    predictions = random_predictions(seed)
    measured = measure(predictions, [500, 100, 50, 20, 3], EvaluationConfig())
    truth, guess = predictions.labels, predictions.predicted
    assert measured.overall == pytest.approx(reference.accuracy_score(truth, guess))
    assert measured.class_mean == pytest.approx(reference.balanced_accuracy_score(truth, guess))
    assert np.array_equal(confusion_matrix(predictions), reference.confusion_matrix(truth, guess))
    each = multiclass_accuracy(torch.tensor(guess), torch.tensor(truth), CLASSES, average="none")
    assert per_class_accuracy(predictions) == pytest.approx(each.tolist())
    error = multiclass_calibration_error(
        torch.tensor(predictions.probabilities), torch.tensor(truth), CLASSES, n_bins=15, norm="l1"
    )
    assert measured.calibration_error == pytest.approx(float(error), abs=1e-6)
    assert measured.medium == pytest.approx(each[1:4].mean().item())


def test_shot_groups_on_the_bounds():
    counts = [101, 100, 20, 19]
    perfect = Predictions(("a", "b", "c", "d"), np.arange(4), np.eye(4))
    weights = metric_weights(counts, [1, 1, 1, 1], EvaluationConfig())
    assert weights["many"].tolist() == [1, 0, 0, 0]
    assert weights["medium"].tolist() == [0, 0.5, 0.5, 0]
    assert weights["few"].tolist() == [0, 0, 0, 1]
    assert measure(perfect, counts, EvaluationConfig()).few == 1.0
    assert measure(perfect, [500] * 4, EvaluationConfig()).few is None


def test_a_class_without_test_images_does_not_count():
    predictions = Predictions(("a", "b"), np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert per_class_accuracy(predictions) == [0.5, None]
    measured = measure(predictions, [30, 3], EvaluationConfig())
    assert measured.class_mean == 0.5
    assert measured.few is None


def test_calibration_error_by_hand():
    # Confidence 0.9 and right half of the time, in one bin: the gap is 0.4.
    predictions = Predictions(("a", "b"), np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]))
    assert calibration_error(predictions) == pytest.approx(0.4)


def test_an_image_counts_once():
    with pytest.raises(ValueError, match="more than once"):
        Predictions(("a", "a"), np.array([0, 0]), np.full((2, 2), 0.5))
