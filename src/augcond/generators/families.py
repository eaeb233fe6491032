"""Families of generators by name, and which recipes go with them: what does not is refused, never ignored."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from augcond import registry
from augcond.conditioning import RECIPES, recipes_of
from augcond.errors import AugcondError, ConfigError, GeneratorError
from augcond.generators.base import Family
from augcond.generators.checked import check_declared
from augcond.generators.compiling import compilation_pays
from augcond.generators.devices import check_memory
from augcond.guest import as_guest

if TYPE_CHECKING:
    from augcond.conditioning import Recipe
    from augcond.config import ConditioningConfig, GeneratorConfig
    from augcond.generators.base import Generator, Input, Option, Traits

logger = logging.getLogger(__name__)

INPUT_WORDS: dict[Input, str] = {
    "text": "a prompt alone",
    "image": "image embeddings",
    "reference-image": "reference images",
    "initial-image": "an initial image",
}
"""What recipes condition a generator by, in words."""


def register_generator(name: str, target: str) -> None:
    """Make a family of generators of your own known under `name`.

    Args:
        name: what configs call it, as `generator.name`.
        target: `module:object` of a `Family`, or of a callable that takes a `GeneratorConfig` and returns a
            `Generator`; imported on first use.

    Raises:
        ConfigError: the name is taken by another target, or `target` is not `module:object`.
    """
    registry.generators.register(name, target)


def generator_names() -> tuple[str, ...]:
    """Return the names of all families, sorted: augcond's, registered ones, and those of installed packages."""
    return tuple(sorted(registry.generators.names()))


