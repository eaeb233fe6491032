"""What every section of a config shares, and what each key says of itself beside its type.

A key says what it *decides*, where it is declared: its section says it for all its keys (`class X(Section,
decides="images")`), a key that differs carries a `Setting` in its annotation. Fingerprints, comparisons of runs, paths,
and what arms and sweeps may set are all derived from that; nothing lists keys again.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from augcond.errors import AugcondError
from augcond.registry import Registry

Decides = Literal["real", "images", "kept", "models", "judgement", "nothing"]
"""What a key defines, in the order of the map: the real images (and the split), the generated images, which of these
screening keeps, the models, how models are judged; each decides what comes after it, too. `nothing`: how something is
computed."""

PathKind = Literal["path", "checkpoint", "weights"]
"""How a text leads to files: `path` always does, `checkpoint` where it starts with `.`, `~` or `/` (else it is
`builtin` or a hub id), `weights` unless it is `hub`."""


class _Absent:
    def __repr__(self) -> str:
        return "no neutral value"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a key says of itself.

    Attributes:
        decides: what it defines; None where its section says it.
        by: what of it is part of the fingerprint of what it defines: its `value`; the `contents` that a path or a name
            leads to, in its place; or nothing in common, because it says which there are: `each` counts by itself (a
            row of a plan by its sources, seed and prompt, a model by its seed).
        neutral: of a key added after 0.1 to a section that had been there: the value that means "as before this key".
            Only that is left out of fingerprints, and a run's own config that lacks the key is read as having it. Never
            change it afterwards: every run on disk relies on it. `ABSENT` for keys of 0.1, which always count.
        path: whether it leads to files, and how.
        alike: whether every arm has it alike, because arms compare at equal budgets.
        swept: whether a sweep may vary it; False for what it sets itself.
    """

    decides: Decides | None = None
    by: Literal["value", "contents", "each"] = "value"
    neutral: Any = ABSENT
    path: PathKind | None = None
    alike: bool = False
    swept: bool = True


