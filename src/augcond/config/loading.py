"""From a YAML file and `key=value` texts to a config; every wrong key is named, with what is allowed."""

from __future__ import annotations

import copy
import difflib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from augcond import registry
from augcond.config.base import PathKind, Section, WrongSection, sections_in, setting_of, with_neutral
from augcond.config.generation import GeneratorConfig
from augcond.config.moved import brought_up_to_date
from augcond.config.protocols import with_protocol
from augcond.config.reading import read_yaml
from augcond.config.run import RunConfig
from augcond.errors import ConfigError, CorruptRunError, RunError
from augcond.files import is_special

logger = logging.getLogger(__name__)

_MOST_BYTES = 2**24
_MOST_VALUES = 10**5
_WITH_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,2}")
_WHOLE, _NUMBER, _LIST = "expected a whole number", "expected a number", "expected a list"
_EXPECTED: Final = {
    **dict.fromkeys(("int_parsing", "int_from_float", "int_type"), _WHOLE),
    **dict.fromkeys(("float_parsing", "float_type"), _NUMBER),
    **dict.fromkeys(("bool_parsing", "bool_type"), "expected true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), _LIST),
    **dict.fromkeys(("dict_type", "model_type"), "expected a mapping"),
    "string_type": "expected a text",
}
"""Our words for what pydantic finds, by its type."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

MEND_CONFIG = "mend it there, or have augcond generate CONFIG write it anew"

FORMAT = 2
"""Of the config that a run keeps; goes up where an older augcond would misread it. Configs of 0.1 have none."""


def load_config(path: Path | str, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a YAML config and apply `key=value` overrides, dotted keys, YAML values.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; all wrong keys are listed.
    """
    path = Path(path)
    try:
        values = _read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}: expected a YAML config, or a run folder") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}; mend it there") from error
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
    values = copy.deepcopy(values)
    # A config that a run kept may serve as one of one's own.
    _check_format(values.pop("format", 1), origin)
    values = brought_up_to_date(values, aloud=True)
    return _validated(_absolute_paths(values, base or Path.cwd()), overrides, origin)


def load_kept_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Return the config that a run keeps at `path`, RUN/config.yaml, for the run that lies there now.

    The run may have been moved or copied since, alone or with what its paths lead to: a path is looked for first where
    it lies as seen from the run, then where it was.

    Args:
        path: the file.
        overrides: see `parse_config`.

    Raises:
        RunError: there is no run, or one of a newer augcond.
        CorruptRunError: the file is not what augcond wrote.
        ConfigError: an override is wrong.
    """
    # A run may be a stranger's: what it names is imported, but nothing that came with it.
    registry.import_nothing_from(path.parent)
    try:
        values = _read_yaml(path)
    except FileNotFoundError:
        raise RunError(f"{path.parent} is no run: it has no {path.name} (augcond generate CONFIG makes it)") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CorruptRunError(f"{path} cannot be read: {error}; {MEND_CONFIG}") from error
    if not isinstance(values, dict) or not isinstance(values.get("run"), str):
        raise CorruptRunError(f"{path} was not written by augcond: it does not say where its run was; {MEND_CONFIG}")
    _check_format(values.pop("format", 1), str(path))
    values = with_neutral(RunConfig, brought_up_to_date(values, aloud=False))
    here = path.parent.resolve()
    before = Path(values.pop("run"))
    values = _found_again(values, before, here) | {"run": here}
    return _validated(_absolute_paths(values, here), overrides, str(path))


def _read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, of a size that is no attack.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError: it is no YAML, or holds more than any config.
    """
    if is_special(path):
        raise yaml.YAMLError("it is no file")
    if path.stat().st_size > _MOST_BYTES:
        raise yaml.YAMLError(f"it has more than {_MOST_BYTES:,} bytes")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
        if _count(values, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases (*name) stand for more than {_MOST_VALUES:,} values")
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    return values


def _count(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are in `value`, each as often as it is referred to."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # what holds itself has no end
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(each, known) for each in inner)
    return known[id(value)]


def kept_text(config: RunConfig) -> str:
    """Return the text of RUN/config.yaml."""
    values = {"format": FORMAT, **config.model_dump(mode="json")}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _check_format(found: Any, origin: str) -> None:
    if not isinstance(found, int) or found > FORMAT:
        raise RunError(
            f"{origin} is of format {found!r}, which a newer augcond wrote (this one reads up to {FORMAT}): "
            "update augcond"
        )


def _validated(values: dict[str, Any], overrides: tuple[str, ...], origin: str) -> RunConfig:
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r}: expected key=value, such as generator.steps=20")
        _set(values, key.strip().split("."), _yaml_value(override, text))
    if any(override.partition("=")[0].strip() == "generator.name" for override in overrides):
        _leave_own_behind(values, overrides)
    values = brought_up_to_date(values, aloud=True)
    values = with_protocol(_absolute_paths(values, Path.cwd()))
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}:\n" + "\n".join(_explain(error))) from None


