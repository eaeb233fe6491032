import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augcond.conditioning import mix
from augcond.conditioning.streams import LAMBDA, numpy_stream

shares = st.floats(0, 1)
seeds = st.integers(0, 2**63 - 1)
values = st.floats(-100, 100, width=32)


def vectors(size):
    return st.lists(values, min_size=size, max_size=size).map(lambda entries: torch.tensor(entries))


def random_vectors(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def slow_slerp(first, second, lam):
    """By the arc cosine, in plain floats."""
    lengths = [math.sqrt(sum(x * x for x in vector)) for vector in (first, second)]
    angle = math.acos(sum(a * b for a, b in zip(first, second, strict=True)) / (lengths[0] * lengths[1]))
    length = lam * lengths[0] + (1 - lam) * lengths[1]
    mixed = []
    for a, b in zip(first, second, strict=True):
        direction = math.sin(lam * angle) * a / lengths[0] + math.sin((1 - lam) * angle) * b / lengths[1]
        mixed.append(direction / math.sin(angle) * length)
    return mixed


def angle_between(a, b):
    return 2 * math.atan2((a / a.norm() - b / b.norm()).norm(), (a / a.norm() + b / b.norm()).norm())


class TestDrawWeights:
    @given(seeds, st.floats(0.05, 20), st.integers(2, 16))
    def test_weights_sum_to_one_and_lambda_does_not_depend_on_their_number(self, seed, alpha, count):
        lam, weights = mix.draw_weights(numpy_stream(seed, LAMBDA), alpha, count)
        assert len(weights) == count
        assert all(0 <= weight <= 1 for weight in weights)
        assert sum(weights) == pytest.approx(1, abs=1e-12)
        assert mix.draw_weights(numpy_stream(seed, LAMBDA), alpha, 2) == (lam, (lam, 1 - lam))
        assert weights[0] * (1 - lam) == pytest.approx(weights[1] * lam, abs=1e-12)

    @pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
    def test_lambda_is_beta_and_every_weight_has_the_marginal_of_a_dirichlet(self, alpha):
        stats = pytest.importorskip("scipy.stats")
        drawn = [mix.draw_weights(numpy_stream(seed, LAMBDA), alpha, 3) for seed in range(3000)]
        assert stats.kstest([lam for lam, _ in drawn], stats.beta(alpha, alpha).cdf).pvalue > 1e-3
        weights = np.array([row for _, row in drawn])
        for position in range(3):
            assert stats.kstest(weights[:, position], stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-3
        covariance = -1 / (9 * (3 * alpha + 1))  # of a symmetric Dirichlet of three
        assert np.cov(weights.T)[[0, 0, 1], [1, 2, 2]] == pytest.approx([covariance] * 3, abs=0.006)

    def test_one_source_is_refused(self):
        with pytest.raises(ValueError, match="at least two sources"):
            mix.draw_weights(numpy_stream(0, LAMBDA), 1.0, 1)


class TestMixup:
    @given(seeds, st.integers(2, 6), st.sampled_from([(5,), (2, 3), (3, 2, 2)]))
    def test_equals_the_slow_sum_and_stays_between_the_sources(self, seed, count, shape):
        sources = random_vectors(seed, count, *shape)
        _, weights = mix.draw_weights(numpy_stream(seed, LAMBDA), 1.0, count)
        mixed = mix.mixup(sources, weights)
        assert mixed.dtype == torch.float32
        for index in np.ndindex(*shape):
            slow = sum(weights[k] * float(sources[k][index]) for k in range(count))
            assert float(mixed[index]) == pytest.approx(slow, rel=1e-6, abs=1e-6)
        assert (mixed <= sources.amax(0)).all()
        assert (mixed >= sources.amin(0)).all()

    @given(vectors(4), vectors(4), shares)
    def test_ends_are_the_sources_and_the_order_does_not_matter(self, first, second, lam):
        both = torch.stack([first, second])
        assert torch.equal(mix.mixup(both, (1.0, 0.0)), first)
        assert torch.equal(mix.mixup(both, (0.0, 1.0)), second)
        torch.testing.assert_close(mix.mixup(both, (lam, 1 - lam)), mix.mixup(both.flip(0), (1 - lam, lam)))

    @given(vectors(4), shares)
    def test_a_mix_with_itself_changes_nothing(self, vector, lam):
        assert torch.equal(mix.mixup(torch.stack([vector, vector]), (lam, 1 - lam)), vector)

    def test_white_stays_within_the_range_of_pixels(self):
        _, weights = mix.draw_weights(numpy_stream(1, LAMBDA), 0.7, 16)
        assert mix.mixup(torch.ones(16, 3, 4, 4), weights).max() <= 1

    def test_sources_are_not_changed_and_weights_must_match(self):
        sources = torch.ones(2, 3)
        mix.mixup(sources, (0.3, 0.7))
        assert torch.equal(sources, torch.ones(2, 3))
        with pytest.raises(ValueError, match="2 sources"):
            mix.mixup(sources, (1.0,))


class TestSlerp:
    @given(seeds, shares, st.integers(2, 40))
    def test_equals_the_slow_reference(self, seed, lam, size):
        first, second = random_vectors(seed, 2, size)
        angle = angle_between(first, second)
        mixed = mix.slerp(first, second, lam)
        if 0.01 < angle < math.pi - 0.01:
            expected = slow_slerp(first.double().tolist(), second.double().tolist(), lam)
            torch.testing.assert_close(mixed, torch.tensor(expected), rtol=1e-4, atol=1e-4)

    @given(seeds, shares)
    def test_length_is_linear_and_speed_constant(self, seed, lam):
        first, second = random_vectors(seed, 2, 8)
        mixed = mix.slerp(first, second, lam)
        assert float(mixed.norm()) == pytest.approx(float(lam * first.norm() + (1 - lam) * second.norm()), rel=1e-5)
        assert angle_between(mixed, second) == pytest.approx(lam * angle_between(first, second), abs=1e-3)

    @given(seeds)
    def test_ends_are_the_embeddings(self, seed):
        first, second = random_vectors(seed, 2, 8)
        torch.testing.assert_close(mix.slerp(first, second, 1.0), first)
        torch.testing.assert_close(mix.slerp(first, second, 0.0), second)

    @given(seeds, shares, st.floats(0.1, 3), st.floats(0, 1e-9))
    def test_parallel_vectors_mix_linearly(self, seed, lam, factor, noise):
        first = random_vectors(seed, 8)
        second = first * factor + noise
        torch.testing.assert_close(
            mix.slerp(first, second, lam), lam * first + (1 - lam) * second, rtol=1e-4, atol=1e-4
        )

    @given(seeds, shares)
    def test_opposite_and_zero_vectors_mix_linearly(self, seed, lam):
        first = random_vectors(seed, 8)
        torch.testing.assert_close(mix.slerp(first, -first, lam), (2 * lam - 1) * first, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mix.slerp(first, torch.zeros(8), lam), lam * first)
        assert torch.equal(mix.slerp(torch.zeros(8), torch.zeros(8), lam), torch.zeros(8))

    @given(seeds, shares)
    def test_each_token_goes_its_own_way(self, seed, lam):
        first, second = random_vectors(seed, 2, 5, 8)
        second[2] = 0
        rows = [mix.slerp(one, two, lam) for one, two in zip(first, second, strict=True)]
        torch.testing.assert_close(mix.slerp(first, second, lam), torch.stack(rows))
