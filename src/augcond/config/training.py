"""The sections of a config that say what is trained on what: splits, training, evaluation, screening, protocols."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from augcond.config.base import NOTHING, AtLeastOne, Count, OneOrMore, Section, Setting, Share, setting_of

SplitName = Literal["all", "long-tail", "few-shot"]
ProtocolName = Literal["long-tail", "few-shot", "published"]
Drawing = Literal["exact", "bernoulli"]
LossName = Literal["cross-entropy", "balanced-softmax", "logit-adjustment"]
"""What `augcond.training.losses` has, one function each."""
JudgeName = Literal["none", "classifier", "encoder", "prompts"]
"""What `augcond.screening.screen` has, one function each but for none."""
LeakName = Literal["synthetic-validation", "whole-train-sources", "fixed-training-subset", "best-epoch"]


def _spelled_no(value: Any) -> Any:
    """Return `no` for what YAML makes of an unquoted no."""
    return "no" if value is False else value


_SPLIT_KEYS: dict[str, tuple[str, ...]] = {
    "all": (),
    "long-tail": ("imbalance", "head", "order"),
    "few-shot": ("k",),
}


class SplitConfig(Section, decides="real"):
    """Which of the labelled images are trained on, and which are held out for validation."""

    name: SplitName = "all"
    """all: every image is trained on, but those held out; long-tail: fewer and fewer from class to class; few-shot: `k`
    of each class."""
    imbalance: Annotated[float, Field(ge=1)] | None = None
    """long-tail: images of the largest class over those of the smallest; 100 where null."""
    head: AtLeastOne | None = None
    """long-tail: images of the largest class; as many as every class has where null."""
    order: Literal["listed", "shuffled"] | None = None
    """long-tail: the classes from head to tail in label order (as is usual), or in an order that the seed draws."""
    k: AtLeastOne | None = None
    """few-shot: images per class."""
    validation_per_class: Count = 0
    """Images per class that are held out for validation, where `data.validation` names no images of its own."""
    seed: Annotated[Count, Setting(swept=False)] = 0
    """Which images of each class are drawn, and held out."""

    @model_validator(mode="after")
    def _keys_fit_name(self) -> Self:
        allowed = _SPLIT_KEYS[self.name]
        for key in ("imbalance", "head", "order", "k"):
            if key not in allowed and getattr(self, key) is not None:
                raise ValueError(f"split {self.name!r} takes no {key}")
        if self.name == "few-shot" and self.k is None:
            raise ValueError("split 'few-shot' needs k, the number of images per class")
        return self


class AugmentConfig(Section, decides="models"):
    """How training images are augmented, real and synthetic alike."""

    crop: Literal["none", "pad", "resized", "photo"] = "pad"
    """pad: shift by up to an eighth of the edge, as for small images; photo: random resized crop of the whole image,
    whatever its shape, as is usual; resized: of its centred square, kept at 8/7 of the network's size, which takes
    less memory and time where many passes are made."""
    scale: tuple[Share, Share] = (0.25, 1.0)
    """Share of the area that a random resized crop keeps, lowest and highest."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    transforms: tuple[dict[str, Any], ...] = ()
    """torchvision v2 transforms on each image, such as [{name: RandAugment, magnitude: 9}]."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    """Mix the inputs of a batch, and their labels."""
    mix_alpha: Annotated[float, Field(gt=0)] = 1.0
    """lambda ~ Beta(mix_alpha, mix_alpha)."""

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1] or scale[0] == 0:
            raise ValueError("expected 0 < lowest <= highest")
        return scale


UNUSED_REAL = "unused-real"
"""What an arm trains on, in place of a recipe's images, as a ceiling: real images that the split leaves out."""


