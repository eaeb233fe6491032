"""What editors complete configs from: a JSON schema of every key, and of the settings of every family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from augcond import registry
from augcond.config.base import OneOrMore, Section, sections_in, setting_of
from augcond.config.run import RunConfig
from augcond.config.training import TrainingConfig
from augcond.registry import Registry

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NAMED: Final[dict[tuple[str, str], Registry]] = {
    ("GeneratorConfig", "name"): registry.generators,
    ("ConditioningConfig", "recipe"): registry.recipes,
    ("DataConfig", "source"): registry.datasets,
    ("EngineConfig", "name"): registry.engines,
}
"""Keys that hold a name, or `module:object`, and where the names are."""


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a config, as it is written in YAML; `augcond schema` prints it.

    It allows what `load_config` does, but for what only several keys together tell; names that a script registers are
    none of it.
    """
    schema = RunConfig.model_json_schema()
    kinds = schema["$defs"] | {"RunConfig": schema}
    for section in _sections(RunConfig):
        about = kinds[section.__name__]
        about["description"] = section.purpose
        for key, field in section.model_fields.items():
            found = about["properties"][key]
            if (names := _NAMED.get((section.__name__, key))) is not None:
                found = _or_items(found, _names(names))
            if OneOrMore in field.metadata:
                found = {"anyOf": [_bare(found), _bare(found)["items"]]} | _said(found)
            about["properties"][key] = found
    kinds["ArmConfig"]["properties"]["overrides"] |= {
        "properties": {
            key: value
            for key, value in kinds["TrainingConfig"]["properties"].items()
            if not setting_of(TrainingConfig, key).alike
        },
        "additionalProperties": False,
    }
    generator = kinds["GeneratorConfig"]
    generator["properties"]["own"] = {"type": "object"} | _said(generator["properties"]["own"])
    generator["allOf"] = list(_families(schema["$defs"]))
    # A config that a run kept may serve as one of one's own.
    schema["properties"]["format"] = {"type": "integer", "description": "Of configs that runs keep."}
    return {"$schema": _DIALECT, **schema}


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        for inner in sections_in(field.annotation):
            if inner is not Section:
                yield from _sections(inner)


def _names(names: Registry) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(names.names())}, {"type": "string", "pattern": ":"}]}


def _or_items(found: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Return `found`, a text or texts, with `names` in place of any text."""
    return found | {"items": names} if found["type"] == "array" else names | _said(found)


def _said(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("title", "description", "default") if key in found}


def _bare(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in _said(found)}


def _families(kinds: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what `generator.own` holds by the family that `generator.name` names; the default where it names none."""
    for name in registry.generators.names():
        settings = getattr(registry.generators.load(name), "settings", Section)
        own = settings.model_json_schema()
        kinds |= own.pop("$defs", {})
        for inner in _sections(settings):
            (own if inner is settings else kinds[inner.__name__])["description"] = inner.purpose
        named: dict[str, Any] = {"properties": {"name": {"const": name}}}
        if name != RunConfig.model_fields["generator"].get_default(call_default_factory=True).name:
            named["required"] = ["name"]
        yield {"if": named, "then": {"properties": {"own": own}}}
