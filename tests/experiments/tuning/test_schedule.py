"""A budget is never exceeded, pilots grow, and too small a budget is refused."""

import itertools

import pytest

from augcond.errors import ConfigError
from augcond.experiments.tuning.schedule import Effort, parse_budget, pilot_amounts, schedule_of


@pytest.mark.parametrize(
    ("budget", "classes", "designed"), [*itertools.product((400, 500, 2000, 9000), (3, 10), (2, 6, 14))]
)
def test_budgets_hold_and_pilots_grow(budget, classes, designed):
    planned = 60 * classes
    found = schedule_of(budget, 20 * classes, planned, designed, Effort())
    spent = sum(
        pilot.sets * (pilot.images - before)
        for pilot, before in zip(found.pilots, (0, *(pilot.images for pilot in found.pilots)), strict=False)
    )
    assert spent == found.images <= budget
    assert all(one.sets > other.sets and one.images <= other.images for one, other in itertools.pairwise(found.pilots))
    assert all(pilot.images <= planned and pilot.candidates <= 24 for pilot in found.pilots)
    assert found.pilots[0].sets - found.proposed <= designed
    assert found.pilots[-1].candidates == 3
    assert found.pilots[0].sets >= 2


def test_more_images_buy_more_sets():
    few, many = (schedule_of(budget, 200, 1000, 14, Effort()) for budget in (500, 9000))
    assert few.pilots[0].sets < many.pilots[0].sets == 12
    assert len(many.pilots) == 3


def test_what_a_budget_is():
    assert parse_budget("2000") == (2000.0, False)
    assert parse_budget(" 2h ") == (2.0, True)
    assert parse_budget("0.5h") == (0.5, True)
    for wrong in ("", "0", "-3", "2.5", "2 days", "h"):
        with pytest.raises(ConfigError, match="--budget"):
            parse_budget(wrong)
    with pytest.raises(ConfigError, match="two pilots take 400 at least"):
        schedule_of(399, 200, 1000, 14, Effort())
    with pytest.raises(ConfigError, match="even"):
        Effort(trainings=3)
    with pytest.raises(ConfigError, match="three finalists"):
        Effort(finalists=2)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_round_has_more_candidates_than_were_asked_for(most):
    for budget in (400, 2000, 9000):
        pilots = schedule_of(budget, 200, 1000, 14, Effort(candidates=most)).pilots
        assert all(max(pilot.sets, pilot.candidates) <= most for pilot in pilots)


def test_pilots_have_the_proportions_of_the_run():
    assert pilot_amounts([100, 50, 10, 0], 32) == [20, 10, 2, 0]
    assert pilot_amounts([1, 100], 10) == [1, 9]
    assert pilot_amounts([4, 4], 8) == [4, 4]