class ArmConfig(Section, decides="models"):
    """One row of the table of results: what is trained on, and with which settings of its own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    """Also the folder of its models."""
    recipe: str | tuple[str, ...] | None = None
    """Synthetic images of this recipe, by its short name; null: none; of several, each gives an equal part of as many
    as one of them would give. unused-real: real images that the split leaves out, as a ceiling."""
    per_class: AtLeastOne | None = None
    """Take only the first so many synthetic images per class; all where null."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Keys of `training` that this arm sets otherwise."""

    @field_validator("recipe")
    @classmethod
    def _one_or_several(cls, recipe: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if not isinstance(recipe, tuple):
            return recipe
        if not recipe or len(set(recipe)) < len(recipe) or (UNUSED_REAL in recipe and len(recipe) > 1):
            raise ValueError(f"name each recipe once, and {UNUSED_REAL} by itself")
        return recipe[0] if len(recipe) == 1 else recipe

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes of its images; none, one or several."""
        return () if self.recipe is None else (self.recipe,) if isinstance(self.recipe, str) else self.recipe

    @classmethod
    def inner(cls, key: str, values: Mapping[str, Any]) -> type[Section] | None:
        """Return the section that `key` holds: `overrides` holds keys of `training`."""
        return TrainingConfig if key == "overrides" else super().inner(key, values)


_ALIKE = Setting(alike=True)
"""The budget, and what it is spent on: the same for every arm."""
_EACH = Setting(by="each", alike=True, swept=False)
"""Which models there are: each counts by itself."""

_CEILING = Setting(by="each", neutral="alike", alike=True)
"""What it decides counts by itself, as the ceiling's own `counts`."""


class TrainingConfig(Section, decides="models"):
    """How classifiers are trained; every arm gets the same number of steps and images per step."""

    model: str = "small-cnn"
    """`small-cnn` (32 pixels, for a CPU), the name of a timm model, or, for a linear probe, `generator`: the image
    encoder of the generator itself."""
    mode: Literal["scratch", "finetune", "linear-probe"] = "scratch"
    """scratch: all weights, from random ones; finetune: all weights, from `weights`; linear-probe: a linear layer, on
    the features of a frozen network."""
    weights: Annotated[str | None, Setting(path="weights")] = None
    """Weights to start from: `hub` (timm's own for this model) or a local safetensors file."""
    revision: str | None = None
    """Commit hash, tag or branch on the hub."""
    image_size: Annotated[Annotated[int, Field(ge=8)] | None, _ALIKE] = None
    """Edge length in pixels of the network's input; the network's own where null."""
    steps: Annotated[AtLeastOne, _ALIKE] = 500
    """Optimiser steps: the budget, equal for every arm."""
    batch_size: Annotated[AtLeastOne, _ALIKE] = 64
    """Images per step, over all devices."""
    synthetic_share: Share = 0.5
    """Of each batch, in arms that train on synthetic images."""
    mix: Drawing = "exact"
    """exact: this share of each batch is synthetic; bernoulli: each image is, with this probability."""
    synthetic_tilt: Annotated[Annotated[float, Field(ge=0)], Setting(neutral=0.0)] = 0.0
    """Synthetic images of a class with n real ones are drawn n^-tilt as often: 0 all equally often, larger values fewer
    of classes that have many real ones."""
    real_steps: Annotated[Count, Setting(neutral=0)] = 0
    """So many of the last steps are on real images alone."""
    sampling: Literal["uniform", "class-balanced"] = "uniform"
    """How real images are drawn: each equally often, or each class equally often, as a baseline for long tails."""
    loss: LossName = "balanced-softmax"
    """balanced-softmax and logit-adjustment allow for classes that have few images (arXiv 2007.10740, 2007.07314)."""
    counts: Literal["real", "effective"] = "real"
    """Class counts that balanced-softmax and logit-adjustment use: of the real images, or what batches really show."""
    ceiling_counts: Annotated[Literal["effective", "alike"], _CEILING] = "effective"
    """Class counts of an arm on unused-real that sets no `counts` of its own: effective, since its classes are
    filled up and those of the real images would correct for a tail that is not there; or alike for every arm."""
    tau: Annotated[float, Field(ge=0)] = 1.0
    """Strength of the logit adjustment."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that is spread over all classes."""
    optimizer: str = "adamw"
    """Any optimiser that timm knows, such as adamw, sgd (with Nesterov momentum), momentum (sgd without) or lamb."""
    lr: Annotated[float, Field(gt=0)] = 0.003
    """Highest learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of sgd and its like."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """As the optimiser understands it: decoupled in adamw, added to the gradient in sgd."""
    decay: Annotated[Literal["weights", "all"], Setting(neutral="weights")] = "weights"
    """What weight decay acts on: weights alone, or biases and norms too."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of a gradient; null: gradients are not clipped."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate, after the warm-up: down to 0, or as it is."""
    warmup_steps: Count = 0
    """Steps over which the learning rate rises to `lr`."""
    augment: AugmentConfig = AugmentConfig()
    views: AtLeastOne | Literal["fresh"] = 1
    """linear-probe: augmented views of each training image whose features are computed once, beside the plain one;
    `fresh`: every batch is augmented and encoded anew."""
    standardise: Annotated[bool, Setting(neutral=True)] = True
    """linear-probe: features are standardised with the mean and deviation of the real training images'."""
    seeds: Annotated[AtLeastOne | tuple[Count, ...], _EACH] = 3
    """Number of training seeds (0, 1, ...), or the seeds themselves."""
    checkpoint_every: Annotated[AtLeastOne, NOTHING] = 1000
    """Steps between two checkpoints, from which an interrupted training goes on."""
    device: Annotated[Literal["auto", "cpu"], Setting("nothing", alike=True)] = "auto"
    """auto: what Accelerate finds, one process per GPU under `accelerate launch`."""
    precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_spelled_no), _ALIKE] = "no"
    """Mixed precision."""
    max_memory_gb: Annotated[float, Field(ge=0), NOTHING] = 4.0
    """Images that take more, decoded, are decoded anew for every batch."""
    arms: Annotated[tuple[ArmConfig, ...] | None, _EACH] = None
    """Rows of the table; real-only and one per recipe of the plan where null."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "scratch" and self.weights is not None:
            raise ValueError("mode 'scratch' takes no weights: use finetune or linear-probe")
        if self.mode == "finetune" and self.weights is None:
            raise ValueError("mode 'finetune' needs weights: hub, or a safetensors file")
        if self.model == "generator" and (self.mode != "linear-probe" or self.weights is not None):
            raise ValueError("model 'generator' goes with mode linear-probe and no weights of its own")
        if self.mode == "linear-probe" and self.model != "generator" and self.weights is None:
            raise ValueError("mode 'linear-probe' needs weights: hub, or a safetensors file")
        if self.mode == "linear-probe" and self.augment.mix != "none":
            raise ValueError("augment.mix does not go with linear-probe, whose features are computed once")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be less than steps ({self.steps})")
        if self.real_steps >= self.steps:
            raise ValueError(f"real_steps ({self.real_steps}) must be less than steps ({self.steps})")
        if self.seeds == ():
            raise ValueError("seeds: name at least one")
        return self

    @field_validator("arms")
    @classmethod
    def _distinct(cls, arms: tuple[ArmConfig, ...] | None) -> tuple[ArmConfig, ...] | None:
        if arms is not None:
            if not arms:
                raise ValueError("name at least one arm, or leave arms out")
            if len({arm.name for arm in arms}) != len(arms):
                raise ValueError("give each arm a name of its own")
            for arm in arms:
                for key in arm.overrides:
                    if key in cls.model_fields and setting_of(cls, key).alike:
                        raise ValueError(f"arm {arm.name!r}: {key} is the same for every arm")
        return arms

    @model_validator(mode="after")
    def _arms_are_valid(self) -> Self:
        for arm in self.arms or ():
            try:
                self.for_arm(arm)
            except ValidationError as error:
                raise ValueError(f"arm {arm.name!r}: {_first_problem(error)}") from None
        return self

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """The training seeds."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def for_arm(self, arm: ArmConfig) -> TrainingConfig:
        """Return these settings with those that `arm` sets otherwise."""
        values = self.model_dump(exclude={"arms"})
        if arm.recipe == UNUSED_REAL and self.ceiling_counts == "effective":
            values["counts"] = "effective"
        for key, value in arm.overrides.items():
            nested = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = {**values[key], **value} if nested else value
        return type(self).model_validate(values)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), [*TrainingConfig.model_fields], n=1)
        message = f"unknown key; did you mean {near[0]!r}?" if near else "unknown key: remove or rename it"
    return f"{'.'.join(map(str, first['loc'])) or 'overrides'}: {message}"


