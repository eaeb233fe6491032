"""What a generator cannot do is refused before any work; what the images are defined by is in the fingerprint."""

import json

import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.conditioning import RECIPES
from augcond.config import ConditioningConfig, GeneratorConfig, parse_config
from augcond.datasets import DecodeSettings
from augcond.errors import ConfigError
from augcond.generators import (
    GeneratorIdentity,
    check_recipes,
    generator_names,
    recipes_for,
    register_generator,
    registry,
)
from augcond.generators.catalog import CATALOG
from augcond.generators.settings import refuse_settings
from augcond.pipeline import generate, plan_for
from augcond.store.fingerprint import image_settings
from augcond.store.images import ImageFormat
from augcond.testing import FakeGenerator
from tests.toy import toy_config, toy_dataset


@pytest.mark.parametrize(
    ("name", "recipe", "message"),
    [
        (
            "stable-diffusion",
            ["text", "image", "embed-cutmix"],
            "stable-diffusion does not take image embeddings, which image, embed-cutmix would condition it by; it "
            "takes text, real-guidance",
        ),
        ("kandinsky-2.2", "text", "kandinsky-2.2 does not take a prompt alone, which text would"),
        (
            "kandinsky-2.2",
            ["real-guidance", "image"],
            "kandinsky-2.2 does not take an initial image, which real-guidance",
        ),
    ],
)
def test_recipes_that_a_generator_cannot_take_are_refused_before_it_is_loaded(tmp_path, name, recipe, message):
    config = toy_config(
        tmp_path, conditioning={"recipe": recipe}, generator={"name": name, "model": str(tmp_path / "nowhere")}
    )
    with pytest.raises(ConfigError) as caught:
        plan_for(config, toy_dataset({"cat": 2}))
    assert message in str(caught.value)


def test_every_generator_of_ours_is_in_the_catalog_and_says_what_it_takes():
    for name in generator_names():
        facts = CATALOG[name]
        assert facts.name == name
        assert facts.licence
        check_recipes(GeneratorConfig(name=name), ConditioningConfig(recipe=recipes_for(name)))
    assert recipes_for("stable-diffusion") == ("text", "real-guidance")
    assert recipes_for("kandinsky-2.2") == tuple(name for name in RECIPES if name not in ("text", "real-guidance"))
    assert recipes_for("stable-unclip") == recipes_for("of my own") == tuple(RECIPES)


class Own(FakeGenerator):
    """Written before there were initial images."""

    inputs = frozenset({"text", "image"})


def load_own(config):
    return Own()


def test_a_generator_of_ones_own_is_asked_once_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))
    register_generator("own", "tests.generators.test_settings:load_own")
    generate(toy_config(tmp_path, generator={"name": "own"}))
    config = toy_config(
        tmp_path, conditioning={"recipe": "real-guidance"}, generator={"name": "own"}, run=tmp_path / "b"
    )
    with pytest.raises(ConfigError, match="own does not take an initial image"):
        generate(config)


def test_a_strength_that_leaves_no_step_is_refused():
    conditioning = ConditioningConfig(recipe="real-guidance", strength=0.3)
    with pytest.raises(ConfigError, match=r"conditioning\.strength: 0\.3 of 3 steps leaves none"):
        check_recipes(GeneratorConfig(steps=3), conditioning)
    check_recipes(GeneratorConfig(steps=4), conditioning)
    check_recipes(GeneratorConfig(steps=3), ConditioningConfig(recipe="image", strength=0.3))
    with pytest.raises(ConfigError, match=r"conditioning\.strength"):
        parse_config({"data": {"source": "builtin"}, "run": "r", "conditioning": {"strength": 0}})


def test_settings_at_their_defaults_are_no_objection():
    refuse_settings(GeneratorConfig(name="fake"), "adapter", "prior", "noise_level", "negative_prompt")
    with pytest.raises(ConfigError, match=r"generator\.noise_level: 7 does not apply to fake; leave it out"):
        refuse_settings(GeneratorConfig(name="fake", noise_level=7), "adapter", "noise_level")


def settings_of(tmp_path, **sections):
    config = toy_config(tmp_path, **sections)
    identity = GeneratorIdentity("ip-adapter", "a + b/c.safetensors", "1 + 2")
    return image_settings(config, identity, DecodeSettings(), ImageFormat("png", 90, None), (16, 16))


def test_strength_and_scale_define_the_images_but_places_of_weights_do_not(tmp_path):
    def adapter(**settings):
        return {"generator": {"adapter": settings}}

    base = settings_of(tmp_path, **adapter(model=str(tmp_path / "one")))
    assert base == settings_of(tmp_path, **adapter(model=str(tmp_path / "two"), revision="main"))
    assert base != settings_of(tmp_path, **adapter(scale=0.5))
    assert base != settings_of(tmp_path, **adapter(weights="other.safetensors"))
    assert settings_of(tmp_path, conditioning={"strength": 0.4}) != settings_of(tmp_path)
    assert str(tmp_path) not in json.dumps(base["generator"])
    prior = [settings_of(tmp_path, generator={"prior": {"model": str(tmp_path / name)}}) for name in ("one", "two")]
    assert prior[0] == prior[1]


def test_folders_of_parts_are_relative_to_the_config(tmp_path):
    values = {"data": {"source": "builtin"}, "run": "r"}
    values["generator"] = {"model": "./sd", "adapter": {"model": "../adapters"}, "prior": {"model": "someone/prior"}}
    generator = parse_config(values, base=tmp_path / "configs").generator
    assert generator.model == str(tmp_path / "configs" / "sd")
    assert generator.adapter.model == str(tmp_path / "adapters")
    assert generator.prior.model == "someone/prior"


def test_real_guidance_runs_beside_other_recipes(tmp_path):
    config = toy_config(tmp_path, conditioning={"recipe": ["text", "real-guidance", "image"]})
    summary = generate(config)
    assert (summary.ok, summary.failed) == (2 * 5 * 3, 0)


def test_the_command_lists_them():
    text = CliRunner().invoke(app, ["generators"]).output
    listed = json.loads(CliRunner().invoke(app, ["generators", "--json"]).output)
    assert [facts["name"] for facts in listed] == list(CATALOG)
    for facts in CATALOG.values():
        assert facts.name in text
        assert facts.model in text
        assert facts.licence in text
    kandinsky = next(facts for facts in listed if facts["name"] == "kandinsky-2.2")
    assert "takes no prompt" in kandinsky["notes"]
    assert kandinsky["inputs"] == ["image"]
    assert "text" not in kandinsky["recipes"]
