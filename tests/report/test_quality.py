from functools import partial

import pytest
import torch

from augcond.evaluation.distribution import kernel_distance
from augcond.report.pictures import SourceImages
from augcond.report.quality import _halves, measure_quality
from augcond.testing import FakeGenerator
from augcond.training.probes import generator_features


@pytest.fixture(scope="module")
def quality(facts):
    return measure_quality(
        facts, SourceImages(facts), partial(generator_features, FakeGenerator()), "fake", samples=30, worst=5
    )


def test_every_recipe_is_measured_beside_real_images(quality, facts):
    assert [entry.name for entry in quality.recipes] == list(facts.recipes)
    assert quality.real_images == 30
    assert 10 < quality.reference.images <= 15
    for entry in quality.recipes:
        assert 2 <= entry.images <= 30
        assert 0 <= entry.semantic_error <= 1 and 0 <= entry.domain_shift <= 1
        assert entry.frechet > 0 and entry.vendi >= 1 and 0 <= entry.neighbourhoods.precision <= 1
    # By its threshold, about one real image in twenty lies outside.
    assert quality.reference.domain_shift <= 0.1


def test_the_worst_misses_come_first(quality, facts):
    for misses in (quality.wrong_class, quality.wrong_style):
        scores = [miss.score for miss in misses]
        assert scores == sorted(scores, reverse=True) and 0 < len(scores) <= 5
        assert all(facts.made[miss.position] for miss in misses)
    assert all(miss.score > quality.threshold for miss in quality.wrong_style)
    assert all(miss.looks_like for miss in quality.wrong_class)


def test_halves_split_each_class():
    labels = torch.tensor([0, 1, 0, 1, 0, 2])
    first, second = _halves(labels)
    assert first.tolist() == [True, True, False, False, True, True]
    assert (first ^ second).all()


def test_the_numbers_are_those_of_the_metrics(quality, facts):
    from augcond.report.quality import _real_sample, _recipe_sample

    extractor = partial(generator_features, FakeGenerator())
    real = _real_sample(facts, SourceImages(facts), extractor, 30)
    made = _recipe_sample(facts, "mixup", extractor, 30)
    assert quality.recipes[2].kernel == pytest.approx(kernel_distance(real.features, made.features))
