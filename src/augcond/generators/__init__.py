"""Pretrained image generators behind one interface; importing this package imports no PyTorch."""

from augcond.generators.base import Family, Generated, Generator, GeneratorIdentity, NeededWeights, Rates, own_settings
from augcond.generators.families import (
    check_options,
    check_recipes,
    find_family,
    generator_names,
    load_generator,
    recipes_for,
    register_generator,
    toy_warning,
)

__all__ = [
    "Family",
    "Generated",
    "Generator",
    "GeneratorIdentity",
    "NeededWeights",
    "Rates",
    "check_options",
    "check_recipes",
    "find_family",
    "generator_names",
    "load_generator",
    "own_settings",
    "recipes_for",
    "register_generator",
    "toy_warning",
]
