"""Folds hold every image out once, and use no generated image that a held-out one went into."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from augcond.experiments.tuning.folds import clean_rows, common_counts, draw_folds, first_clean, most_folds

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(COUNTS, st.integers(2, 6), st.integers(0, 3))
def test_every_image_of_two_or_more_is_held_out_once(counts, folds, training):
    labels = np.repeat(np.arange(len(counts)), counts)
    found = draw_folds(labels, folds, training)
    for label, count in enumerate(counts):
        own = found[labels == label]
        if count == 1:
            assert own.tolist() == [-1]
        else:
            sizes = np.bincount(own, minlength=folds)
            assert sizes.sum() == count and np.ptp(sizes) <= 1
    assert (found == draw_folds(labels, folds, training)).all()


def test_a_class_of_two_leaves_one_out_each_time():
    labels = np.array([0, 0, 1, 1])
    assert most_folds(labels, 5) == 2
    assert most_folds(np.array([0, 1, 2]), 5) == 1
    draws = [draw_folds(labels, 2, training) for training in range(8)]
    assert all(sorted(draw[:2]) == [0, 1] == sorted(draw[2:]) for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1


def test_no_source_of_a_used_row_is_held_out():
    rng = np.random.default_rng(0)
    keys = [f"{label}/{place}" for label in "ab" for place in range(6)]
    labels = np.repeat([0, 1], 30)
    mixed = [tuple(rng.choice(keys[6 * label : 6 * label + 6], 2, replace=False)) for label in labels]
    single = [pair[:1] for pair in mixed]
    held = frozenset({"a/0", "b/3"})
    clean = clean_rows(mixed, held)
    assert [not held & set(pair) for pair in mixed] == clean.tolist()
    counts = common_counts([(labels, mixed), (labels, single)], held, 2)
    assert counts.tolist() == [clean[:30].sum(), clean[30:].sum()]
    for sources in (mixed, single):
        used = first_clean(labels, sources, held, counts)
        assert np.bincount(labels[used]).tolist() == counts.tolist()
        assert not any(held & set(sources[place]) for place in used)
        assert used.tolist() == sorted(used)
