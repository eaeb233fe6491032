"""Paired intervals: they hold the truth about as often as they say, and pairing narrows them."""

from dataclasses import replace

import numpy as np
import pytest

from augcond.config import EvaluationConfig
from augcond.evaluation.intervals import SeedPredictions, comparable, compare, mean_metrics, spread_metrics
from augcond.evaluation.metrics import Predictions, measure
from augcond.evaluation.results import Metrics, Seeds

COUNTS = (200, 50, 5)
BOUNDS = EvaluationConfig(bootstrap=400)


def models(accuracy: float, seeds: int, rng: np.random.Generator, count: int = 300) -> dict[Seeds, SeedPredictions]:
    labels = np.arange(count) % 3
    made = {}
    for seed in range(seeds):
        right = rng.random(count) < accuracy
        guess = np.where(right, labels, (labels + 1) % 3)
        predictions = Predictions(tuple(map(str, range(count))), labels, np.eye(3)[guess])
        made[Seeds(0, 0, seed)] = SeedPredictions(predictions, COUNTS)
    return made


def test_the_difference_is_that_of_the_means():
    rng = np.random.default_rng(0)
    arms = {"a": models(0.8, 3, rng), "b": models(0.6, 3, rng)}
    found = {difference.metric: difference for difference in compare("a", "b", arms, BOUNDS)}
    means = {name: mean_metrics([measure(m.predictions, COUNTS, BOUNDS) for m in arms[name].values()]) for name in arms}
    for metric in ("overall", "class_mean", "many", "medium", "few"):
        difference = found[metric]
        assert difference.mean == pytest.approx(getattr(means["a"], metric) - getattr(means["b"], metric))
        assert difference.low < difference.mean < difference.high
        assert difference.seeds == 3
    assert found["overall"].low > 0


def test_equal_models_differ_by_nothing():
    arms = {"a": models(0.7, 2, np.random.default_rng(1)), "b": models(0.7, 2, np.random.default_rng(1))}
    for difference in compare("a", "b", arms, BOUNDS):
        assert difference.mean == difference.low == difference.high == 0.0


def test_an_interval_covers_the_truth_most_of_the_time():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(60):
        arms = {"a": models(0.7, 5, rng), "b": models(0.65, 5, rng)}
        overall = compare("a", "b", arms, EvaluationConfig(bootstrap=200))[0]
        covered += overall.low <= 0.05 <= overall.high
    assert covered >= 50


def test_an_interval_spans_seeds_that_differ():
    # Both accuracies of a seed are certain, so nothing but the draw of seeds makes the interval wide.
    rng = np.random.default_rng(5)
    right, wrong = models(1.0, 2, rng), models(0.0, 2, rng)
    first, second = right
    arms = {
        "a": {first: right[first], second: wrong[second]},
        "b": {first: wrong[first], second: right[second]},
    }
    for difference in compare("a", "b", arms, BOUNDS):
        assert (difference.low, difference.mean, difference.high) == pytest.approx((-1.0, 0.0, 1.0), abs=1e-9)


def test_only_seeds_that_both_have_are_compared():
    rng = np.random.default_rng(3)
    arms = {"a": models(0.7, 3, rng), "b": models(0.7, 2, rng)}
    assert compare("a", "b", arms, BOUNDS)[0].seeds == 2
    with pytest.raises(ValueError, match="no seed in common"):
        compare("a", "b", {"a": arms["a"], "b": {}}, BOUNDS)


def test_different_test_images_are_refused():
    rng = np.random.default_rng(4)
    arms = {"a": models(0.7, 1, rng), "b": models(0.7, 1, rng)}
    seeds, model = next(iter(arms["b"].items()))
    arms["b"][seeds] = replace(model, predictions=replace(model.predictions, keys=tuple(map(str, range(1, 301)))))
    with pytest.raises(ValueError, match="different images"):
        compare("a", "b", arms, BOUNDS)
    assert not comparable(arms["a"], arms["b"])


def test_test_images_that_differ_from_seed_to_seed_are_refused():
    one = models(0.7, 2, np.random.default_rng(6))
    last = Seeds(0, 0, 1)
    keys = tuple(map(str, range(1, 301)))
    one[last] = replace(one[last], predictions=replace(one[last].predictions, keys=keys))
    with pytest.raises(ValueError, match="different images"):
        compare("a", "b", {"a": one, "b": one}, BOUNDS)
    assert not comparable(one, one)


def test_other_real_training_images_are_refused():
    rng = np.random.default_rng(7)
    arms = {"a": models(0.7, 2, rng), "b": models(0.7, 2, rng)}
    assert comparable(arms["a"], arms["b"])
    last = Seeds(0, 0, 1)
    arms["b"][last] = replace(arms["b"][last], real_counts=(200, 50, 6))
    with pytest.raises(ValueError, match=r"'a' and 'b' were trained on different real images: \[200, 50, 5\] and"):
        compare("a", "b", arms, BOUNDS)
    assert not comparable(arms["a"], arms["b"])


def test_mean_and_spread():
    first = Metrics(0.5, 0.5, None, 0.2, 0.1, 0.0)
    second = Metrics(0.7, 0.5, None, 0.4, 0.1, 0.2)
    assert mean_metrics([first, second]) == Metrics(0.6, 0.5, None, pytest.approx(0.3), 0.1, 0.1)
    assert spread_metrics([first, second]).overall == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert spread_metrics([first]) is None
