"""Shares of generated images that miss their class or their style, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.datasets.summary import ShotGroup
    from augcond.evaluation.fidelity import Fidelity


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of images, with how many were looked at.

    Attributes:
        hits: images of which it holds.
        of: images that were judged.
    """

    hits: int
    of: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, for images drawn like these."""
        z, n = 1.959964, self.of
        middle = (self.share + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * math.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(frozen=True, slots=True)
class Rates:
    """How many images of a sample miss their class, and their style; None where none could be judged."""

    semantic_error: Rate | None
    domain_shift: Rate | None

    @classmethod
    def of(cls, fidelity: Fidelity, labels: Tensor, threshold: float | None) -> Rates:
        """Return what a judge says of images with `labels`; style is missed above `threshold`."""
        known = ~fidelity.margin.isnan()
        wrong = int((fidelity.nearest[known] != labels[known]).sum())
        shifts = fidelity.shift[~fidelity.shift.isnan()]
        error = Rate(wrong, int(known.sum())) if known.any() else None
        if threshold is None or not len(shifts):
            return cls(error, None)
        return cls(error, Rate(int((shifts > threshold).sum()), len(shifts)))


@dataclass(frozen=True, slots=True)
class GroupRates:
    """Misses of one recipe among the classes of one shot group; None where none could be judged."""

    recipe: str
    shot_group: ShotGroup
    semantic_error: Rate | None
    domain_shift: Rate | None
