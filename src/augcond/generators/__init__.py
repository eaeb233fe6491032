"""Pretrained image generators behind one interface."""

from augcond.generators.base import Generated, Generator, GeneratorIdentity
from augcond.generators.registry import generator_names, load_generator, register_generator

__all__ = ["Generated", "Generator", "GeneratorIdentity", "generator_names", "load_generator", "register_generator"]
