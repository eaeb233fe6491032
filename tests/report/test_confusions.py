"""Errors on the page, and the test images behind them."""

import json
import re
from dataclasses import replace

import pytest

from augcond.errors import CorruptRunError
from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import read_results
from augcond.report.confusions import _pairs, mean_matrix, open_held_out, predictions_of
from augcond.report.facts import read_facts
from augcond.store import RunFolder
from tests.report.runs import make_results
from tests.report.test_report import parse


def island(page, name):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(f'id="{name}">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def results(trained):
    return read_results(trained.run / "results.json")


def test_the_matrices_are_means_over_the_seeds(trained_page, results):
    data = island(trained_page, "errors-data")
    assert data["whole"] and data["arms"] == ["real-only", "text", "mixup"] and data["seeds"] == [3, 3, 3]
    for cells, arm in zip(data["cells"], results.arms, strict=True):
        assert sum(images for _, _, images in cells) == pytest.approx(results.test_images, abs=0.1)
        assert {(t, p): pytest.approx(n, abs=0.01) for t, p, n in cells} == mean_matrix(arm)


def test_every_image_says_what_the_models_said(trained_page, trained, results):
    shown = island(trained_page, "errors-data")["images"]
    assert shown
    said = [
        [read_predictions(trained.run / seed.predictions, seed.predictions_sha256) for seed in arm.seeds]
        for arm in results.arms
    ]
    keys = said[0][0].keys
    pictures = island(trained_page, "pictures-data")
    for image in shown:
        place = keys.index(image["key"])
        assert image["said"] == [[int(seed.predicted[place]) for seed in arm] for arm in said]
        assert any(answer != image["label"] for arm in image["said"] for answer in arm)
        assert pictures[image["image"]].startswith("data:image/")


def test_pairs_have_their_difference_to_the_first_arm():
    results = make_results()
    (first, *_) = pairs = _pairs([mean_matrix(arm) for arm in results.arms])
    assert len(pairs) == 6 and first.images == (1.0, 1.0, 1.0) and first.changes == (0.0, 0.0)


def test_only_listed_test_images_are_opened(trained):
    opened = open_held_out(read_facts(RunFolder(trained.run)).config)
    assert opened("../train/a/000.png") is None


def test_the_page_tells_what_is_confused_without_a_script(trained_page, results):
    text = re.sub(r"\s+", " ", " ".join(parse(trained_page).texts))
    assert "Confused most" in text and "in brackets the difference to real-only" in text


def test_predictions_outside_of_the_run_are_not_read(trained, results):
    folder = RunFolder(trained.run)
    seed = replace(results.arms[0].seeds[0], predictions="../elsewhere.parquet")
    with pytest.raises(CorruptRunError, match="names predictions outside of the run"):
        predictions_of(folder, seed)
