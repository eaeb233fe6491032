"""Splits: the right counts, disjoint, other images for another seed, nested for the same one, saved and read back."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.config import SplitConfig
from augcond.datasets.splits import (
    Split,
    few_shot,
    long_tail,
    make_split,
    read_split,
    settle_split,
    subset,
    tail_counts,
    whole,
)
from augcond.errors import CorruptRunError, RunError, SplitError
from tests.toy import toy_dataset

POOL = toy_dataset({"ant": 30, "bee": 30, "cow": 34, "dog": 40})


def counts(split: Split) -> list[int]:
    return subset(POOL, split.train).counts()


@given(
    imbalance=st.floats(1, 50),
    head=st.integers(1, 25),
    seed=st.integers(0, 2**31),
    shuffle=st.booleans(),
    held_out=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_a_long_tail_has_the_counts_of_its_profile_and_is_disjoint_from_validation(
    imbalance, head, seed, shuffle, held_out
):
    split = long_tail(POOL, imbalance, head, seed, shuffle_classes=shuffle, validation_per_class=held_out)
    profile = tail_counts(4, imbalance, head)
    assert profile == sorted(profile, reverse=True)
    assert profile[0] == head
    assert profile[-1] == max(1, round(head / imbalance))
    assert (sorted(counts(split), reverse=True) if shuffle else counts(split)) == profile
    assert len(set(split.train)) == len(split.train)
    assert not set(split.train) & set(split.validation)
    assert subset(POOL, split.validation).counts() == [held_out] * 4


@given(k=st.integers(1, 20), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_few_shot_takes_k_of_each_class_and_is_stable_nested_and_blind_to_the_listing(k, seed):
    split = few_shot(POOL, k, seed, validation_per_class=5)
    assert counts(split) == [k] * 4
    assert split == few_shot(replace(POOL, images=POOL.images[::-1]), k, seed, validation_per_class=5)
    larger = few_shot(POOL, k + 1, seed, validation_per_class=5)
    assert set(split.train) < set(larger.train)
    assert split.validation == larger.validation


def test_another_seed_draws_other_images_and_validation():
    splits = [few_shot(POOL, 4, seed, validation_per_class=4) for seed in range(6)]
    assert len({split.train for split in splits}) == 6
    assert len({split.validation for split in splits}) == 6
    orders = {tuple(counts(long_tail(POOL, 20, 30, seed, shuffle_classes=True))) for seed in range(12)}
    assert len(orders) > 3


def test_the_usual_tail_of_200_to_2():
    assert tail_counts(10, 100, 200) == [200, 120, 72, 43, 26, 15, 9, 6, 3, 2]
    assert tail_counts(1, 100, 5) == [5]


def test_too_few_images_are_refused_by_name():
    with pytest.raises(SplitError, match="class 'ant' has 30 readable images"):
        few_shot(POOL, 28, 0, validation_per_class=3)
    with pytest.raises(SplitError, match="'ant' has no image left"):
        whole(POOL, validation_per_class=30)


def test_a_split_cannot_overlap_itself():
    with pytest.raises(SplitError, match=r"for training and for validation, such as 'ant/1\.png'"):
        Split("all", 0, (), ("ant/0.png", "ant/1.png"), ("ant/1.png",))


def test_a_split_is_read_back_as_it_was_saved(tmp_path):
    split = long_tail(POOL, 10, 20, 3, validation_per_class=2)
    path = tmp_path / "split.json"
    assert settle_split(path, split) is split
    assert read_split(path) == split == settle_split(path, split)
    path.write_text('{"kind": 3}')
    with pytest.raises(CorruptRunError):
        read_split(path)
    with pytest.raises(RunError, match="augcond generate"):
        read_split(tmp_path / "none.json")


def test_subset_keeps_the_classes_and_refuses_unknown_keys():
    role = subset(POOL, ["cow/1.png", "ant/0.png"])
    assert [image.key for image in role.images] == ["ant/0.png", "cow/1.png"]
    assert role.classes == POOL.classes
    with pytest.raises(SplitError, match=r"'cow/99\.png'"):
        subset(POOL, ["cow/99.png"])


def test_the_config_makes_the_same_splits():
    tail = SplitConfig(name="long-tail", imbalance=10, head=20, seed=4, validation_per_class=2)
    assert make_split(POOL, tail) == long_tail(POOL, 10, 20, 4, validation_per_class=2)
    assert make_split(POOL, SplitConfig(name="long-tail")) == long_tail(POOL, 100, 30, 0)
    assert make_split(POOL, SplitConfig(name="few-shot", k=2)) == few_shot(POOL, 2, 0)
    assert set(make_split(POOL, None).train) == {image.key for image in POOL.images}
