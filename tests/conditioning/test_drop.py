import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augcond.conditioning import drop

seeds = st.integers(0, 2**63 - 1)


@given(seeds, st.integers(0, 50), st.integers(0, 50), st.floats(0, 1))
def test_a_longer_mask_starts_with_the_shorter(seed, length, more, p):
    mask = drop.dropout_mask(seed, length, p)
    assert mask.dtype == torch.bool
    assert torch.equal(drop.dropout_mask(seed, length + more, p)[:length], mask)


@given(seeds)
def test_nothing_or_everything_is_dropped_at_the_ends(seed):
    assert drop.dropout_mask(seed, 100, 0.0).all()
    assert not drop.dropout_mask(seed, 100, 1.0).any()


@pytest.mark.parametrize("p", [0.1, 0.4, 0.75])
def test_the_share_dropped_is_p_within_a_row_and_at_every_feature(p):
    masks = np.stack([drop.dropout_mask(seed, 200, p).numpy() for seed in range(500)])
    deviation = (p * (1 - p)) ** 0.5
    assert abs(masks.mean() - (1 - p)) < 4 * deviation / masks.size**0.5
    assert (abs(masks.mean(axis=0) - (1 - p)) < 5 * deviation / 500**0.5).all()
    assert (abs(masks.mean(axis=1) - (1 - p)) < 5 * deviation / 200**0.5).all()


@given(seeds, st.sampled_from([(12,), (3, 4)]), st.floats(0.01, 4))
def test_dropout_equals_the_slow_reference(seed, shape, scale):
    embedding = torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    kept = drop.dropout_mask(seed, 12, 0.4)
    dropped = drop.dropout(embedding, kept, scale)
    assert dropped.shape == embedding.shape
    for position, index in enumerate(np.ndindex(*shape)):
        expected = float(embedding[index]) * scale if kept[position] else 0.0
        assert float(dropped[index]) == pytest.approx(expected, rel=1e-6)


def test_what_stays_is_unchanged_without_rescaling():
    embedding = torch.randn(100, generator=torch.Generator().manual_seed(0))
    kept = drop.dropout_mask(3, 100, 0.4)
    assert torch.equal(drop.dropout(embedding, kept)[kept], embedding[kept])
