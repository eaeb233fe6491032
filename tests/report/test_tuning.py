"""A tuning's estimate beside the outcome of its run."""

from dataclasses import replace

import pytest

from augcond.errors import RunError
from augcond.evaluation.tuning import Gain, write_tuning
from augcond.report.tuning import draw_budget, figure_files, tuned_facts
from augcond.store import RunFolder
from tests.evaluation.test_tuning import tuning
from tests.report.runs import gain, make_results


@pytest.fixture
def tuned(tmp_path):
    folder = RunFolder(tmp_path / "study")
    folder.tuned_run_path.mkdir(parents=True)
    return folder


def test_a_run_that_no_tuning_chose_has_no_facts(tuned, tmp_path):
    write_tuning(tuned.tuning_path, tuning())
    assert tuned_facts(RunFolder(tmp_path / "study" / "other"), None) is None
    tuned.tuning_path.unlink()
    assert tuned_facts(RunFolder(tuned.tuned_run_path), None) is None


def test_estimate_and_outcome(tuned):
    arm, measured = "image", 0.04
    results = make_results(differences=(gain(arm, 0.11), replace(gain(arm, measured), metric="class_mean")))
    run = RunFolder(tuned.tuned_run_path)
    for estimate, held in ((Gain(0.0, -1.0, 1.0), True), (Gain(measured - 0.2, measured - 0.3, measured - 0.1), False)):
        write_tuning(tuned.tuning_path, tuning(gain=estimate))
        facts = tuned_facts(run, results)
        assert (facts.arm, facts.outcome, facts.interval, facts.held) == (arm, measured, "-1.0 to +9.0", held)
        assert facts.finalists == [("a", "+2.0 (-1.0 to +5.0)")]
        assert tuned_facts(run, None).outcome is None
    write_tuning(tuned.tuning_path, tuning(chosen="real-only"))
    assert tuned_facts(run, results).held is None


def test_a_damaged_tuning_is_named(tuned):
    tuned.tuning_path.write_text("{}")
    with pytest.raises(RunError, match=r"tuning\.json"):
        tuned_facts(RunFolder(tuned.tuned_run_path), None)


def test_the_figure_has_every_round():
    found = tuning()
    two = replace(found, rounds=(*found.rounds, replace(found.rounds[0], made=40)))
    (axes,) = draw_budget(two).axes
    (bars,) = axes.containers
    assert bars[0].get_xdata().tolist() == [20, 40]
    assert sorted(figure_files(two)) == ["png", "svg"]
    assert figure_files(two) == figure_files(two)
    assert draw_budget(replace(found, rounds=())) is None
    assert figure_files(replace(found, rounds=())) == {}
