import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.evaluation.distribution import (
    frechet_distance,
    gaussian_mmd,
    kernel_distance,
    mean_pairwise_distance,
    neighbourhoods,
    vendi_score,
)


def normal(n, d, seed, mean=0.0, scale=1.0):
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_moments(features, mean, covariance):
    """Return `features` moved and turned so that their mean and covariance are exactly these."""
    centred = features - features.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(centred.T)), centred.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


# Frechet distance


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    first = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    second = torch.diag(torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64))
    real = exact_moments(normal(200, 3, 0), torch.zeros(3), first)
    generated = exact_moments(normal(150, 3, 1), torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64), second)

    # Diagonal covariances commute: |mu|^2 + sum (s1 - s2)^2.
    assert frechet_distance(real, generated) == pytest.approx(9 + (1 - 2) ** 2 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=1e-6)


def test_frechet_distance_of_correlated_gaussians_equals_scipys_matrix_root():
    from scipy.linalg import sqrtm

    real, generated = normal(60, 4, 2) @ normal(4, 4, 3), normal(70, 4, 4) @ normal(4, 4, 5) + 1
    a, b = torch.cov(real.T), torch.cov(generated.T)
    root = torch.as_tensor(sqrtm((a @ b).numpy()).real)
    expected = (real.mean(0) - generated.mean(0)).square().sum() + torch.trace(a + b - 2 * root)

    assert frechet_distance(real, generated) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(80, 50, 6), (10, 12, 30), (40, 40, 1)])
def test_frechet_distance_equals_torchmetrics(n, m, d):
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(torch.nn.Identity):
        num_features = d

    real, generated = normal(n, d, 0), normal(m, d, 1, mean=0.3, scale=1.5)
    metric = FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    assert frechet_distance(real, generated) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_identical_sets_are_at_distance_zero():
    features = normal(50, 6, 0)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    # The unbiased estimates leave out the diagonal within the sets, but not between them.
    assert kernel_distance(features, features) <= 0
    assert gaussian_mmd(features, features) <= 0


def test_frechet_distance_takes_fewer_samples_than_features():
    features = normal(5, 20, 0)
    assert frechet_distance(features, features + 1) == pytest.approx(20, rel=1e-3)


# MMD


def loop_mmd(real, generated, kernel):
    def mean_within(rows):
        values = [kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return sum(values) / len(values)

    between = [kernel(x, y) for x in real for y in generated]
    return mean_within(real) + mean_within(generated) - 2 * sum(between) / len(between)


def test_kernel_distance_equals_a_loop_over_pairs():
    real, generated = normal(7, 3, 0), normal(9, 3, 1, mean=0.5)
    expected = loop_mmd(
        real.tolist(), generated.tolist(), lambda x, y: (sum(a * b for a, b in zip(x, y, strict=True)) / 3 + 1) ** 3
    )
    assert kernel_distance(real, generated) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_equals_torchmetrics_for_samples_of_one_size():
    from torchmetrics.image.kid import poly_mmd

    real, generated = normal(40, 8, 0), normal(40, 8, 1, mean=0.2)
    assert kernel_distance(real, generated) == pytest.approx(float(poly_mmd(real, generated)), rel=1e-10)


def test_gaussian_mmd_equals_a_loop_over_pairs():
    real, generated = normal(7, 3, 0), normal(9, 3, 1, mean=0.5)
    expected = loop_mmd(
        real.tolist(), generated.tolist(), lambda x, y: math.exp(-(math.dist(x, y) ** 2) / (2 * 1.7**2))
    )
    assert gaussian_mmd(real, generated, 1.7) == pytest.approx(expected, rel=1e-10)


def test_gaussian_mmd_of_two_gaussians_approaches_the_closed_form():
    d, s1, s2, shift, h = 2, 1.0, 1.5, 1.0, 1.2

    def expected_kernel(variance, squared_distance):
        return (h**2 / (h**2 + variance)) ** (d / 2) * math.exp(-squared_distance / (2 * (h**2 + variance)))

    expected = expected_kernel(2 * s1**2, 0) + expected_kernel(2 * s2**2, 0)
    expected -= 2 * expected_kernel(s1**2 + s2**2, d * shift**2)
    assert gaussian_mmd(normal(2000, d, 0, 0, s1), normal(2000, d, 1, shift, s2), h) == pytest.approx(
        expected, abs=0.01
    )


def test_gaussian_mmd_takes_the_median_distance_as_its_bandwidth():
    real, generated = normal(20, 3, 0), normal(20, 3, 1)
    assert gaussian_mmd(real, generated) == gaussian_mmd(real, generated, float(torch.pdist(real).median()))
    with pytest.raises(ValueError, match="bandwidth"):
        gaussian_mmd(torch.zeros(5, 3), generated)


# Precision, recall, density, coverage


def loop_neighbourhoods(real, generated, k):
    def radius(rows, i):
        return sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    real_radius = [radius(real, i) for i in range(len(real))]
    generated_radius = [radius(generated, j) for j in range(len(generated))]
    hits = [[math.dist(x, y) <= real_radius[i] for y in generated] for i, x in enumerate(real)]
    precision = sum(any(hits[i][j] for i in range(len(real))) for j in range(len(generated))) / len(generated)
    recall = sum(any(math.dist(x, y) <= r for y, r in zip(generated, generated_radius, strict=True)) for x in real)
    density = sum(map(sum, hits)) / (k * len(generated))
    return precision, recall / len(real), density, sum(map(any, hits)) / len(real)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 14),
    m=st.integers(6, 14),
    k=st.integers(1, 5),
    shift=st.floats(0, 3),
)
def test_neighbourhoods_equal_a_loop_over_samples(seed, n, m, k, shift):
    real, generated = normal(n, 3, seed), normal(m, 3, seed + 1, mean=shift)
    got = neighbourhoods(real, generated, k)
    expected = loop_neighbourhoods(real.tolist(), generated.tolist(), k)
    assert (got.precision, got.recall, got.density, got.coverage) == pytest.approx(expected)


