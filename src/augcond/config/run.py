"""The configuration of one run: all sections, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from augcond import registry
from augcond.config.base import AtLeastOne, OneOrMore, Section, Setting
from augcond.config.data import DataConfig
from augcond.config.generation import ConditioningConfig, EngineConfig, GeneratorConfig, OutputConfig, PlanConfig
from augcond.config.training import (
    UNUSED_REAL,
    EvaluationConfig,
    LeakName,
    ProtocolName,
    ScreeningConfig,
    TrainingConfig,
)

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class SweepConfig(Section):
    """What `augcond sweep` varies, where the command does not say it."""

    over: dict[str, tuple[Any, ...] | dict[str, dict[str, Any]]]
    """By key, the values that it takes; of a section such as `generator`, names for the keys that are set in it, by
    which rows of the table are called. What a name leaves out has its default, not what the config says elsewhere."""
    seeds: AtLeastOne = 3
    """Seeds of split, plan and training together."""


class RunConfig(Section):
    """Everything that defines one run."""

    data: DataConfig
    run: Annotated[Path, Setting("nothing", path="path", swept=False)]
    """The folder that the run is kept in; made if it is missing."""
    protocol: Annotated[ProtocolName | None, Setting("nothing", swept=False)] = None
    """A preset of the sections below; what the config spells itself goes before it."""
    leaks: Annotated[tuple[LeakName, ...], Setting("real")] = ()
    """Leaks of published scripts to reproduce, for comparison only: results are marked leaky."""
    tracking: Annotated[tuple[TrackerName, ...], OneOrMore, Setting("nothing", neutral=[], swept=False)] = ()
    """Who is told of losses, accuracies, rates and images besides: one tracker or several; docs/tracking.md."""
    plan: PlanConfig = PlanConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    prompt: Annotated[tuple[str, ...], OneOrMore, Field(min_length=1), Setting("images", by="each")] = (
        "a photo of a {class_name}",
    )
    """One template or several (one is drawn per image); {class_name} is filled in."""
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    output: OutputConfig = OutputConfig()
    engine: EngineConfig = EngineConfig()
    training: TrainingConfig = TrainingConfig()
    screening: ScreeningConfig = ScreeningConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    sweep: Annotated[SweepConfig | None, Setting("nothing", neutral=None, swept=False)] = None

    @model_validator(mode="after")
    def _arms_train_on_recipes(self) -> Self:
        planned = (UNUSED_REAL, *self.conditioning.recipe_names)
        named = [(arm.name, recipe) for arm in self.training.arms or () for recipe in arm.recipes]
        for arm, recipe in named:
            if recipe not in planned and recipe not in registry.recipes:
                raise ValueError(
                    f"training.arms: arm {arm!r} trains on {recipe!r}, which is no recipe; known: "
                    f"{', '.join(dict.fromkeys((*self.conditioning.recipe_names, *registry.recipes.names())))}, "
                    f"{UNUSED_REAL}"
                )
        return self

    @model_validator(mode="after")
    def _oversampling_is_judged(self) -> Self:
        if self.plan.oversample == 1:
            return self
        if self.screening.by not in ("classifier", "encoder"):
            raise ValueError("plan.oversample needs a judge of real images: set screening.by to classifier or encoder")
        for arm in self.training.arms or ():
            if arm.per_class is not None:
                raise ValueError(
                    f"training.arms: arm {arm.name!r} takes the first per_class images of each class, and "
                    "plan.oversample the most useful: leave one of them out"
                )
            if len(arm.recipes) > 1:
                raise ValueError(
                    f"training.arms: arm {arm.name!r} takes every {len(arm.recipes)}. image of each recipe, and "
                    "plan.oversample keeps the most useful, wherever they stand: leave one of them out"
                )
        return self

    @field_validator("prompt")
    @classmethod
    def _templates_format(cls, prompt: tuple[str, ...]) -> tuple[str, ...]:
        for template in prompt:
            try:
                template.format(class_name="x")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"template {template!r} may hold no braces but {{class_name}}") from error
        return prompt


def names_class(template: str) -> bool:
    """Return whether a template of prompts says which class it is for."""
    return template.format(class_name="a") != template.format(class_name="b")
