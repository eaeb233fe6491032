"""What a trained model is called by; light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from augcond.datasets.base import EvaluationPart as EvaluationPart

REAL_ONLY = "real-only"
"""Name of the arm that is trained on real images alone, with the run's own training settings."""

ArmKind = Literal["real-only", "synthetic", "ceiling"]
"""`ceiling`: as many unused real images in place of the synthetic ones."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """Which draw each part of an experiment is.

    Attributes:
        split: which real images are trained on; None without a split.
        generation: the plan's seed: which sources, lambda and noise.
        training: initial weights, order of the images and their augmentation.
    """

    split: int | None
    generation: int
    training: int
