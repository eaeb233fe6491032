"""From a YAML file and `key=value` texts to a config; every wrong key is named, with what is allowed."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from augcond.config.base import WrongSection
from augcond.config.protocols import with_protocol
from augcond.config.run import RunConfig
from augcond.errors import ConfigError

_PATH_KEYS = (
    *(("data", "path"), ("data", "validation"), ("data", "test"), ("data", "class_names"), ("run",)),
    *(("generator", "model"), ("generator", "own", "adapter", "model"), ("generator", "own", "prior", "model")),
    ("training", "weights"),
)
"""Every key that holds a path, or may: a model can also be `builtin` or a hub id, weights can be `hub`."""


def load_config(path: Path | str, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a YAML config and apply `key=value` overrides, dotted keys, YAML values.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; all wrong keys are listed.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys such as `data:` and `run:`")
    return parse_config(values, overrides, base=path.parent, origin=str(path))


def parse_config(
    values: dict[str, Any], overrides: tuple[str, ...] = (), *, base: Path | None = None, origin: str = "config"
) -> RunConfig:
    """Return the config that nested `values` and `overrides` stand for.

    Args:
        values: nested keys as in the YAML file; not changed.
        overrides: `dotted.key=value` texts; values are YAML. Paths in them are relative to the working directory.
        base: the folder that relative paths of `values` are relative to; the working directory where None.
        origin: how error messages call the config.

    Raises:
        ConfigError: a key or value is wrong; all wrong keys are listed.
    """
    values = _absolute_paths(values, base or Path.cwd())
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r}: expected key=value, such as generator.steps=20")
        _set(values, key.strip().split("."), _yaml_value(override, text))
    values = _absolute_paths(values, Path.cwd())
    values = with_protocol(values)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}:\n" + "\n".join(_explain(error))) from None


def _yaml_value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = values.get(key)
        values[key] = dict(child) if isinstance(child, dict) else {}
        values = values[key]
    values[keys[-1]] = value


def relative_paths(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return the nested plain `values` of a config with the paths in them relative to the folder `base`."""
    values = copy.deepcopy(values)
    for section, key in _paths_in(values):
        relative = os.path.relpath(section[key], base)
        # A model without a leading dot would be a hub id.
        section[key] = relative if relative.startswith(".") else f"./{relative}"
    return values


def _absolute_paths(values: dict[str, Any], base: Path) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for section, key in _paths_in(values):
        path = base / Path(section[key]).expanduser()
        section[key] = str(path.resolve()) if key in ("model", "weights") else path
    return values


def _paths_in(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the section and the key of every path in nested `values`, which may hold anything."""
    for *parents, key in _PATH_KEYS:
        section: Any = values
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and _is_path(key, section.get(key)):
            yield section, key


def _is_path(key: str, value: Any) -> bool:
    if key == "model":
        return isinstance(value, str) and value.startswith((".", "~", "/"))
    return isinstance(value, str | Path) and (key, value) != ("weights", "hub")


def _explain(error: ValidationError) -> list[str]:
    messages: dict[str, list[str]] = {}
    for key, message in _problems(error, RunConfig):
        messages.setdefault(key or "config", []).append(message)
    return [f"  {key}: {'; or '.join(dict.fromkeys(texts))}" for key, texts in messages.items()]


def _problems(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the key below `root`, and the message, of everything that is wrong."""
    keys = set(_keys_of(root))
    for problem in error.errors():
        location = problem["loc"]
        # Unions add the tried type to the location; only keys that a user could write are shown.
        key = ".".join(str(part) for part in location if part in keys)
        inside = problem.get("ctx", {}).get("error")
        if isinstance(inside, WrongSection):
            for inner, message in _problems(inside.error, inside.section):
                yield ".".join(filter(None, (key, inner))), message
        elif problem["type"] == "extra_forbidden":
            allowed = sorted(_section_at(root, tuple(map(str, location[:-1]))).model_fields)
            near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield ".".join(map(str, location)), f"unknown key{hint} (allowed: {', '.join(allowed) or 'none'})"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "missing":
                message += f" (got {_shorten(problem['input'])})"
            yield key, message


def _section_at(section: type[BaseModel], location: tuple[str, ...]) -> type[BaseModel]:
    for key in location:
        field = section.model_fields.get(key)
        section = next(iter(_sections_in(field.annotation)), section) if field else section
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type such as `SplitConfig | None` may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def _keys_of(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        for child in _sections_in(field.annotation):
            yield from _keys_of(child)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
