"""Every key of a config says what it is: the reference, the schema and `help()` show it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from augcond import registry
from augcond.config import RunConfig
from augcond.config.base import Section, sections_in


def keys_of(section: type[Section], path: str) -> Iterator[tuple[str, str | None]]:
    """Yield every key below `section` with its description; that of a section is its docstring."""
    for key, field in section.model_fields.items():
        inner = [found for found in sections_in(field.annotation) if found is not Section]
        yield f"{path}{key}", field.description or (inner[0].__doc__ if inner else None)
        for each in inner:
            yield from keys_of(each, f"{path}{key}.")


KEYS = dict(keys_of(RunConfig, ""))
OWN = {
    name: description
    for family in registry.generators.names()
    for name, description in keys_of(registry.generators.load(family).settings, f"{family}: generator.own.")
}


def test_the_walk_finds_keys_at_every_depth():
    found = KEYS | OWN
    assert {"run", "training.augment.crop", "data.huggingface.id", "generator.lora.scale"} < KEYS.keys()
    assert "kandinsky-2.2: generator.own.prior.model" in OWN
    assert len(found) > 120


@pytest.mark.parametrize("section", [*sorted({name.split(".")[0] for name in KEYS}), "generator.own"])
def test_every_key_has_a_description(section):
    found = OWN if section == "generator.own" else {n: d for n, d in KEYS.items() if n.split(".")[0] == section}
    assert [name for name, description in found.items() if not (description or "").strip()] == []