def test_identical_sets_cover_each_other():
    features = normal(40, 4, 0)
    found = neighbourhoods(features, features)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    # Each ball holds its own centre and, its border included, its k neighbours.
    assert found.density == pytest.approx((5 + 1) / 5)


def test_disjoint_sets_do_not_cover_each_other():
    found = neighbourhoods(normal(30, 4, 0), normal(30, 4, 1, mean=1000))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_neighbourhoods_need_more_than_k_samples():
    with pytest.raises(ValueError, match="k = 5 needs more than k samples, got 5 and 9"):
        neighbourhoods(normal(5, 2, 0), normal(9, 2, 1))


# Diversity


def test_mean_pairwise_distance_counts_each_class_the_same():
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    labels = torch.tensor([7, 7, 2, 2, 2, 5])  # class 5 has a single image and does not count
    third = (1 + 0 + 1) / 3
    assert mean_pairwise_distance(features, labels) == pytest.approx((5 + third) / 2)


def test_mean_pairwise_distance_needs_a_pair():
    with pytest.raises(ValueError, match="no class has two"):
        mean_pairwise_distance(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(("n", "d"), [(5, 8), (8, 8)])
def test_vendi_score_of_orthogonal_samples_is_their_number(n, d):
    assert vendi_score(torch.eye(d)[:n] * 3) == pytest.approx(n)


def test_vendi_score_of_equal_samples_is_one_and_repeats_do_not_count():
    assert vendi_score(torch.ones(6, 4)) == pytest.approx(1)
    assert vendi_score(torch.eye(3).repeat(5, 1)) == pytest.approx(3)


def test_vendi_score_equals_the_entropy_of_the_similarity_matrix():
    features = normal(12, 5, 3)
    unit = features / features.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(unit @ unit.T / 12).tolist()
    expected = math.exp(-sum(value * math.log(value) for value in values if value > 1e-12))
    assert vendi_score(features) == pytest.approx(expected)


def test_vendi_score_refuses_zeros():
    with pytest.raises(ValueError, match="no direction"):
        vendi_score(torch.zeros(3, 2))


# Wrong use


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance, gaussian_mmd, neighbourhoods])
def test_other_shapes_are_refused(metric):
    with pytest.raises(ValueError, match=r"expected features \(N, D\) and \(M, D\), got \(9, 3\) and \(9, 2\)"):
        metric(torch.zeros(9, 3), torch.zeros(9, 2))
    with pytest.raises(ValueError, match="at least two samples"):
        metric(torch.zeros(9, 3), torch.zeros(1, 3))
