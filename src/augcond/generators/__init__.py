"""Pretrained image generators behind one interface."""

from augcond.generators.base import Generated, Generator, GeneratorIdentity
from augcond.generators.registry import generator_names, load_generator, register_generator
from augcond.generators.settings import check_recipes, recipes_for

__all__ = [
    "Generated",
    "Generator",
    "GeneratorIdentity",
    "check_recipes",
    "generator_names",
    "load_generator",
    "recipes_for",
    "register_generator",
]
