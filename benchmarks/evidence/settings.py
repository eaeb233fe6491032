"""What is measured: the arms, the declared grids of the tuning, and the size of everything.

Three rounds of tuning, on the validation images of a seed that is measured by nothing else: how training images are
augmented, the arm's own knob, and the optimiser. Every tuned arm is tried with the same number of settings. The ten
image recipes share what was found for one of them (`STAND_IN`): ten times the tuning would be a budget that the
baselines do not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from augcond.generators import recipes_for

Protocol = Literal["long-tail", "few-shot"]

BOTH_COUNTS = ("text", "image", "embed-mixup-dropout")
"""Rows that are also trained with the counts of the batches (Balanced Softmax with effective counts)."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "a": ("long-tail", "few-shot", "screening", "published"),
    "b": ("unnamed", "guidance", "amount", "longer", "leaks", "crop", "other-recipes"),
}
"""Of each tier, in the order in which they are measured."""

_ALL_SECTIONS = tuple(chain(*SECTIONS.values()))

_SEEDS = {"long-tail": 5, "few-shot": 4, "published": 2, "amount": 2, "leaks": 2, "longer": 5, "unnamed": 4}
"""Measured seeds of the sections; the others have three."""

HEADLINE = ("real-strong", "text", "image", "dropout", "embed-mixup-dropout", "embed-cutmix-dropout", "ceiling")
"""Rows of the long tail that are measured with more seeds than the section's others."""

SELECTION_SEED = 100
"""Of all tuning; measured seeds are 0, 1, 2, ... A seed is that of split, plan and training together: each has real
images, generated ones and initial weights of its own, and on the long tail its own order of the classes."""

STAND_IN = "embed-mixup-dropout"
"""The image recipe that the image recipes are tuned with: the product's default."""

IMAGE_RECIPES = tuple(name for name in recipes_for("stable-unclip") if name not in ("text", "real-guidance"))

PIXEL_RECIPES = ("mixup", "cutmix", "mixup-dropout", "cutmix-dropout")
"""Those that mix pixels, after a random resized crop."""

OPTIMISER: tuple[Mapping[str, Any], ...] = (
    {"training.lr": 0.002, "training.augment.crop": "pad"},
    {"training.lr": 0.006, "training.augment.crop": "pad"},
)
"""The last round of the tuning, the same for every arm."""

ROUNDS = ("augment", "own", "optimiser")
"""Of the tuning; each starts from the best of those before it."""

UNNAMED_PROMPT = "a photo of a garment"
"""For every class alike: what the recipes give where the generator cannot know a class by its name."""

CROPS: tuple[float, ...] = (0.5,)
"""Lowest shares of the area that the crop before pixel mixing keeps, measured beside the default."""


@dataclass(frozen=True, slots=True)
class Knob:
    """The setting that an arm is tuned in first: a key of the config, and the values that are tried."""

    key: str
    values: tuple[Any, ...]


_RANDAUGMENT = tuple([{"name": "RandAugment", "magnitude": magnitude}] for magnitude in (9, 3))
_AUGMENT: tuple[Mapping[str, Any], ...] = ({}, {"training.augment.transforms": _RANDAUGMENT[0]})
_MAGNITUDES: tuple[Mapping[str, Any], ...] = tuple({"training.augment.transforms": drawn} for drawn in _RANDAUGMENT)
_DECAY = Knob("training.weight_decay", (0.05, 0.01, 0.2, 0.5))
_GUIDANCE = Knob("generator.guidance_scale", (2.0, 4.0, 7.0, 10.0))
_ALPHA = Knob("training.augment.mix_alpha", (1.0, 0.2, 0.5, 2.0))


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """One row of a table.

    Attributes:
        name: of the row.
        recipe: of its synthetic images, or several; None: none.
        training: its own keys of the `training` section.
        knob: what it alone is tuned in; None: it is not tuned, or tuned as another arm.
        augment: what is tried in the first round of the tuning: settings of the augmentation.
        tuned_as: the arm whose settings it takes; its own name where it is tuned.
        per_class: only the first so many synthetic images of each class.
    """

    name: str
    recipe: str | tuple[str, ...] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    knob: Knob | None = None
    augment: tuple[Mapping[str, Any], ...] = _AUGMENT
    tuned_as: str | None = None
    per_class: int | None = None


def synthetic(recipe: str) -> ArmSpec:
    """Return the row of a recipe."""
    if recipe in IMAGE_RECIPES:
        return ArmSpec(recipe, recipe, knob=_GUIDANCE if recipe == STAND_IN else None, tuned_as=STAND_IN)
    return ArmSpec(recipe, recipe, knob=_GUIDANCE, tuned_as=recipe)


