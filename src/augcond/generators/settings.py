"""What of a config a generator can do: settings and recipes that do not apply to it are refused, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from augcond.conditioning import RECIPES
from augcond.errors import ConfigError
from augcond.generators.catalog import CATALOG

if TYPE_CHECKING:
    from augcond.conditioning import Recipe
    from augcond.config import ConditioningConfig, GeneratorConfig
    from augcond.generators.base import Generator
    from augcond.generators.catalog import Input

INPUT_WORDS = {
    "text": "a prompt alone",
    "image": "image embeddings",
    "initial-image": "an initial image",
}
"""What recipes condition a generator by, in words."""


def refuse_settings(config: GeneratorConfig, *names: str) -> None:
    """Check that the keys of `generator:` that this generator has no use for are left at their defaults.

    Raises:
        ConfigError: one of them is set.
    """
    for name in names:
        value = getattr(config, name)
        if value != type(config).model_fields[name].default:
            raise ConfigError(f"generator.{name}: {value!r} does not apply to {config.name}; leave it out")


def recipes_for(name: str) -> tuple[str, ...]:
    """Return the recipes that the generator called `name` can be conditioned by; all where it is not ours."""
    known = CATALOG.get(name)
    return tuple(recipe.name for recipe in RECIPES.values() if known is None or _input_of(recipe) in known.inputs)


def check_recipes(
    config: GeneratorConfig, conditioning: ConditioningConfig, generator: Generator | None = None
) -> None:
    """Check that the generator can be conditioned by every recipe of the run; before it is loaded, if it is ours.

    Args:
        config: names the generator, and how many steps it does.
        conditioning: names the recipes.
        generator: the loaded generator, where there is one.

    Raises:
        ConfigError: a recipe needs an input that the generator does not take, or leaves no step to do.
    """
    recipes = [RECIPES[name] for name in conditioning.recipe]
    if any(recipe.initial for recipe in recipes) and int(config.steps * conditioning.strength) < 1:
        raise ConfigError(
            f"conditioning.strength: {conditioning.strength:g} of {config.steps} steps leaves none to do; raise it, or "
            "generator.steps"
        )
    known = CATALOG.get(config.name)
    inputs = generator.inputs if generator is not None else known.inputs if known else None
    if inputs is None:
        return
    wrong = [recipe for recipe in recipes if _input_of(recipe) not in inputs]
    if wrong:
        needs = dict.fromkeys(INPUT_WORDS[_input_of(recipe)] for recipe in wrong)
        taken = [recipe.name for recipe in RECIPES.values() if _input_of(recipe) in inputs]
        raise ConfigError(
            f"conditioning.recipe: {config.name} does not take {' or '.join(needs)}, which "
            f"{', '.join(recipe.name for recipe in wrong)} would condition it by; it takes {', '.join(taken)}"
        )


def _input_of(recipe: Recipe) -> Input:
    if recipe.initial:
        return "initial-image"
    return "image" if recipe.with_image else "text"
