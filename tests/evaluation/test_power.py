"""What it takes to decide a difference: against simulation, and told of what was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import RunError
from augcond.evaluation.power import POWER, components, detectable, in_words, needed
from augcond.evaluation.results import Seeds, Spread, write_results
from augcond.evaluation.statistics import p_values
from tests.report.runs import arm, gain, make_results


def measured(spread, *, splits=5, trainings=1, apart=0.0):
    """Return results whose one comparison varies by `spread`; trainings of a split differ by `apart`."""
    arms = [arm("real-only", "real-only", (0.5,) * splits * trainings)]
    arms.append(arm("image", "synthetic", tuple(0.5 + apart * (n % trainings) for n in range(splits * trainings))))
    arms = [
        replace(
            one,
            seeds=tuple(
                replace(seed, seeds=Seeds(n // trainings, n // trainings, n)) for n, seed in enumerate(one.seeds)
            ),
        )
        for one in arms
    ]
    return make_results(arms=tuple(arms), differences=(replace(gain("image", 0.02, family=1), spread=spread),))


def test_what_is_within_reach_is_decided_four_times_in_five():
    found = components(measured(Spread(5, 4e-4, 1e-4, 5e-5)))
    for seeds in (3, 10):
        spread = found.spread(seeds)
        effect = detectable(found, spread)
        rng = np.random.default_rng(seeds)
        drawn = rng.normal(effect, np.sqrt(spread.between), (4000, seeds))
        means = drawn.mean(axis=1) + rng.normal(0, np.sqrt(spread.shared), 4000)
        parts = (np.full(4000, value) for value in (spread.own, spread.shared))
        decided = p_values(means, drawn.var(axis=1, ddof=1), seeds - 1, *parts, seeds) <= 0.05
        assert decided.mean() == pytest.approx(POWER, abs=0.07)


def test_more_images_and_more_trainings_take_fewer_seeds():
    # Trainings of a split differ by .02 or not at all: a variance of .0002, half of which the images make.
    found = components(measured(Spread(5, 3e-4, 5e-5, 1e-5), trainings=2, apart=0.02))
    assert (found.splits, found.trainings, found.own) == pytest.approx((2e-4, 1e-4, 1e-4))
    seeds = {(cell.images, cell.trainings): cell.seeds for cell in needed(found, 0.02)}
    assert len(seeds) == 9
    assert seeds[300, 1] > seeds[300, 4] > 2
    assert seeds[300, 1] > seeds[1200, 1]
    assert needed(found, 1e-5)[0].seeds is None


def test_one_split_says_nothing_of_others():
    results = measured(Spread(3, 4e-4, 1e-4, 5e-5), splits=1, trainings=3)
    found = components(results)
    assert (found.splits, found.trainings) == (None, pytest.approx(3e-4))
    assert "There is one split here" in " ".join(in_words(found, 0.01))
    assert {cell.trainings for cell in needed(found, 0.01)} == {1}


def test_nothing_is_said_of_results_without_two_seeds():
    with pytest.raises(RunError, match="two arms and two seeds at least"):
        components(make_results(differences=()))


def test_the_command_prints_it(tmp_path):
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    write_results(tmp_path / "results.json", measured(Spread(5, 4e-4, 1e-4, 5e-5)))
    said = CliRunner().invoke(app, ["power", str(tmp_path), "--effect", "2"])
    assert said.exit_code == 0, said.output
    assert "1.73 between splits and trainings, 1.22 from 300 test images" in said.output
    assert "2 points: " in said.output and "seeds with 600 test images." in said.output
    found = json.loads(CliRunner().invoke(app, ["power", str(tmp_path), "--json"]).output)
    assert found["effect"] == 0.01 and found["needed"][0]["images"] == 300