NOTHING = Setting("nothing")
"""How something is computed, not what it is."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_tuple)
"""Lets a YAML file write one text where several are allowed."""


class Section(BaseModel):
    """A group of keys; unknown keys are errors.

    Class keyword:
        decides: what its keys define, unless they say otherwise; that of its base class where left out.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    decides: ClassVar[Decides] = "nothing"
    purpose: ClassVar[str] = ""
    """What the section is for; `help()` of a section shows its keys, too."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.purpose = inspect.cleandoc(cls.__doc__ or "")
        keys = "".join(f"\n{_described(key, field)}" for key, field in cls.model_fields.items())
        cls.__doc__ = f"{cls.purpose}\n\nKeys:{keys}" if keys else cls.purpose

    @classmethod
    def inner(cls, key: str, values: Mapping[str, Any]) -> type[Section] | None:
        """Return the section that `key` holds, given the plain values of this one; None where it holds none."""
        return next(sections_in(cls.model_fields[key].annotation), None)

    def __init_subclass__(cls, *, decides: Decides | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if decides is not None:
            cls.decides = decides


def _described(key: str, field: FieldInfo) -> str:
    """Return a key with what it holds, its default and its description, for `help()`."""
    inner = [section for section in sections_in(field.annotation) if section is not Section]
    about = f"see {inner[0].__name__}" if inner else f"{_in_words(field.annotation)}, {_default(field)}"
    said = field.description or (inner[0].purpose if inner else "")
    return f"  {key}: {about}\n" + textwrap.indent(said, "    ")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory_takes_validated_data:
        return "default by other keys"
    return f"default {field.get_default(call_default_factory=True)!r}"


def _in_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(_in_words, inner))
    if annotation is NoneType:
        return "null"
    name = getattr(annotation, "__name__", str(annotation))
    return f"{name}[{', '.join('...' if each is Ellipsis else _in_words(each) for each in inner)}]" if inner else name


class WrongSection(ValueError):
    """What is wrong inside a section whose class only its values tell; each problem is reported under its own key."""

    def __init__(self, section: type[Section], error: ValidationError) -> None:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        super().__init__("; ".join(problems))
        self.section = section
        self.error = error


def find_named(registry: Registry, name: str) -> Any:
    """Return what `name` stands for, in a validator of the key that holds it.

    Raises:
        ValueError: nothing, or what cannot be imported.
    """
    try:
        return registry.load(name)
    except AugcondError as error:
        raise ValueError(str(error).removeprefix(f"{registry.key}: ")) from error


@cache
def setting_of(section: type[Section], key: str) -> Setting:
    """Return what the key `key` of `section` says of itself."""
    said = next((note for note in section.model_fields[key].metadata if isinstance(note, Setting)), Setting())
    return said if said.decides is not None else replace(said, decides=section.decides)


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a type such as `SplitConfig | None` may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def find_setting(section: Section | type[Section], keys: tuple[str, ...]) -> Setting | None:
    """Return what the key at `keys`, such as ("generator", "steps"), says of itself; None where there is no such key.

    Args:
        section: where to begin; given a section's values, sections that depend on others (`generator.own`) are found.
        keys: from there on; a key that holds a mapping (`plan.per_class.cat`) speaks for what is in it.
    """
    kind = section if isinstance(section, type) else type(section)
    key, *rest = keys
    if key not in kind.model_fields:
        return None
    value = None if isinstance(section, type) else getattr(section, key)
    inner = value if isinstance(value, Section) else next(sections_in(kind.model_fields[key].annotation), None)
    return find_setting(inner, tuple(rest)) if rest and inner is not None else setting_of(kind, key)


def counted(section: Section, *decides: Decides) -> dict[str, Any]:
    """Return, as nested plain values, what of `section` is part of the fingerprint of what `decides` names.

    Left out are keys that define something else, keys in whose place something else counts, and keys at the value that
    they declare neutral.
    """
    return {key: value for key, value in _kept(section, decides, counts=True)}


def uncounted(section: Section, *decides: Decides) -> dict[str, Any]:
    """Return the keys of `section` that define what `decides` names, and in whose place something else counts."""
    return {key: value for key, value in _kept(section, decides, counts=False)}


def _kept(section: Section, decides: tuple[Decides, ...], *, counts: bool) -> Iterator[tuple[str, Any]]:
    plain = section.model_dump(mode="json")
    for key in type(section).model_fields:
        setting, value = setting_of(type(section), key), getattr(section, key)
        if isinstance(value, Section) and setting.by == "value":
            # It may hold keys of several kinds; it stands there even where it holds none of these.
            yield key, dict(_kept(value, decides, counts=counts))
        elif _are_sections(value) and setting.by == "value":
            yield key, [dict(_kept(each, decides, counts=counts)) for each in value]
        elif (
            setting.decides in decides
            and (setting.by == "value") == counts
            and (setting.neutral is ABSENT or plain[key] != setting.neutral)
        ):
            yield key, plain[key]


def _are_sections(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Section) for each in value)


def with_neutral(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain `values` of a section that was written in full by an older version, as that version meant them.

    Keys that have come since then get their neutral value, in sections inside it too.
    """
    filled = dict(values)
    for key in section.model_fields:
        setting, inner = setting_of(section, key), section.inner(key, filled)
        if key not in filled and setting.neutral is not ABSENT:
            filled[key] = setting.neutral
        elif inner is not None and get_origin(section.model_fields[key].annotation) is not dict:
            # A mapping of some keys of a section (an arm's overrides) was never written in full.
            filled |= _within(section, inner, key, filled)
    return filled


def _within(section: type[Section], inner: type[Section], key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    if key not in values and NoneType in get_args(section.model_fields[key].annotation):
        return {}
    found = values.get(key, {})
    if isinstance(found, list | tuple):
        return {key: [with_neutral(inner, entry) if isinstance(entry, Mapping) else entry for entry in found]}
    if not isinstance(found, Mapping):
        return {}
    within = with_neutral(inner, found)
    return {key: within} if within or key in values else {}
