"""Axes of a sweep: which keys differ from cell to cell, and the values that they take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from augcond.config import RunConfig, parse_config
from augcond.config.base import NOTHING, Setting, find_setting
from augcond.config.reading import read_yaml
from augcond.config.training import ArmConfig
from augcond.errors import ConfigError
from augcond.registry import short_name

OTHER_AMOUNT = {"plan.per_class": "plan.fill_to", "plan.fill_to": "plan.per_class"}
"""One of the two ways to say how many images, where the other is varied."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the config and the values that it takes.

    Attributes:
        key: such as `generator.steps`.
        values: what it takes, or names of that.
        meanings: of values that are names, what each stands for; empty where none are.
    """

    key: str
    values: tuple[Any, ...]
    meanings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def axes_of(config: RunConfig) -> list[Axis]:
    """Return the axes that `sweep.over` of a config names; none where it names none."""
    over = config.sweep.over if config.sweep is not None else {}
    return [
        Axis(key, tuple(values), values if isinstance(values, dict) else {}) for key, values in over.items() if values
    ]


def parse_axis(text: str) -> Axis:
    """Return the axis that `key=value,value,...` stands for; values are YAML.

    Raises:
        ConfigError: it is written otherwise.
    """
    key, separator, values = text.partition("=")
    try:
        parsed = read_yaml(f"[{values}]") if separator else None
    except yaml.YAMLError as error:
        raise ConfigError(f"--over {text!r}: {error}") from error
    if not key.strip() or not parsed:
        raise ConfigError(f"--over {text!r}: expected key=value,value, such as generator.guidance_scale=2,4,7")
    if len({in_names(value) for value in parsed}) != len(parsed):
        raise ConfigError(f"--over {text!r}: a value comes twice")
    return Axis(key.strip(), tuple(parsed))


def validated(config: RunConfig, axis: Axis) -> Axis:
    """Return an axis whose values are what they are taken for, so that `4`, `4.0` and `"4"` are one value.

    Mappings stay as they are written: only what they name is set.

    Raises:
        ConfigError: it is of a key that a sweep sets itself, a value comes twice, in another spelling, or no arm trains
            on a recipe.
    """
    if axis.key == "protocol":
        raise ConfigError("--over protocol: a protocol is a preset; name the keys in which two of them differ")
    stated = [axis.meanings.get(value, value) if axis.meanings else value for value in axis.values]
    keys = [axis.key, *(f"{axis.key}.{name}" for value in stated if isinstance(value, dict) for name in value)]
    own = [key for key in keys if not setting_at(config, key).swept]
    if own:
        raise ConfigError(f"--over {', '.join(own)}: a sweep sets this itself")
    if axis.key == "conditioning.recipe" and config.training.arms is not None:
        _check_recipes(axis, config.training.arms)
    if axis.meanings:
        return axis
    values = config.model_dump(mode="json")
    other = OTHER_AMOUNT.get(axis.key)
    meant = []
    for value in axis.values:
        texts = (*([f"{other}=null"] if other else []), f"{axis.key}={json.dumps(value)}")
        try:
            taken: Any = parse_config(values, texts, origin=f"--over {axis.key}").model_dump(mode="json")
        except ConfigError:
            # It may go with what another axis sets; if not, the cell's own config says what is wrong.
            return axis
        for name in axis.key.split("."):
            taken = taken[name]
        meant.append(taken)
    if len({json.dumps(value, sort_keys=True) for value in meant}) != len(meant):
        raise ConfigError(f"--over {axis.key}={','.join(map(in_names, axis.values))}: a value comes twice")
    return Axis(axis.key, tuple(map(_plainest, axis.values, meant)))


def _plainest(written: Any, meant: Any) -> Any:
    """Return a value as short as it can be written: a whole number without a point, one of a list without a list."""
    if isinstance(written, dict):
        return written
    if isinstance(meant, float) and meant.is_integer():
        return int(meant)
    if isinstance(meant, list):
        alone = len(meant) == 1 and not isinstance(written, list)
        return meant[0] if alone else written
    return meant


def _check_recipes(axis: Axis, arms: Sequence[ArmConfig]) -> None:
    """Refuse a recipe that the named arms would leave out without a word."""
    for value in axis.values:
        for recipe in value if isinstance(value, list) else [value]:
            if short_name(recipe) not in [name for arm in arms for name in arm.recipes]:
                named = ", ".join(f"{arm.name} ({', '.join(arm.recipes) or 'real images'})" for arm in arms)
                raise ConfigError(
                    f"--over {axis.key}: no arm trains on {recipe!r}; training.arms has {named}: add one, or leave "
                    "training.arms out"
                )


def setting_at(config: RunConfig, key: str) -> Setting:
    """Return what a key says of itself; what is no key is refused where a cell's config is made."""
    return find_setting(config, tuple(key.split("."))) or NOTHING


def in_names(value: Any) -> str:
    """Return a value as it stands in names and tables."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