class EvaluationConfig(Section, decides="judgement"):
    """Bounds of the shot groups by real training images (many > `many`, few < `few`, medium between), and verdicts."""

    many: AtLeastOne = 100
    """A class with more real training images is one with many."""
    few: AtLeastOne = 20
    """A class with fewer is one with few."""
    primary: Annotated[tuple[str, ...], OneOrMore, Setting(neutral=[], swept=False)] = ()
    """Arms whose gain in overall accuracy over the first arm was chosen beforehand as the question; everything else is
    exploratory then. Empty: all gains over the first arm are corrected for their number (Holm)."""
    features: Annotated[str, Setting("nothing", neutral="generator", swept=False)] = "auto"
    """Encoder by whose features a report judges the generated images. auto: that of the classifier trained on real
    images alone, where there is one, which has no part in making them; else the generator's own, which is circular and
    said to be. Or generator, timm:NAME, torchvision:NAME."""
    bootstrap: Annotated[AtLeastOne, Setting("nothing", swept=False)] = 2000
    """Of augcond 0.1, whose intervals were too narrow; without effect."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.few > self.many + 1:
            raise ValueError(f"few ({self.few}) lies above many ({self.many}): a class would be both")
        return self


class ScreeningConfig(Section, decides="kept"):
    """Drop generated images that a judge places in another class."""

    by: JudgeName = "none"
    """classifier: one trained on the real training images; encoder: the nearest class mean of the generator's image
    encoder; prompts: the nearest class prompt, where the generator's text and image encoders share a space."""
    rejected_real: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The threshold is where this share of the real validation images would be dropped."""
