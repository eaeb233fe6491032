"""Which comparisons of a table are decided, and what is said of them."""

import pytest
from benchmarks.null_table import share_with_verdict

from augcond.evaluation.results import Difference
from augcond.evaluation.verdicts import caveat, holm, in_words, judged


def difference(p, mean=0.02, seeds=5, metric="overall"):
    low, high = (None, None) if p is None else (-0.01, 0.05)
    return Difference("a", "b", metric, mean, (mean,) * seeds, low=low, high=high, p=p)


def test_holm_by_hand():
    # Sorted: .01 <= .05/4, .015 <= .05/3, .03 > .05/2: nothing after it is decided.
    assert holm({0: 0.03, 1: 0.01, 2: 0.015, 3: 0.031}, 4) == {1, 2}
    assert holm({0: 0.03}, 1) == {0}
    assert holm({0: 0.03}, 2) == set()


def test_what_was_not_asked_is_exploratory():
    table = [difference(0.001), difference(0.001, metric="few"), difference(0.02, mean=-0.03), difference(0.2)]
    found = judged(table, [0, 2, 3])
    assert [one.verdict for one in found] == ["gain", "exploratory", "loss", "undecided"]
    assert [one.family for one in found] == [3, 0, 3, 3]


def test_a_comparison_without_an_interval_counts_and_is_not_judged():
    found = judged([difference(0.03), difference(None, seeds=2)], [0, 1])
    assert [one.verdict for one in found] == ["undecided", "too few seeds"]


@pytest.mark.parametrize(("seeds", "words"), [(3, "gain (only 3 seeds: others may well say otherwise)"), (5, "gain")])
def test_below_five_seeds_a_caveat_stands_beside_a_verdict(seeds, words):
    (found,) = judged([difference(0.001, seeds=seeds)], [0])
    assert in_words(found) == words
    assert "too few" in caveat(2) and "1 seed:" in caveat(1)


def test_tables_without_a_difference_seldom_get_a_verdict():
    # 1.2 % of many tables (benchmarks/results/null_table.json); without the correction it would be some 15 %.
    assert share_with_verdict(seeds=3, tables=80, images=300) <= 0.08