def _leave_own_behind(values: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Leave out the own settings of the family that --set generator.name=... replaces by another."""
    family = GeneratorConfig.inner("own", values["generator"])
    own = values["generator"].get("own")
    if family is None or not isinstance(own, dict):
        return
    said = {override.partition("=")[0].strip() for override in overrides}
    others = [key for key in own if key not in family.model_fields and f"generator.own.{key}" not in said]
    for key in others if "generator.own" not in said else ():
        logger.warning("generator.own.%s belongs to another generator: left out", key)
        del own[key]


def _yaml_value(override: str, text: str) -> Any:
    try:
        return read_yaml(text)
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
    for found in _paths_in(RunConfig, values):
        relative = os.path.relpath(found.path, base)
        # A model without a leading dot would be a hub id.
        found.replace(relative if relative.startswith(".") else f"./{relative}")
    return values


def paths_in(config: RunConfig) -> list[tuple[str, Path]]:
    """Return every path of a config, by the full name of its key."""
    return [(found.name, found.path) for found in _paths_in(RunConfig, config.model_dump())]


def _absolute_paths(values: dict[str, Any], base: Path) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for found in _paths_in(RunConfig, values):
        refuse_url(found.section[found.name.rpartition(".")[2]], found.name)
        path = base / found.path.expanduser()
        # What may be a hub id too stays a text.
        found.replace(path if found.kind == "path" else str(path.resolve()))
    return values


def refuse_url(path: str | Path, what: str) -> None:
    """Refuse what is no path on this machine but an address, which would be made as a folder called `s3:`.

    Raises:
        ConfigError: naming `what`, and how to get it here.
    """
    match = _URL.match(str(path))
    if match is not None:
        raise ConfigError(
            f"{what}: {str(path)!r} is an address, and only folders and files of this machine are read and written: "
            "mount it (rclone mount, mount-s3, gcsfuse), or download it first (aws s3 sync, gsutil rsync, wget)"
        )


def _found_again(values: dict[str, Any], before: Path, here: Path) -> dict[str, Any]:
    """Return `values` with the paths that lie as they did, seen from a run that was at `before` and is `here` now."""
    values = copy.deepcopy(values)
    if before == here:
        return values
    for found in _paths_in(RunConfig, values):
        moved = Path(os.path.normpath(here / os.path.relpath(found.path, before)))
        if moved != found.path and moved.exists():
            logger.warning("%s has moved with the run: %s, not %s", found.name, moved, found.path)
            found.replace(str(moved))
    return values


@dataclass(frozen=True, slots=True)
class _FoundPath:
    """A path among nested values: its full name, its kind, and where it stands."""

    name: str
    kind: PathKind
    section: dict[str, Any]

    @property
    def path(self) -> Path:
        return Path(self.section[self.name.rpartition(".")[2]])

    def replace(self, value: Path | str) -> None:
        self.section[self.name.rpartition(".")[2]] = value


def _paths_in(section: type[Section], values: Any, prefix: str = "") -> Iterator[_FoundPath]:
    """Yield every path in the nested `values` of `section`, which may hold anything."""
    for key in section.model_fields if isinstance(values, dict) else ():
        value, kind = values.get(key), setting_of(section, key).path
        if kind is not None and _is_path(kind, value):
            yield _FoundPath(prefix + key, kind, values)
        inner = section.inner(key, values)
        for entry in value if isinstance(value, list | tuple) else [value]:
            if inner is not None:
                yield from _paths_in(inner, entry, f"{prefix}{key}.")


def _is_path(kind: PathKind, value: Any) -> bool:
    if kind == "checkpoint":
        return isinstance(value, str) and value.startswith((".", "~", "/"))
    return isinstance(value, str | Path) and (kind, value) != ("weights", "hub")


def _explain(error: ValidationError) -> list[str]:
    messages: dict[str, list[str]] = {}
    for key, message in _problems(error, RunConfig):
        messages.setdefault(key or "config", []).append(message)
    return [f"  {key}: {'; or '.join(dict.fromkeys(texts))}" for key, texts in messages.items()]


def _problems(error: ValidationError, root: type[Section]) -> Iterator[tuple[str, str]]:
    """Yield the key below `root`, and the message, of everything that is wrong."""
    keys = set(_keys_of(root))
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # what it would depend on is wrong, and told
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
            to_do = "" if near else ": remove or rename it"
            yield ".".join(map(str, location)), f"unknown key{hint} (allowed: {', '.join(allowed) or 'none'}){to_do}"
        else:
            message = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "missing":
                message += f" (got {_shorten(problem['input'])}{_meant(problem['input'])})"
            if problem["type"] in ("string_type", "path_type", "literal_error", "tuple_type") and isinstance(
                problem["input"], bool | int
            ):
                message += "; if a text is meant, quote it"
            yield key, message


def _meant(value: Any) -> str:
    """Return a hint for a whole number that YAML takes for a text, such as 1e3."""
    if isinstance(value, str) and _WITH_EXPONENT.fullmatch(value.strip()) and float(value).is_integer():
        return f", which YAML reads as a text: write {int(float(value))}"
    return ""


def _section_at(section: type[Section], location: tuple[str, ...]) -> type[Section]:
    for key in location:
        field = section.model_fields.get(key)
        section = next(iter(sections_in(field.annotation)), section) if field else section
    return section


def _keys_of(section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        for child in sections_in(field.annotation):
            yield from _keys_of(child)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
