from dataclasses import replace

from augcond.report.costs import training_cost
from tests.report.runs import make_results


def timed(results, training, evaluation):
    return replace(
        results,
        arms=tuple(
            replace(
                arm,
                seeds=tuple(replace(s, training_seconds=training, evaluation_seconds=evaluation) for s in arm.seeds),
            )
            for arm in results.arms
        ),
    )


def test_times_add_up_over_seeds_and_arms():
    cost = training_cost(timed(make_results(), 30.0, 2.0))
    assert (cost.models, cost.training, cost.evaluation) == (6, 180.0, 12.0)
    assert [(arm.name, arm.models, arm.training) for arm in cost.arms] == [
        ("real-only", 2, 60.0),
        ("image", 2, 60.0),
        ("more-real", 2, 60.0),
    ]


def test_results_are_alike_whatever_time_they_took():
    assert timed(make_results(), 3.0, 0.2) == make_results()
