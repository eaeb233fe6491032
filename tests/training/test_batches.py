"""Batches: exact halves, whole rounds, and nothing but the seed and the step decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.errors import TrainingError
from augcond.training.batches import BatchSampler, BatchSettings, effective_counts
from augcond.training.devices import Rank


def sampler(real=50, synthetic=80, size=16, share=0.5, mix="exact", seed=0, steps=40):
    return BatchSampler(real, synthetic, BatchSettings(size, share, mix), seed, steps)


def test_half_of_every_batch_is_synthetic():
    batches = [sampler()(step) for step in range(40)]
    assert {len(batch.real) for batch in batches} == {8}
    assert {len(batch.synthetic) for batch in batches} == {8}


@given(size=st.integers(1, 33), share=st.floats(0, 1), steps=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_exact_shares_are_exact_over_the_steps(size, share, steps):
    batches = [sampler(size=size, share=share, steps=steps)(step) for step in range(steps)]
    assert all(len(batch.real) + len(batch.synthetic) == size for batch in batches)
    assert abs(sum(len(batch.synthetic) for batch in batches) - steps * size * share) < 1 + 1e-6
    assert all(abs(len(batch.synthetic) - size * share) < 1 + 1e-6 for batch in batches)


def test_bernoulli_shares_vary_around_the_probability():
    batches = [sampler(mix="bernoulli", steps=400, size=16)(step) for step in range(400)]
    counts = np.array([len(batch.synthetic) for batch in batches])
    assert counts.std() > 1
    assert abs(counts.mean() - 8) < 0.5
    assert all(len(batch.real) + len(batch.synthetic) == 16 for batch in batches)


@pytest.mark.parametrize("mix", ["exact", "bernoulli"])
def test_images_come_in_whole_rounds(mix):
    made = sampler(mix=mix)
    seen = np.concatenate([made(step).real for step in range(40)])
    for start in range(0, len(seen) - 50, 50):
        assert sorted(seen[start : start + 50]) == list(range(50))


def test_a_batch_depends_on_seed_and_step_alone():
    in_order = [sampler(mix="bernoulli")(step) for step in range(40)]
    backwards = [sampler(mix="bernoulli")(step) for step in reversed(range(40))][::-1]
    for one, other in zip(in_order, backwards, strict=True):
        assert np.array_equal(one.real, other.real)
        assert np.array_equal(one.synthetic, other.synthetic)
    assert not np.array_equal(sampler(seed=1)(0).real, sampler()(0).real)


def test_processes_share_a_batch():
    batch = sampler()(3)
    parts = [batch.share_of(Rank(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert sorted(np.concatenate([real for real, _ in parts])) == sorted(batch.real)
    assert sorted(np.concatenate([synthetic for _, synthetic in parts])) == sorted(batch.synthetic)
    assert [len(real) + len(synthetic) for real, synthetic in parts] == [8, 8]


def test_missing_images_are_an_error():
    with pytest.raises(TrainingError, match="no synthetic images"):
        sampler(synthetic=0)
    with pytest.raises(TrainingError, match="no real images"):
        sampler(real=0)
    assert len(sampler(synthetic=0, share=0.0)(0).real) == 16


def test_effective_counts():
    assert effective_counts([90, 10], [0, 40], 0.5) == [45.0, 55.0]
    assert effective_counts([90, 10], [1, 1], 0.0) == [90.0, 10.0]


def test_class_balanced_sampling_shows_every_class_equally_often():
    labels = [0] * 20 + [1] * 5 + [2]
    balanced = BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, labels)
    drawn = np.concatenate([balanced(step).real for step in range(30)])
    assert np.bincount(np.array(labels)[drawn]).tolist() == [160, 160, 160]
    # Within a class in rounds: none is seen twice before all are seen once.
    for label, count in ((0, 20), (1, 5)):
        own = drawn[np.array(labels)[drawn] == label]
        assert set(np.bincount(own[: 4 * count], minlength=26)[np.array(labels) == label]) == {4}
    # What a step shows does not depend on the steps before it.
    assert balanced(17).real.tolist() == balanced(17).real.tolist()
    other = BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, labels)
    assert other(17).real.tolist() == drawn[17 * 16 : 18 * 16].tolist()
    with pytest.raises(ValueError, match="2 labels"):
        BatchSampler(26, 0, BatchSettings(16, 0.0, "exact"), 0, 30, [0, 1])


def test_effective_counts_of_class_balanced_batches():
    assert effective_counts([90, 10], [0, 0], 0.0, balanced=True) == [50.0, 50.0]
    assert effective_counts([90, 10, 0], [0, 0, 40], 0.5, balanced=True) == [25.0, 25.0, 50.0]
