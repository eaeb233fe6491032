"""Time that training and evaluation took, from the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from augcond.evaluation.results import Results


@dataclass(frozen=True, slots=True)
class ArmCost:
    """Time of one arm, over all its seeds, in seconds; None where a model's was not recorded."""

    name: str
    models: int
    training: float | None
    evaluation: float | None


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Time of all arms.

    Attributes:
        arms: one entry per arm.
        models: number of models.
        training: seconds; the same of `evaluation`; None where a model's was not recorded.
        evaluation: seconds of loading the models and predicting the images that they are judged on.
    """

    arms: tuple[ArmCost, ...]
    models: int
    training: float | None
    evaluation: float | None


def training_cost(results: Results) -> TrainingCost:
    """Return what the models behind `results` took."""
    arms = tuple(
        ArmCost(
            arm.name,
            len(arm.seeds),
            _total(seed.training_seconds for seed in arm.seeds),
            _total(seed.evaluation_seconds for seed in arm.seeds),
        )
        for arm in results.arms
    )
    return TrainingCost(
        arms,
        sum(arm.models for arm in arms),
        _total(arm.training for arm in arms),
        _total(arm.evaluation for arm in arms),
    )


def _total(seconds: Iterable[float | None]) -> float | None:
    """Return the sum; None where a part is unknown, since a sum of the others would read like the whole."""
    known = list(seconds)
    return None if None in known else sum(value for value in known if value is not None)
