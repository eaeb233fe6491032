"""Intervals against what they are in known cases, and how often they hold the truth on a small grid."""

import numpy as np
import pytest
from benchmarks.coverage import Cell, measure_cell
from scipy.stats import norm, t

from augcond.evaluation.results import Spread
from augcond.evaluation.statistics import BORROWED, half_width, moderated, p_value


@pytest.mark.parametrize("seeds", [3, 5, 40, 300])
def test_without_image_noise_it_is_students(seeds):
    found = Spread(seeds, between=9.0, own=0.0, shared=0.0)
    assert half_width(found) == pytest.approx(t.ppf(0.975, seeds - 1) * 3 / np.sqrt(seeds), rel=1e-4)
    assert p_value(1.0, found) == pytest.approx(2 * t.sf(np.sqrt(seeds) / 3, seeds - 1), rel=1e-3)


def test_where_seeds_do_not_differ_it_is_normal():
    # What test images alone make of seeds is known, whatever three seeds happened to show.
    found = Spread(3, between=0.0, own=3.0, shared=1.0)
    assert half_width(found) == pytest.approx(norm.ppf(0.975) * np.sqrt(2))
    assert p_value(2.0, found) == pytest.approx(2 * norm.sf(np.sqrt(2)))


def test_two_seeds_have_none():
    assert half_width(Spread(2, 1.0, 0.5, 0.1)) is None
    assert p_value(1.0, Spread(2, 1.0, 0.5, 0.1)) is None


def test_an_interval_holds_what_its_p_value_does_not_refuse():
    found, others = Spread(4, 2.0, 0.7, 0.3), [Spread(4, 5.0, 1.0, 0.2), Spread(7, 1.0, 0.1, 0.2)]
    assert p_value(half_width(found, others), found, others) == pytest.approx(0.05, rel=1e-6)


def test_other_rows_count_like_two_more_seeds():
    found = Spread(3, 1.0, 0.1, 0.1)
    assert moderated(found) == (1.0, 2)
    # Each row by its degrees of freedom; rows of one seed, and rows that are one model twice, say nothing.
    others = [Spread(5, 4.0, 0.1, 0.1), Spread(3, 7.0, 0.1, 0.1), Spread(1, 0.0, 0.1, 0.0), Spread(5, 0.0, 0.0, 0.0)]
    assert moderated(found, others) == ((BORROWED * 5.0 + 2 * 1.0) / 4, 4)
    assert moderated(found, [Spread(2, 4.0, 0.1, 0.1)]) == (2.0, 3)


def test_intervals_hold_the_truth_on_a_small_grid():
    cells = [
        Cell(seeds, ratio, 300, balanced, difference)
        for seeds, ratio, balanced, difference in ((3, 0.5, True, 0.03), (3, 5.0, False, 0.0), (5, 2.0, True, 0.0))
    ]
    for number, cell in enumerate(cells):
        found = measure_cell(cell, repetitions=300, seed=number)
        # Three standard errors of 300 repetitions at 95 % are 3.8 points.
        assert found["alone"]["coverage"] > 0.91, cell
        assert found["in a table"]["coverage"] > 0.91, cell
        if cell.seeds == 5:
            assert found["in a table"]["width"] < 1.25
