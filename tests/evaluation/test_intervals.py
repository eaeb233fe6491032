"""Paired intervals: they hold the truth about as often as they say, and pairing narrows them."""

from dataclasses import replace

import numpy as np
import pytest

from augcond.config import EvaluationConfig
from augcond.evaluation.intervals import (
    Paired,
    SeedPredictions,
    comparable,
    compare,
    mean_metrics,
    spread_metrics,
    with_intervals,
)
from augcond.evaluation.metrics import Predictions, measure
from augcond.evaluation.results import Metrics, Seeds

COUNTS = (200, 50, 5)
BOUNDS = EvaluationConfig()


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
    found = {difference.metric: difference for difference in with_intervals(compare("a", "b", arms, BOUNDS))}
    means = {name: mean_metrics([measure(m.predictions, COUNTS, BOUNDS) for m in arms[name].values()]) for name in arms}
    for metric in ("overall", "class_mean", "many", "medium", "few"):
        difference = found[metric]
        assert difference.mean == pytest.approx(getattr(means["a"], metric) - getattr(means["b"], metric))
        assert difference.low < difference.mean < difference.high
        assert difference.seeds == 3
    assert found["overall"].low > 0


def test_equal_models_differ_by_nothing():
    rng = np.random.default_rng(1)
    arms = {"b": models(0.7, 3, rng), "c": models(0.6, 3, rng)}
    arms["a"] = arms["b"]
    table = [*compare("a", "b", arms, BOUNDS), *compare("c", "b", arms, BOUNDS)]
    for difference in with_intervals(table)[:5]:
        assert difference.mean == difference.low == difference.high == 0.0
        assert difference.p == pytest.approx(1.0)


def test_two_seeds_have_no_interval_and_say_what_each_gained():
    right, wrong = (models(share, 2, np.random.default_rng(5)) for share in (1.0, 0.0))
    for difference in with_intervals(compare("a", "b", {"a": right, "b": wrong}, BOUNDS)):
        assert (difference.low, difference.high, difference.p) == (None, None, None)
        assert difference.text == "+100.0 (too few seeds for an interval: +100.0, +100.0)"


def test_seeds_that_differ_without_image_noise_have_students_interval():
    # Both accuracies of a seed are certain, so nothing but the draw of seeds makes the interval wide.
    from scipy.stats import t

    rng = np.random.default_rng(5)
    right, wrong = models(1.0, 4, rng), models(0.0, 4, rng)
    mixed = {seeds: (right if seeds.training else wrong)[seeds] for seeds in right}
    overall = with_intervals(compare("a", "b", {"a": mixed, "b": wrong}, BOUNDS))[0]
    assert overall.mean == 0.75
    reach = t.ppf(0.975, 3) * np.std([0, 1, 1, 1], ddof=1) / 2
    assert (overall.low, overall.high) == pytest.approx((0.75 - reach, 0.75 + reach), rel=1e-4)
    assert overall.p == pytest.approx(2 * t.sf(0.75 / (reach / t.ppf(0.975, 3)), 3), rel=1e-4)


def test_the_variance_of_test_images_is_parted_into_shared_and_own():
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1], [900, 600])
    common = rng.standard_normal(1500)
    differences = 0.6 * common + 0.8 * rng.standard_normal((4, 1500)) + np.array([[0.0], [1.0], [2.0], [3.0]])
    # What a whole class has is no noise: other test images would have it too.
    differences[:, :900] += 5.0
    paired = Paired.of(differences, labels, 2)
    per_seed, spread = paired.under(np.tile([0.6, 0.4], (4, 1)))
    assert per_seed == pytest.approx(differences.mean(axis=1))
    assert spread.between == pytest.approx(per_seed.var(ddof=1))
    assert (1500 * spread.shared, 1500 * spread.own) == pytest.approx((0.36, 0.64), rel=0.15)


def test_a_class_of_one_test_image_has_the_noise_of_the_others():
    rng = np.random.default_rng(7)
    labels = np.array([0] * 400 + [1])
    paired = Paired.of(rng.standard_normal((3, 401)), labels, 3)
    assert np.allclose(paired.covariances[1], paired.covariances[0])
    alone = Paired.of(rng.standard_normal((3, 2)), np.array([0, 1]), 2)
    assert np.isfinite(alone.covariances).all()


def test_trainings_of_one_split_are_averaged_where_there_are_several_splits():
    rng = np.random.default_rng(8)
    arms = {}
    for name, accuracy in (("a", 0.8), ("b", 0.6)):
        found = models(accuracy, 6, rng)
        arms[name] = {Seeds(s // 2, s // 2, s): model for s, model in enumerate(found.values())}
    overall = compare("a", "b", arms, BOUNDS)[0]
    one = {s: measure(m.predictions, COUNTS, BOUNDS).overall for s, m in arms["a"].items()}
    other = {s: measure(m.predictions, COUNTS, BOUNDS).overall for s, m in arms["b"].items()}
    gains = [one[s] - other[s] for s in one]
    assert overall.per_seed == pytest.approx([np.mean(gains[place : place + 2]) for place in (0, 2, 4)])


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
