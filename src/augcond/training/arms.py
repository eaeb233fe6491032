"""The arms of a run: which rows the table of results has, what each is trained on, and with which seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from augcond.config.training import UNUSED_REAL as UNUSED_REAL
from augcond.config.training import ArmConfig
from augcond.datasets.base import HeldOut as HeldOut
from augcond.errors import ConfigError, TrainingError
from augcond.planning import images_to_make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.config import RunConfig, TrainingConfig
    from augcond.datasets import Dataset
    from augcond.datasets.splits import Split

REAL_ONLY = "real-only"
"""Name of the arm that is trained on real images alone, with the run's own training settings."""

ArmKind = Literal["real-only", "synthetic", "ceiling"]
"""`ceiling`: as many unused real images in place of the synthetic ones."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting to train.

    Attributes:
        name: unique among the arms.
        kind: what its images are.
        recipe: of its synthetic images, or several; None where there are none.
        per_class: take only the first so many of each class; all where None.
        config: its training settings.
    """

    name: str
    kind: ArmKind
    recipe: str | tuple[str, ...] | None
    per_class: int | None
    config: TrainingConfig

    @property
    def share(self) -> float:
        """Share of a batch that is not the split's real images."""
        return 0.0 if self.kind == "real-only" else self.config.synthetic_share


@dataclass(frozen=True, slots=True)
class Seeds:
    """Which draw a trained model is.

    Attributes:
        split: which real images are trained on; None without a split.
        generation: the plan's seed: which sources, lambda and noise.
        training: initial weights, order of the images and their augmentation.
    """

    split: int | None
    generation: int
    training: int


def arms_of(config: RunConfig) -> tuple[Arm, ...]:
    """Return the arms of a run: those that it names, or real-only and one per recipe of the plan.

    Raises:
        ConfigError: an arm's recipe is not planned, or what was chosen beforehand (`evaluation.primary`) is no arm.
    """
    training = config.training
    named = training.arms or default_arms(config.conditioning.recipe_names)
    planned = (*config.conditioning.recipe_names, UNUSED_REAL)
    for arm in named:
        for recipe in arm.recipes:
            if recipe not in planned:
                raise ConfigError(
                    f"training.arms: {arm.name!r} trains on {recipe!r}, which conditioning.recipe does not name"
                )
    names = [arm.name for arm in named]
    for name in config.evaluation.primary:
        if name not in names or name == (REAL_ONLY if REAL_ONLY in names else names[0]):
            raise ConfigError(
                f"evaluation.primary: {name!r} is no arm that gains on the first one; the arms: {', '.join(names)}"
            )
    kinds: dict[str | tuple[str, ...] | None, ArmKind] = {None: "real-only", UNUSED_REAL: "ceiling"}
    return tuple(
        Arm(arm.name, kinds.get(arm.recipe, "synthetic"), arm.recipe, arm.per_class, training.for_arm(arm))
        for arm in named
    )


def default_arms(recipes: Sequence[str]) -> tuple[ArmConfig, ...]:
    """Return the arms of a run that names none: real images alone, and one per recipe of its plan."""
    return ArmConfig(name=REAL_ONLY), *(ArmConfig(name=recipe, recipe=recipe) for recipe in recipes)


def unused_real(config: RunConfig, pool: Dataset, split: Split, training: Dataset, per_class: int | None) -> list[str]:
    """Return keys of real images that the split leaves out, as many per class as the plan makes synthetic ones.

    Args:
        config: its plan says how many.
        pool: all labelled images.
        split: neither its training nor its validation images are taken.
        training: the training images of the split.
        per_class: at most so many of each class.

    Raises:
        TrainingError: a class has too few unused images.
    """
    used = {*split.train, *split.validation}
    free: list[list[str]] = [[] for _ in pool.classes]
    for image in pool.images:
        if image.key not in used:
            free[image.label].append(image.key)
    keys: list[str] = []
    amounts = images_to_make(config.plan, training.classes, training.counts())
    for class_id, own, wanted in zip(pool.classes, free, amounts, strict=True):
        count = wanted if per_class is None else min(wanted, per_class)
        if len(own) < count:
            raise TrainingError(
                f"class {class_id!r} has {len(own)} unused real images; the ceiling takes as many as planned, {count}"
            )
        keys += sorted(own)[:count]
    return keys
