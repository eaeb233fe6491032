"""Keys of 0.1 that have moved: one table, by which old configs are read and fingerprints stay what they were."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from augcond.config.generation import GeneratorConfig
from augcond.errors import ConfigError

logger = logging.getLogger(__name__)

_NEVER: Final = object()


@dataclass(frozen=True, slots=True)
class Moved:
    """A key of `generator:` that is one of a family's own settings now.

    Attributes:
        key: its name, in both places.
        unused: what 0.1 wrote where it was not set or did not apply.
        understood: what 0.1 took `unused` for where it did apply, as far as it counts; pinned here, so that a later
            default of the family passes for nothing that it was not.
    """

    key: str
    unused: Any
    understood: Any = _NEVER


MOVED: tuple[Moved, ...] = (
    Moved("negative_prompt", ""),
    Moved("noise_level", 0),
    Moved("published_dropout", False),
    Moved("adapter", None, {"weights": None, "image_encoder": None, "scale": 1.0}),
    Moved("prior", None, {}),
)


def brought_up_to_date(values: dict[str, Any], *, aloud: bool) -> dict[str, Any]:
    """Return the nested plain `values` of a config with keys that have moved in their places of today.

    Args:
        values: of a config of any version, which may hold anything; not changed.
        aloud: say where a key is now, as to somebody who wrote it.

    Raises:
        ConfigError: a key is set that does not apply to the config's generator.
    """
    generator = values.get("generator")
    if (
        "own" not in GeneratorConfig.model_fields
        or not isinstance(generator, Mapping)
        or not generator.keys() & {moved.key for moved in MOVED}
    ):
        return values
    found = dict(generator)
    family = GeneratorConfig.inner("own", found)
    own = dict(found.get("own") or {})
    for moved in MOVED:
        value = found.pop(moved.key, moved.unused)
        if value == moved.unused:
            continue
        if family is None or moved.key not in family.model_fields:
            name = found.get("name", GeneratorConfig.model_fields["name"].default)
            raise ConfigError(f"generator.{moved.key}: {value!r} does not apply to {name}; leave it out")
        if aloud:
            logger.warning("generator.%s is called generator.own.%s now", moved.key, moved.key)
        own.setdefault(moved.key, value)
    return {**values, "generator": {**found, "own": own} if own else found}


def called_today(difference: str) -> str:
    """Return a line on settings as 0.1 named them with the name of today."""
    key = difference.removeprefix("generator.").partition(":")[0].partition(".")[0]
    moved = difference.startswith("generator.") and key in {moved.key for moved in MOVED}
    return difference.replace("generator.", "generator.own.", 1) if moved else difference


def as_of_0_1(generator: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of `generator:` with its keys where 0.1 had them, and what 0.1 left unset unset.

    Args:
        generator: nested plain values in the places of today, or of 0.1.
    """
    found = dict(generator)
    own = dict(found.pop("own", {}))
    for moved in MOVED:
        value = own.pop(moved.key, found.get(moved.key, moved.unused))
        found[moved.key] = moved.unused if value == moved.understood else value
    return {**found, "own": own} if own else found
