"""Every key of a config says what it is: the reference, the schema and `help()` show it."""

from __future__ import annotations

import pydoc
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from augcond import registry
from augcond.config import RunConfig, kept_text, load_config
from augcond.config.base import Section, sections_in
from augcond.config.reading import read_yaml
from augcond.config.schema import config_schema

CONFIGS = Path(__file__).parents[2] / "configs"


def keys_of(section: type[Section], path: str) -> Iterator[tuple[str, str | None]]:
    """Yield every key below `section` with its description; that of a section is its docstring."""
    for key, field in section.model_fields.items():
        inner = [found for found in sections_in(field.annotation) if found is not Section]
        yield f"{path}{key}", field.description or (inner[0].purpose if inner else None)
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


def test_help_of_a_section_shows_its_keys():
    text = pydoc.render_doc(RunConfig, renderer=pydoc.plaintext)
    assert "generator: see GeneratorConfig" in text
    text = pydoc.render_doc(RunConfig.model_fields["conditioning"].annotation, renderer=pydoc.plaintext)
    assert "interpolation: linear | slerp, default 'linear'" in text
    assert "How embed-mixup interpolates; slerp goes along the sphere and takes two sources." in text
    assert "crop_scale: tuple[float, float], default (0.08, 1.0)" in text
    assert "alpha: float, default 1.0" in text


SCHEMA = config_schema()


def errors_of(values: object) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(values)]


def test_configs_fit_the_schema_and_so_does_what_a_run_keeps_of_one():
    Draft202012Validator.check_schema(SCHEMA)
    configs = sorted(CONFIGS.glob("*.yaml"))
    assert len(configs) > 5
    for path in configs:
        assert (path.name, errors_of(read_yaml(path.read_text(encoding="utf-8")))) == (path.name, [])
    assert errors_of(read_yaml(kept_text(load_config(CONFIGS / "photos.yaml")))) == []


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ({"generator": {"stepz": 3}}, "stepz"),
        ({"generator": {"name": "kandinsky"}}, "kandinsky"),
        ({"generator": {"own": {"adapter": {}}}}, "adapter"),
        ({"generator": {"name": "ip-adapter", "own": {"noise_level": 3}}}, "noise_level"),
        ({"conditioning": {"recipe": ["mixup", "cutmixx"]}}, "cutmixx"),
        ({"conditioning": {"recipe": "cutmixx"}}, "cutmixx"),
        ({"training": {"arms": [{"name": "a", "overrides": {"steps": 3}}]}}, "steps"),
        ({"plan": {"per_class": -1}}, "-1"),
    ],
    ids=str,
)
def test_the_schema_tells_what_is_wrong(section, wrong):
    fine = {"data": {"path": "photos"}, "run": "runs/x"}
    assert errors_of(fine) == []
    assert any(wrong in message for message in errors_of(fine | section))


def test_the_schema_allows_one_where_several_are_and_what_is_one_s_own():
    own = {
        "data": {"path": "photos", "source": "my_readers:mine"},
        "run": "runs/x",
        "prompt": "a photo of a {class_name}",
        "conditioning": {"recipe": "my_recipes:mine"},
        "generator": {"name": "my_generators:mine", "own": {"whatever": 3}},
        "training": {"arms": [{"name": "a", "overrides": {"lr": 0.1, "augment": {"flip": 0.0}}}]},
    }
    assert errors_of(own) == []


def test_what_editors_show_stands_at_the_key():
    adapter = next(
        each["then"]["properties"]["own"]
        for each in SCHEMA["$defs"]["GeneratorConfig"]["allOf"]
        if each["if"]["properties"]["name"]["const"] == "ip-adapter"
    )
    assert adapter["properties"].keys() == registry.generators.load("ip-adapter").settings.model_fields.keys()
    assert SCHEMA["$defs"]["ConditioningConfig"]["properties"]["alpha"]["description"].startswith("lambda ~ Beta")
    assert "mixup" in SCHEMA["$defs"]["ConditioningConfig"]["properties"]["recipe"]["anyOf"][1]["anyOf"][0]["enum"]
    assert "Keys:" not in str(SCHEMA)
