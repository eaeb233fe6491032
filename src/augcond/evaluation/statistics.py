"""From variances to intervals and p-values: the one place that says how sure a paired difference is.

The mean difference over S seeds varies with the draw of seeds and with the draw of test images:

    Var = between / S + shared

`between` is the variance of one seed's difference from seed to seed, which S - 1 degrees of freedom measure badly;
`shared` is the part of the image noise that all seeds have alike, because they are judged on the same images; hundreds
of images measure it well. `between` is shrunk towards that of the table's other rows, and cannot be less than what the
test images alone make of it (`own`). What is left uncertain is then averaged over: the difference is a mixture of
normal distributions over the scaled inverse chi-square distribution of `between`. `benchmarks/coverage.py` measures how
often the intervals hold the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from augcond.evaluation.results import FEWEST_SEEDS, LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.evaluation.results import Spread

BORROWED = 2
"""The other rows' variance over seeds counts like that of so many further seeds."""

_GRID = 256
_STEPS, _CLOSE = 60, 1e-9


def moderated(spread: Spread, others: Sequence[Spread] = ()) -> tuple[float, int]:
    """Return the variance from seed to seed, shrunk towards that of a table's other rows, and its degrees of freedom.

    Rows without any spread (the same models under two names) and rows of one seed say nothing.
    """
    known = [(other.seeds - 1, other.between) for other in others if other.seeds > 1 and other.between > 0]
    own = spread.seeds - 1
    total = sum(freedom for freedom, _ in known)
    if not total:
        return spread.between, own
    pooled = sum(freedom * between for freedom, between in known) / total
    borrowed = min(BORROWED, total)
    return (borrowed * pooled + own * spread.between) / (borrowed + own), borrowed + own


def half_width(spread: Spread, others: Sequence[Spread] = (), level: float = LEVEL) -> float | None:
    """Return how far the interval of a mean difference reaches to both sides; None for too few seeds."""
    if spread.seeds < FEWEST_SEEDS:
        return None
    between, freedom = moderated(spread, others)
    return float(
        half_widths(np.array(between), freedom, np.array(spread.own), np.array(spread.shared), spread.seeds, level)
    )


def p_value(mean: float, spread: Spread, others: Sequence[Spread] = ()) -> float | None:
    """Return how likely a mean at least so far from 0 is where there is no difference; None for too few seeds."""
    if spread.seeds < FEWEST_SEEDS:
        return None
    between, freedom = moderated(spread, others)
    means, own, shared = np.array(mean), np.array(spread.own), np.array(spread.shared)
    return float(p_values(means, np.array(between), freedom, own, shared, spread.seeds))


def p_values(
    means: np.ndarray, between: np.ndarray, freedom: int, own: np.ndarray, shared: np.ndarray, seeds: int
) -> np.ndarray:
    """Return two-sided p-values; all arrays are of one shape, see `Spread`."""
    scales, weights = _mixture(between, freedom, own, shared, seeds)
    return np.asarray((2 * _upper_tail(np.abs(means)[..., None] / scales)) @ weights)


def half_widths(
    between: np.ndarray, freedom: int, own: np.ndarray, shared: np.ndarray, seeds: int, level: float = LEVEL
) -> np.ndarray:
    """Return half widths of intervals; all arrays are of one shape, see `Spread`."""
    scales, weights = _mixture(between, freedom, own, shared, seeds)
    # The chance to lie within is concave in the width: Newton's steps come from below and never pass the root.
    width = scales.min(axis=-1)
    for _ in range(_STEPS):
        reach = width[..., None] / scales
        inside = (1 - 2 * _upper_tail(reach)) @ weights
        slope = (np.sqrt(2 / np.pi) * np.exp(-reach * reach / 2) / scales) @ weights
        step = np.maximum(level - inside, 0.0) / slope
        width = width + step
        if np.all(step <= _CLOSE * width):
            break
    return np.where(width > 1e-12, width, 0.0)


def _mixture(
    between: np.ndarray, freedom: int, own: np.ndarray, shared: np.ndarray, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviations (..., G) that the mean difference may have, and how likely each is, (G,)."""
    reach = max(44 / freedom, np.sqrt(80 / freedom))
    # Logarithms of chi-square over its degrees of freedom.
    logs = -reach + (np.arange(_GRID) + 0.5) * (reach + np.sqrt(60 / freedom)) / _GRID
    density = freedom / 2 * (logs - np.exp(logs))
    weights = np.exp(density - density.max())
    variances = np.maximum(between[..., None] * np.exp(-logs), own[..., None])
    return np.sqrt(variances / seeds + shared[..., None] + 1e-30), weights / weights.sum()


def _upper_tail(values: np.ndarray) -> np.ndarray:
    return np.asarray(torch.special.ndtr(torch.from_numpy(-np.asarray(values, dtype=np.float64))).numpy())
