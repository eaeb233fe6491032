"""Generators by name, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from augcond.config import GeneratorConfig
    from augcond.generators.base import Generator

_TARGETS: dict[str, str] = {
    "fake": "augcond.testing:load_fake_generator",
    "ip-adapter": "augcond.generators.ip_adapter:load_ip_adapter",
    "ip-adapter-xl": "augcond.generators.ip_adapter_xl:load_ip_adapter_xl",
    "kandinsky-2.2": "augcond.generators.kandinsky:load_kandinsky",
    "stable-diffusion": "augcond.generators.stable_diffusion:load_stable_diffusion",
    "stable-unclip": "augcond.generators.stable_unclip:load_stable_unclip",
}


def register_generator(name: str, target: str) -> None:
    """Make a generator of your own known under `name`.

    Args:
        name: what configs call it, as `generator.name`.
        target: `module:object` of a callable that takes a `GeneratorConfig` and returns a `Generator`;
            imported on first use.

    Raises:
        ConfigError: the name is taken by another target, or `target` is not `module:object`.
    """
    module, separator, attribute = target.partition(":")
    if not (module and separator and attribute):
        raise ConfigError(f"generator {name!r}: target {target!r} must read module:object")
    known = _TARGETS.setdefault(name, target)
    if known != target:
        raise ConfigError(f"generator {name!r} is already registered as {known}; choose another name than for {target}")


def generator_names() -> tuple[str, ...]:
    """Return the names of all registered generators, sorted."""
    return tuple(sorted(_TARGETS))


def target_of(name: str) -> str:
    """Return the `module:object` that a generator's name stands for; it is not imported.

    Raises:
        ConfigError: no generator has this name.
    """
    if name not in _TARGETS:
        near = difflib.get_close_matches(name, _TARGETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"generator.name: no generator {name!r}; {hint}known: {', '.join(generator_names())}")
    return _TARGETS[name]


def load_generator(config: GeneratorConfig) -> Generator:
    """Load the generator that `config.name` stands for, with its weights on their device.

    Raises:
        ConfigError: no generator has this name, or it cannot do what the config asks for.
        GeneratorError: its weights cannot be loaded.
    """
    module, _, attribute = target_of(config.name).partition(":")
    generator: Generator = getattr(importlib.import_module(module), attribute)(config)
    return generator
