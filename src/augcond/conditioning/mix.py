"""Mixing by weights: lambda and weights, mixup of pixels or embeddings, slerp.

Pure functions of one row. What was drawn is an argument, so each row of a batch can have draws of its own; only
`draw_weights` draws, from the stream that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_SMALLEST_SINE = 1e-6  # below it, vectors count as parallel or opposite


def draw_weights(stream: np.random.Generator, alpha: float, count: int) -> tuple[float, tuple[float, ...]]:
    """Return lambda ~ Beta(alpha, alpha) and `count` weights ~ Dirichlet(alpha, ..., alpha), which sum to 1.

    The weights of two sources are (lambda, 1 - lambda). Of more, the first two still share in the ratio lambda :
    1 - lambda: weights are drawn by breaking off each further source's part, which is ~ Beta(alpha, j alpha) of what j
    earlier sources have. So lambda does not depend on `count`, and stays paired with recipes that mix two sources.

    Args:
        stream: gives count - 1 draws.
        alpha: concentration, > 0; 1 is uniform.
        count: number of sources, >= 2.
    """
    if count < 2:
        raise ValueError(f"mixing takes at least two sources (got {count})")
    lam = float(stream.beta(alpha, alpha))
    weights = [lam, 1.0 - lam]
    for earlier in range(2, count):
        part = float(stream.beta(alpha, earlier * alpha))
        weights = [weight * (1.0 - part) for weight in weights] + [part]
    return lam, tuple(weights)


def mixup(sources: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of `sources`, float32, (*shape).

    Summed in float64: rounded to float32, no value leaves the range of the sources' values at its place.

    Args:
        sources: k images or embeddings, (k, *shape).
        weights: k weights in [0, 1] that sum to 1.

    Source: mixup (Zhang et al. 2018), arXiv 1710.09412.
    """
    if len(weights) != len(sources):
        raise ValueError(f"{len(sources)} sources take as many weights (got {len(weights)})")
    total = torch.zeros(sources.shape[1:], dtype=torch.float64)
    for source, weight in zip(sources, weights, strict=True):
        total += source.double() * weight
    return total.float()


def slerp(first: Tensor, second: Tensor, lam: float) -> Tensor:
    """Return the point on the arc between two embeddings: `first` where lam is 1, `second` where it is 0.

    The direction moves along the great circle at constant speed, the length moves linearly, so embeddings of one length
    give that length. Where the arc is not defined (a zero vector, vectors within 1e-6 of parallel or of
    opposite), the mix is linear, which for parallel vectors is the same.

    Args:
        first: embedding, (D,) or tokens (T, D), each token on an arc of its own.
        second: embedding of the same shape.
        lam: share of `first`, in [0, 1].

    Returns:
        float32, of the same shape.

    Source: Shoemake 1985; on CLIP embeddings, Ramesh et al. 2022, arXiv 2204.06125, section 3.2.
    """
    one, two = first.double(), second.double()
    one_length = one.norm(dim=-1, keepdim=True)
    two_length = two.norm(dim=-1, keepdim=True)
    # The quotients of zero vectors are NaN; the last line takes the linear mix for them.
    one_unit, two_unit = one / one_length, two / two_length
    # Kahan's formula: exact for small angles too, where the arc cosine of the product is not.
    angle = 2 * torch.atan2(
        (one_unit - two_unit).norm(dim=-1, keepdim=True), (one_unit + two_unit).norm(dim=-1, keepdim=True)
    )
    sine = angle.sin()
    direction = (torch.sin(lam * angle) * one_unit + torch.sin((1 - lam) * angle) * two_unit) / sine
    arc = direction * (lam * one_length + (1 - lam) * two_length)
    linear = lam * one + (1 - lam) * two
    return torch.where(sine > _SMALLEST_SINE, arc, linear).float()
