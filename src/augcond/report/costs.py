"""Time that training and evaluation took, from the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from augcond.evaluation.results import Results


@dataclass(frozen=True, slots=True)
class ArmCost:
    """Time of one arm, over all its seeds, in seconds."""

    name: str
    models: int
    training: float
    evaluation: float


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Time of all arms.

    Attributes:
        arms: one entry per arm.
        models: number of models.
        training: seconds of the optimiser steps.
        evaluation: seconds of loading the models and predicting the images that they are judged on.
    """

    arms: tuple[ArmCost, ...]
    models: int
    training: float
    evaluation: float


def training_cost(results: Results) -> TrainingCost:
    """Return what the models behind `results` took."""
    arms = tuple(
        ArmCost(
            arm.name,
            len(arm.seeds),
            sum(seed.training_seconds for seed in arm.seeds),
            sum(seed.evaluation_seconds for seed in arm.seeds),
        )
        for arm in results.arms
    )
    return TrainingCost(
        arms,
        sum(arm.models for arm in arms),
        sum(arm.training for arm in arms),
        sum(arm.evaluation for arm in arms),
    )