def _tuned(name: str, knob: Knob, **training: Any) -> ArmSpec:
    return ArmSpec(name, None, training, knob, tuned_as=name)


REAL_STRONG = "real-strong"
CEILING = ArmSpec("ceiling", "unused-real", {"counts": "effective"}, _DECAY, tuned_as="ceiling")
"""Its images are all real, and equally many of each class: the counts that batches show are the true ones."""

RANDAUGMENT = ArmSpec("real-randaugment", None, {}, _DECAY, _MAGNITUDES, "real-randaugment")

LONG_TAIL_REAL = (
    _tuned(REAL_STRONG, _DECAY),
    ArmSpec("real-weak", None, {"loss": "cross-entropy", "augment": {"crop": "none", "flip": 0.0}}),
    _tuned("real-adjusted", Knob("training.tau", (1.0, 0.5, 1.5, 2.0)), loss="logit-adjustment"),
    RANDAUGMENT,
    _tuned("real-cutmix", _ALPHA, augment={"mix": "cutmix"}),
    _tuned("real-mixup", _ALPHA, augment={"mix": "mixup"}),
    _tuned("real-balanced-sampling", _DECAY, loss="cross-entropy", sampling="class-balanced"),
    _tuned("encoder-probe", _DECAY, model="generator", mode="linear-probe"),
)
"""Real images alone on the long tail; all but three with Balanced Softmax."""

FEW_SHOT_REAL = (_tuned(REAL_STRONG, _DECAY), RANDAUGMENT)


def tuned_spec(name: str) -> ArmSpec:
    """Return the arm that the settings of `name` were found with."""
    real = {spec.name: spec for spec in (*LONG_TAIL_REAL, CEILING)}
    return real[name] if name in real else synthetic(str(synthetic(name).tuned_as))


SCREENS = ("classifier", "encoder", "prompts")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is; tests make a tiny one.

    Attributes:
        base: sections of the config that all runs share.
        imbalance: of the long tail.
        head: its largest class, which all classes are filled to.
        shots: images per class of the few-shot runs.
        tuning_shots: the one of them that is tuned and chosen at.
        few_per_class: synthetic images per class of a few-shot run.
        steps: optimiser steps of each protocol.
        longer: other numbers of steps on the long tail, for some rows.
        tried: settings tried in each round of the tuning, the same for every arm.
        recipes: the image recipes.
        guidance: values of tier B.
        amounts: synthetic images per class of tier B.
        seeds: measured in each section.
        headline_seeds: of the rows of the long tail in `HEADLINE`.
    """

    base: Mapping[str, Any] = field(
        default_factory=lambda: {
            "data": {"source": "builtin"},
            "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 8},
            "training": {"model": "small-cnn", "batch_size": 32},
        }
    )
    imbalance: float = 100
    head: int = 200
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    tuning_shots: int = 4
    few_per_class: int = 16
    steps: Mapping[Protocol, int] = field(default_factory=lambda: {"long-tail": 300, "few-shot": 200})
    longer: tuple[int, ...] = (600, 1200)
    tried: Mapping[str, int] = field(default_factory=lambda: {"augment": 2, "own": 4, "optimiser": 2})
    recipes: tuple[str, ...] = IMAGE_RECIPES
    guidance: tuple[float, ...] = (2.0, 4.0, 7.0, 10.0)
    amounts: tuple[int, ...] = (50, 100, 200, 400)
    seeds: Mapping[str, int] = field(default_factory=lambda: {name: _SEEDS.get(name, 3) for name in _ALL_SECTIONS})
    headline_seeds: int = 10

    def measured_seeds(self, section: str) -> int:
        """Return with how many seeds a section is measured, for those of its rows that have the most."""
        return max(self.seeds[section], self.headline_seeds if section == "long-tail" else 0)


def few_shots(scale: Scale) -> tuple[int, ...]:
    """Return the numbers of images per class at which the method promises most: those up to the tuned one."""
    return tuple(shots for shots in scale.shots if shots <= scale.tuning_shots)


FULL = Scale()

SMOKE = Scale(
    base={
        "data": {"source": "builtin"},
        "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 2},
        "training": {"model": "small-cnn", "batch_size": 8},
        "evaluation": {"bootstrap": 100},
    },
    imbalance=2,
    head=4,
    shots=(1, 2),
    tuning_shots=1,
    few_per_class=2,
    steps={"long-tail": 2, "few-shot": 2},
    longer=(4,),
    tried={"augment": 1, "own": 1, "optimiser": 1},
    recipes=("image", STAND_IN),
    guidance=(2.0,),
    amounts=(2, 4),
    seeds=dict.fromkeys(_ALL_SECTIONS, 1),
    headline_seeds=1,
)
"""Does the whole chain run on this machine? Its numbers mean nothing."""
