"""How generated images are distributed beside real ones: pure functions on feature tensors.

`real` and `generated` are features (N, D) and (M, D) of any extractor (see `augcond.evaluation.features`); numbers of
different extractors, or of samples of different sizes, do not compare. All sums are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """How two samples cover each other, by balls that reach to each sample's k-th nearest neighbour.

    Attributes:
        precision: share of generated samples inside the ball of some real one, in [0, 1].
        recall: share of real samples inside the ball of some generated one, in [0, 1].
        density: how many real balls a generated sample lies in, over k; 1 where the distributions are equal, and it
            may be larger.
        coverage: share of real samples whose ball holds a generated one, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Return the squared Fréchet distance of two Gaussians fitted to the features (FID, on features of one's choice).

    |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)). It falls with the size of the samples: compare equal sizes.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1.

    Source: Heusel et al. 2017.
    """
    real, generated = _pair(real, generated)
    # Our own dozen lines: torchmetrics has the same in a class that takes seconds to import, networks and all.
    first, second = _covariance(real), _covariance(generated)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # S_r S_g and the symmetric root S_g root have the same eigenvalues, and these are real and not negative.
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    distance = (real.mean(0) - generated.mean(0)).square().sum() + first.trace() + second.trace() - 2 * shared
    # Rounding leaves equal distributions a little below 0.
    return max(0.0, float(distance))


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    """Return the unbiased squared MMD under the cubic polynomial kernel (x.y / D + 1)^3 (KID, without subsets).

    Zero in the mean where the distributions are equal, so that it may fall below 0; its mean does not depend on the
    size of the samples.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1; the sizes may differ.

    Source: Bińkowski et al. 2018.
    """
    real, generated = _pair(real, generated)
    return _unbiased_mmd(*((x @ y.T / x.shape[1] + 1) ** 3 for x, y in _pairs(real, generated)))


def gaussian_mmd(real: Tensor, generated: Tensor, bandwidth: float | None = None) -> float:
    """Return the unbiased squared MMD under the Gaussian kernel exp(-|x - y|^2 / (2 bandwidth^2)), below 2.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1; the sizes may differ.
        bandwidth: the median distance between real samples where None.

    Raises:
        ValueError: the bandwidth is not positive, or None while most real samples are equal.

    Source: Gretton et al. 2012; on CLIP embeddings it is CMMD (Jayasumana et al. 2024).
    """
    real, generated = _pair(real, generated)
    width = float(torch.pdist(real).median()) if bandwidth is None else bandwidth
    if width <= 0:
        raise ValueError(f"the bandwidth must be positive, not {width}")
    return _unbiased_mmd(*(torch.exp(-(torch.cdist(x, y) ** 2) / (2 * width**2)) for x, y in _pairs(real, generated)))


def _pairs(real: Tensor, generated: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    return (real, real), (generated, generated), (real, generated)


def _unbiased_mmd(within_real: Tensor, within_generated: Tensor, between: Tensor) -> float:
    # torchmetrics' poly_mmd takes both samples to be of one size, so it cannot serve here.
    n, m = len(within_real), len(within_generated)
    first = (within_real.sum() - within_real.diagonal().sum()) / (n * (n - 1))
    second = (within_generated.sum() - within_generated.diagonal().sum()) / (m * (m - 1))
    return float(first + second - 2 * between.mean())


def neighbourhoods(real: Tensor, generated: Tensor, k: int = 5) -> Neighbourhoods:
    """Return precision, recall, density and coverage.

    Args:
        real: (N, D), N > k.
        generated: (M, D), M > k.
        k: which nearest neighbour a ball reaches to; its border belongs to it.

    Raises:
        ValueError: a sample has not more than k members.

    Source: Kynkäänniemi et al. 2019 (precision, recall), Naeem et al. 2020 (density, coverage; k = 5).
    """
    real, generated = _pair(real, generated)
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(f"k = {k} needs more than k samples, got {len(real)} and {len(generated)}")
    between = _distances(real, generated)
    inside_real = between <= _kth_distance(real, k)[:, None]
    inside_generated = between <= _kth_distance(generated, k)[None, :]
    return Neighbourhoods(
        precision=float(inside_real.any(dim=0).double().mean()),
        recall=float(inside_generated.any(dim=1).double().mean()),
        density=float(inside_real.sum(dim=0).double().mean() / k),
        coverage=float(inside_real.any(dim=1).double().mean()),
    )


def _kth_distance(features: Tensor, k: int) -> Tensor:
    distances = _distances(features, features)
    # A sample is no neighbour of its own, but an equal one is.
    distances.fill_diagonal_(torch.inf)
    return distances.kthvalue(k, dim=1).values


def _distances(first: Tensor, second: Tensor) -> Tensor:
    # The exact mode: the faster one by matrix products gives equal points a distance of about 1e-7.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def mean_pairwise_distance(features: Tensor, labels: Tensor) -> float:
    """Return the mean Euclidean distance of two different samples of one class: the diversity within classes.

    Each class with at least two samples counts the same, whatever its size.

    Args:
        features: (N, D).
        labels: (N,) integers.

    Raises:
        ValueError: no class has two samples.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"expected (N, D) and (N,), got {tuple(features.shape)} and {tuple(labels.shape)}")
    means = [
        torch.pdist(features[labels == label].double()).mean()
        for label, count in zip(*torch.unique(labels, return_counts=True), strict=True)
        if count > 1
    ]
    if not means:
        raise ValueError("no class has two samples")
    return float(torch.stack(means).mean())


def vendi_score(features: Tensor) -> float:
    """Return the effective number of different samples, from 1 (all alike) to N (all orthogonal).

    The exponential of the entropy of the eigenvalues of K / N, K the cosine similarities.

    Args:
        features: (N, D), no row of zeros.

    Raises:
        ValueError: there are no samples, or one is zero and has no direction.

    Source: Friedman and Dieng 2023.
    """
    if features.ndim != 2 or not len(features):
        raise ValueError(f"expected (N, D) with N > 0, got {tuple(features.shape)}")
    features = features.double()
    norms = features.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise ValueError("a sample is zero and has no direction")
    unit = features / norms
    # X X^T and X^T X have the same eigenvalues but for zeros: take the smaller one.
    gram = unit.T @ unit if unit.shape[0] > unit.shape[1] else unit @ unit.T
    values = torch.linalg.eigvalsh(gram / len(unit)).clamp(min=0)
    return float(torch.special.entr(values).sum().exp())


def _pair(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"expected features (N, D) and (M, D), got {tuple(real.shape)} and {tuple(generated.shape)}")
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"expected at least two samples each, got {len(real)} and {len(generated)}")
    return real.double(), generated.double()
