"""Folds hold every image out once, and use no generated image that a held-out one went into."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from augcond.experiments.tuning.folds import (
    Blocks,
    block_rounds,
    clean_rows,
    common_counts,
    draw_folds,
    even_clean,
    most_folds,
)

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
        used = even_clean(labels, sources, held, counts)
        assert np.bincount(labels[used]).tolist() == counts.tolist()
        assert not any(held & set(sources[place]) for place in used)
        assert used.tolist() == sorted(used)


@given(COUNTS, st.integers(2, 6), st.lists(st.integers(0, 40), min_size=5, max_size=5))
def test_every_fold_uses_as_many_images_of_each_class_as_any_other(counts, folds, amounts):
    labels = np.repeat(np.arange(len(counts)), counts)
    keys, classes = [f"k{place}" for place in range(len(labels))], [f"c{label}" for label in range(len(counts))]
    amounts = amounts[: len(counts)]
    held = draw_folds(labels, folds, 0)
    blocks = Blocks.of(labels, held, len(counts))
    used = blocks.used(amounts)
    smaller = [amount // 3 for amount in amounts]
    grown = [blocks.turns(some) for some in (smaller, amounts)]
    rounds = block_rounds(keys, labels, held, classes, grown)
    made = [(classes.index(name), one.sources, one.count) for some in rounds for name, one in some.items()]
    # The images of a set, each of all sources of its blocks at worst.
    of_set = np.array([label for label, _, count in made for _ in range(count)], dtype=int)
    sources = [names for _, names, count in made for _ in range(count)]
    assert np.bincount(of_set, minlength=len(counts)).tolist() == blocks.made(amounts).tolist()
    for fold in range(folds):
        out = frozenset(keys[place] for place in np.flatnonzero(held == fold))
        clean = np.bincount(of_set[clean_rows(sources, out)], minlength=len(counts))
        holds_one = np.isin(range(len(counts)), labels[held == fold])
        assert (clean >= used).all() and (clean == used)[holds_one].all()
        chosen = even_clean(of_set, sources, out, used)
        assert np.bincount(of_set[chosen], minlength=len(counts)).tolist() == used.tolist()
        assert not any(out & set(sources[place]) for place in chosen)
    # Whole turns: as near as they come to what was asked for, and one at least.
    for asked, parts, found in zip(amounts, blocks.served, used, strict=True):
        assert (found == 0) == (asked == 0)
        assert found == parts or abs(found - asked) <= parts / 2
    # A smaller set is the beginning of a larger one.
    first = block_rounds(keys, labels, held, classes, grown[:1])
    assert rounds[: len(first)] == first


@given(st.integers(3, 9), st.integers(2, 6))
def test_where_a_fold_leaves_two_images_any_two_of_them_are_mixed(count, folds):
    labels, keys = np.zeros(count, dtype=int), [f"{place}" for place in range(count)]
    held = draw_folds(labels, folds, 0)
    blocks = Blocks.of(labels, held, 1)
    rounds = block_rounds(keys, labels, held, ["a"], [blocks.turns([100])])
    pools = [set(one["a"].sources) for one in rounds]
    for fold in range(folds):
        left = [key for key, out in zip(keys, held == fold, strict=True) if not out]
        clean = [pool for pool in pools if pool <= set(left)]
        if blocks.count[0] > 2:
            assert min(map(len, clean)) >= 2
            assert all(any({one, other} <= pool for pool in clean) for one in left for other in left)
        else:
            assert clean == [set(left)]


def test_large_blocks_stand_alone():
    labels = np.repeat([0, 1], [20, 19])
    held = draw_folds(labels, 5, 0)
    blocks = Blocks.of(labels, held, 2)
    assert blocks.paired.tolist() == [False, True]
    assert Blocks.of(np.zeros(30, dtype=int), np.arange(30) % 5, 2).smallest.tolist() == [6, 0]
    assert blocks.used([12, 12]).tolist() == [12, 12]
    assert blocks.made([12, 12]).tolist() == [15, 20]
