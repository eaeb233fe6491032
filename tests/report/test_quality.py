import shutil
from functools import partial

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from augcond.evaluation.distribution import kernel_distance
from augcond.report.facts import read_facts
from augcond.report.judge import Judge, choose_judge
from augcond.report.pictures import SourceImages
from augcond.report.quality import _halves, measure_quality
from augcond.report.rates import Rate
from augcond.store import RunFolder
from augcond.testing import FakeGenerator
from augcond.training.probes import generator_features
from tests.report.test_report import text_of

FAKE = Judge(partial(generator_features, FakeGenerator()), "fake", circular=True)


@pytest.fixture(scope="module")
def quality(facts):
    return measure_quality(facts, SourceImages(facts), FAKE, samples=30, worst=5)


def test_every_recipe_is_measured_beside_real_images(quality, facts):
    assert [entry.name for entry in quality.recipes] == list(facts.recipes)
    assert quality.real_images == 30
    assert 10 < quality.reference.images <= 15
    for entry in quality.recipes:
        assert 2 <= entry.images <= 30
        assert 0 <= entry.semantic_error.share <= 1 and 0 <= entry.domain_shift.share <= 1
        assert entry.frechet > 0 and entry.vendi >= 1 and 0 <= entry.neighbourhoods.precision <= 1
    # By its threshold, about one real image in twenty lies outside.
    assert quality.reference.domain_shift.share <= 0.1


def test_the_worst_misses_of_every_recipe_come_first(quality, facts):
    recipes = facts.plan.plan.table["recipe"].to_pylist()
    for misses in (quality.wrong_class, quality.wrong_style):
        own = {recipe: [m.score for m in misses if recipes[m.position] == recipe] for recipe in facts.recipes}
        assert all(scores == sorted(scores, reverse=True) and len(scores) <= 5 for scores in own.values())
        assert sum(map(bool, own.values())) > 1
        assert all(facts.made[miss.position] for miss in misses)
    assert all(miss.score > quality.threshold for miss in quality.wrong_style)
    assert all(miss.looks_like for miss in quality.wrong_class)


def test_rates_are_counted_per_recipe_and_shot_group(quality, facts):
    table = quality.judged
    assert table.num_rows == sum(entry.semantic_error.of for entry in quality.recipes)
    for entry in quality.recipes:
        groups = [group for group in quality.groups if group.recipe == entry.name]
        assert sum(group.semantic_error.of for group in groups) == entry.semantic_error.of
        assert sum(group.domain_shift.hits for group in groups) == entry.domain_shift.hits
        rows = table.filter(pc.equal(table["recipe"], entry.name))
        assert pc.sum(rows["misses_class"]).as_py() == entry.semantic_error.hits
        assert pc.sum(rows["misses_style"]).as_py() == entry.domain_shift.hits
    # The reference says what it was counted on.
    assert quality.reference.semantic_error.of == quality.real_images


def test_the_interval_of_a_rate_is_wilsons():
    # Against scipy's, an independent one.
    for hits, of in ((0, 10), (3, 10), (37, 324), (10, 10)):
        low, high = Rate(hits, of).interval
        found = stats.binomtest(hits, of).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((found.low, found.high), abs=1e-6)


def test_the_generators_own_encoder_is_called_circular(facts):
    assert choose_judge(facts, "generator").circular
    # Nothing was trained on real images alone here.
    assert choose_judge(facts, "auto").circular


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


def test_a_run_is_judged_by_its_own_classifier_which_made_nothing(trained, trained_page):
    text = text_of(trained_page)
    assert "small-cnn, trained on real images alone (arm real-only, seed 0)" in text
    assert "counted on validation images, which the judge has not seen" in text
    assert "circular" not in text
    judged = pq.read_table(trained_page.parent / "misses.parquet")
    assert judged.num_rows == read_facts(RunFolder(trained.run)).status.ok == 24
    assert set(judged["recipe"].to_pylist()) == {"text", "mixup"}


def test_a_run_begun_before_that_was_the_default_is_judged_as_it_was(trained, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    kept = tmp_path / "run" / "config.yaml"
    kept.write_text("".join(line for line in kept.read_text().splitlines(True) if "  features:" not in line))
    facts = read_facts(RunFolder(tmp_path / "run"))
    assert facts.config.evaluation.features == "generator"