def find_family(name: str) -> Family:
    """Return the family that `generator.name` names.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    found = registry.generators.load(name)
    if isinstance(found, Family):
        return found
    if not callable(found):
        raise ConfigError(f"generator.name: {name!r} is neither a Family nor a callable that loads a generator")
    return Family(load=found)


def weights_licence(config: GeneratorConfig) -> str:
    """Return the licence of the weights that `config` names, as far as the family says; empty where it does not.

    Raises:
        ConfigError: there is no such family, or it cannot be imported.
    """
    family = find_family(config.name)
    usual = config.model in ("builtin", family.model, "")
    return family.licence if usual or not family.licence else f"{family.licence} ({_OF_OTHERS})"


_OF_OTHERS = "of the family's usual weights; yours may have another"


@as_guest
def load_generator(config: GeneratorConfig, *, images: int | None = None) -> Generator:
    """Load the generator that `config.name` stands for, with its weights on their device.

    Args:
        config: which generator, and how it samples.
        images: how many it is to make, by which `compile: auto` decides; None where that is not known.

    Raises:
        ConfigError: no generator has this name, or it cannot do what the config asks for.
        GeneratorError: its weights cannot be loaded, or what is loaded is no generator.
    """
    check_options(config)
    check_memory(config)
    if config.compile == "auto":
        pays = config.memory is None and compilation_pays(config, images)
        config = config.model_copy(update={"compile": pays})
    family = find_family(config.name)
    try:
        loaded = family.load(config)
    except (AugcondError, OSError):
        raise
    except Exception as error:  # one of one's own raises what it likes
        logger.info("generator.name: %s", config.name, exc_info=error)
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise GeneratorError(f"generator.name: {config.name!r} cannot be loaded: {said}") from error
    return check_declared(loaded, config.name)


def toy_warning(config: GeneratorConfig, source: str) -> str | None:
    """Return why the images of a run would be of no use: a toy is to draw real photos; None where it is not.

    Args:
        config: names the generator.
        source: of the real images, as `data.source`.

    Raises:
        ConfigError: there is no such family.
    """
    family = find_family(config.name)
    if config.model != "builtin" or source == "builtin" or not family.weights(config):
        return None
    return (
        "builtin is a toy that can draw the small garments of its own world and nothing else, whatever the photos "
        f"show: name a pretrained checkpoint{f', such as {family.model}' if family.model else ''} (augcond generators "
        "lists them)"
    )


def recipes_for(name: str) -> tuple[str, ...]:
    """Return those of augcond's recipes that the family `name` takes; all where only a loaded generator tells.

    Raises:
        ConfigError: there is no such family.
    """
    inputs = find_family(name).inputs
    return tuple(recipe.name for recipe in RECIPES.values() if inputs is None or not inputs.isdisjoint(_inputs(recipe)))


@dataclass(frozen=True, slots=True)
class GeneratorEntry:
    """What `augcond generators` says of a family.

    Attributes:
        name: as `generator.name`.
        model: the usual hub id; empty where there are no weights, or the family does not say.
        licence: of those weights.
        commercial: whether it allows commercial use.
        weights_gb: gigabytes of all networks at two bytes a number; None where that is not known.
        embedding: what an image embedding is.
        inputs: what it can be conditioned by; None where only the loaded generator tells.
        recipes: those of augcond's recipes that it takes.
        settings: keys of `generator.own`.
        options: the keys of `generator` that only some families know, and it does.
        notes: what is particular about it.
        error: why it cannot be used; empty where it can.
    """

    name: str
    model: str = ""
    licence: str = ""
    commercial: bool = True
    weights_gb: float | None = None
    embedding: str = ""
    inputs: tuple[Input, ...] | None = None
    recipes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    notes: str = ""
    error: str = ""


def generator_entries() -> list[GeneratorEntry]:
    """Return one entry per family, sorted by name; a broken one of an installed package is one with an error."""
    return [_generator_entry(name) for name in generator_names()]


def _generator_entry(name: str) -> GeneratorEntry:
    try:
        family = find_family(name)
    except AugcondError as error:
        return GeneratorEntry(name, error=str(error))
    return GeneratorEntry(
        name=name,
        model=family.model,
        licence=family.licence,
        commercial=family.commercial,
        weights_gb=family.weights_gb,
        embedding=family.embedding,
        inputs=None if family.inputs is None else tuple(sorted(family.inputs)),
        recipes=recipes_for(name),
        settings=tuple(family.settings.model_fields),
        options=tuple(sorted(family.options)),
        notes=family.notes,
    )


_OPTION_WORDS: dict[Option, str] = {
    "cache": "no cache",
    "lora": "no LoRA",
    "memory": "no offloading",
    "vae": "no other autoencoder",
    "away_from": "no image to lead away from",
}


def check_options(config: GeneratorConfig) -> None:
    """Check that the generator knows every key that is set of those that only some families know.

    Raises:
        ConfigError: it does not.
    """
    known = find_family(config.name).options
    for option, words in _OPTION_WORDS.items():
        if getattr(config, option) and option not in known:
            raise ConfigError(f"generator.{option}: {config.name} takes {words}; leave it out")
    if config.memory == "offload" and (config.compile is True or config.cache is not None):
        key = "compile" if config.compile is True else "cache"
        raise ConfigError(f"generator.memory: offload does not go with generator.{key}: leave one of them out")


def check_recipes(config: GeneratorConfig, conditioning: ConditioningConfig, traits: Traits | None = None) -> None:
    """Check that the generator can be conditioned by every recipe of the run; before it is loaded, if its family tells.

    Args:
        config: names the generator, and how many steps it does.
        conditioning: names the recipes.
        traits: of the loaded generator, where there is one.

    Raises:
        ConfigError: a recipe needs an input that the generator does not take, or leaves no step to do.
    """
    recipes = recipes_of(conditioning)
    if any(recipe.initial for recipe in recipes) and int(config.steps * conditioning.strength) < 1:
        raise ConfigError(
            f"conditioning.strength: {conditioning.strength:g} of {config.steps} steps leaves none to do; raise it, or "
            "generator.steps"
        )
    if config.away_from is not None:
        led = [recipe.name for recipe in recipes if recipe.initial]
        if led or all(recipe.source_count(conditioning) == 0 for recipe in recipes):
            raise ConfigError(
                f"generator.away_from: {', '.join(led or conditioning.recipe_names)} is conditioned by no image "
                "embedding: leave it out, or give that recipe a run of its own"
            )
    inputs = find_family(config.name).inputs if traits is None else traits.inputs
    if inputs is None:
        return
    wrong = [recipe for recipe in recipes if inputs.isdisjoint(_inputs(recipe))]
    if wrong:
        needs = dict.fromkeys(INPUT_WORDS[_inputs(recipe)[0]] for recipe in wrong)
        taken = [recipe.name for recipe in RECIPES.values() if not inputs.isdisjoint(_inputs(recipe))]
        raise ConfigError(
            f"conditioning.recipe: {config.name} does not take {' or '.join(needs)}, which "
            f"{', '.join(recipe.name for recipe in wrong)} would condition it by; it takes {', '.join(taken)}"
        )
    if conditioning.rescale and "reference-image" in inputs and any(recipe.dropout for recipe in recipes):
        raise ConfigError(
            f"conditioning.rescale: {config.name} does not see the tokens of a reference image that are dropped, so "
            "there is nothing to make up for; leave it out"
        )


def _inputs(recipe: Recipe) -> tuple[Input, ...]:
    """Return what a recipe can condition a generator by; one of them is enough."""
    if recipe.initial:
        return ("initial-image",)
    if recipe.embeddings == "pair":
        return ("reference-image",)
    return ("image", "reference-image") if recipe.with_image else ("text",)
