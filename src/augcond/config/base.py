"""What every section of a config shares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

RecipeName = Literal[
    "text",
    "real-guidance",
    "image",
    "dropout",
    "mixup",
    "cutmix",
    "embed-mixup",
    "embed-cutmix",
    "mixup-dropout",
    "cutmix-dropout",
    "embed-mixup-dropout",
    "embed-cutmix-dropout",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_tuple)
"""Lets a YAML file write one text where several are allowed."""


class Section(BaseModel):
    """A group of keys; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
