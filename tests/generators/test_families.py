"""What a generator cannot do is refused before any work; what the images are defined by is in the fingerprint."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from augcond import registry
from augcond.cli import app
from augcond.cli.tables import print_generators
from augcond.conditioning import RECIPES
from augcond.config import ConditioningConfig, GeneratorConfig, parse_config
from augcond.config.base import counted, find_setting
from augcond.datasets import DecodeSettings
from augcond.errors import ConfigError
from augcond.generators import (
    GeneratorIdentity,
    check_recipes,
    find_family,
    generator_names,
    load_generator,
    recipes_for,
    register_generator,
)
from augcond.generators.families import GeneratorEntry
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


def test_every_family_of_ours_says_what_it_is_and_takes():
    for name in generator_names():
        family = find_family(name)
        assert family.licence
        assert family.notes
        assert family.embedding
        check_recipes(GeneratorConfig(name=name), ConditioningConfig(recipe=recipes_for(name)))
    assert recipes_for("stable-diffusion") == ("text", "real-guidance")
    embedded = tuple(name for name in RECIPES if name != "image-pair")
    assert recipes_for("kandinsky-2.2") == tuple(name for name in embedded if name not in ("text", "real-guidance"))
    assert recipes_for("stable-unclip") == recipes_for("fake") == embedded


class Own(FakeGenerator):
    """Written before there were initial images."""

    inputs = frozenset({"text", "image"})


def load_own(config):
    return Own()


def test_a_generator_of_ones_own_is_asked_once_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.generators, "_targets", dict(registry.generators._targets))
    register_generator("own", "tests.generators.test_families:load_own")
    assert recipes_for("own") == tuple(RECIPES)
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


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (
            {"name": "stable-uncip"},
            "generator.name: no generator 'stable-uncip'; did you mean 'stable-unclip'? ",
        ),
        ({"name": "qqq"}, "generator.name: no generator 'qqq'; known: stable-unclip, "),
        ({"own": {"noise_levl": 1}}, "generator.own.noise_levl: unknown key; did you mean 'noise_level'? (allowed: "),
        (
            {"own": {"noise_level": -1}},
            "generator.own.noise_level: Input should be greater than or equal to 0",
        ),
        ({"own": 5}, "generator.own: "),
        (
            {"name": "stable-diffusion", "own": {"noise_level": 3}},
            "generator.own.noise_level: unknown key (allowed: n",
        ),
        ({"name": "kandinsky-2.2", "own": {"negative_prompt": "x"}}, "generator.own.negative_prompt: unknown key"),
        ({"name": "fake", "own": {"negative_prompt": "x"}}, "unknown key (allowed: none): remove or rename it"),
        (
            {"name": "ip-adapter", "own": {"adapter": {"scael": 1, "scale": -2}}},
            "generator.own.adapter.scael: unknown key; did you mean 'scale'?",
        ),
        ({"name": "no_module:load"}, "generator.name: 'no_module:load': the module 'no_module' cannot be imported"),
    ],
)
def test_wrong_names_and_own_settings_are_refused_as_the_config_is_read(generator, message):
    with pytest.raises(ConfigError) as caught:
        parse_config({"data": {"source": "builtin"}, "run": "r", "generator": generator})
    assert message in str(caught.value)


def test_all_that_is_wrong_is_reported_at_once():
    generator = {"name": "ip-adapter", "stps": 3, "own": {"adapter": {"scael": 1}, "negative_prompt": 3}}
    with pytest.raises(ConfigError) as caught:
        parse_config({"data": {"source": "builtin"}, "run": "r", "generator": generator})
    for key in ("generator.stps", "generator.own.adapter.scael", "generator.own.negative_prompt"):
        assert f"\n  {key}: " in str(caught.value)


@pytest.mark.parametrize("name", sorted(registry.generators.names()))
def test_own_settings_have_defaults_and_are_written_in_full(name):
    values = {"data": {"source": "builtin"}, "run": "r", "generator": {"name": name}}
    config = parse_config(values)
    assert type(config.generator.own) is find_family(name).settings
    written = config.model_dump(mode="json")
    assert set(written["generator"]["own"]) == set(find_family(name).settings.model_fields)
    assert parse_config(written) == config
    assert parse_config({**values, "generator": {"name": name, "own": None}}) == config


def test_settings_of_another_family_are_no_settings():
    own = GeneratorConfig(own={"noise_level": 3}).own
    assert GeneratorConfig(own=own).own == own
    with pytest.raises(ValueError, match="own"):
        GeneratorConfig(name="stable-diffusion", own=own)
    with pytest.raises(TypeError, match=r"generator\.own holds StableUnCLIPSettings, not the settings of ip-adapter"):
        find_family("ip-adapter").weights(GeneratorConfig(own=own).model_copy(update={"name": "ip-adapter"}))


def test_what_keys_of_own_settings_say_of_themselves_is_found():
    config = GeneratorConfig(name="ip-adapter")
    assert find_setting(config, ("own", "adapter", "model")).path == "checkpoint"
    assert find_setting(config, ("own", "noise_level")) is None
    assert find_setting(GeneratorConfig(), ("own", "noise_level")).decides == "images"
    assert set(counted(config, "images")["own"]["adapter"]) == {"weights", "image_encoder", "scale"}
    for name in registry.generators.names():
        assert GeneratorConfig.inner("own", {"name": name}) is find_family(name).settings
    assert GeneratorConfig.inner("own", {"name": "no such"}) is GeneratorConfig.inner("own", {"name": 5}) is None


def test_which_weights_a_config_needs():
    def needed(name, **own):
        config = GeneratorConfig(name=name, model="a/b", own=own)
        return [(weights.key, weights.model, weights.file) for weights in find_family(name).weights(config)]

    base = ("generator.model", "a/b", "model_index.json")
    assert needed("fake") == []
    assert needed("stable-unclip") == needed("stable-diffusion") == [base]
    default = ("generator.own.adapter.model", "h94/IP-Adapter", "sdxl_models/ip-adapter_sdxl.safetensors")
    assert needed("ip-adapter-xl") == [base, default]
    assert needed("ip-adapter", adapter={"model": "c/d", "weights": "e.safetensors"}) == [
        base,
        ("generator.own.adapter.model", "c/d", "e.safetensors"),
    ]
    prior = ("generator.own.prior.model", "kandinsky-community/kandinsky-2-2-prior", "model_index.json")
    assert needed("kandinsky-2.2") == [base, prior]
    redux = ("generator.own.redux.model", "black-forest-labs/FLUX.1-Redux-dev", "model_index.json")
    assert needed("flux-redux") == [base, redux]
    assert needed("sd3-ip-adapter", adapter={"model": "c/d"}) == [
        base,
        ("generator.own.adapter.model", "c/d", "ip-adapter.safetensors"),
        ("generator.own.image_encoder.model", "google/siglip-so400m-patch14-384", "config.json"),
    ]


def test_the_native_size_does_not_depend_on_the_size_asked_for():
    for size in (None, 64):
        assert load_generator(GeneratorConfig(size=size)).native_size == (32, 32)
    # A generator of one's own need not know it.
    assert load_generator(GeneratorConfig(name="fake", size=32)).native_size is None


def settings_of(tmp_path, **sections):
    config = toy_config(tmp_path, **sections)
    identity = GeneratorIdentity("ip-adapter", "a + b/c.safetensors", "1 + 2")
    return image_settings(config, identity, DecodeSettings(), ImageFormat("png", 90, None), (16, 16))


def test_strength_and_scale_define_the_images_but_places_of_weights_do_not(tmp_path):
    def adapter(**settings):
        return {"generator": {"name": "ip-adapter", "own": {"adapter": settings}}}

    base = settings_of(tmp_path, **adapter(model=str(tmp_path / "one")))
    assert base == settings_of(tmp_path, **adapter(model=str(tmp_path / "two"), revision="main"))
    assert base != settings_of(tmp_path, **adapter(scale=0.5))
    assert base != settings_of(tmp_path, **adapter(weights="other.safetensors"))
    assert settings_of(tmp_path, conditioning={"strength": 0.4}) != settings_of(tmp_path)
    assert str(tmp_path) not in json.dumps(base["generator"])

    def kandinsky(model):
        return settings_of(tmp_path, generator={"name": "kandinsky-2.2", "own": {"prior": {"model": model}}})

    prior = [kandinsky(str(tmp_path / name)) for name in ("one", "two")]
    assert prior[0] == prior[1]


def test_folders_of_parts_are_relative_to_the_config(tmp_path):
    values = {"data": {"source": "builtin"}, "run": "r"}
    values["generator"] = {"name": "ip-adapter", "model": "./sd", "own": {"adapter": {"model": "../adapters"}}}
    generator = parse_config(values, base=tmp_path / "configs").generator
    assert generator.model == str(tmp_path / "configs" / "sd")
    assert generator.own.adapter.model == str(tmp_path / "adapters")
    values["generator"] = {"name": "kandinsky-2.2", "own": {"prior": {"model": "someone/prior"}}}
    assert parse_config(values, base=tmp_path / "configs").generator.own.prior.model == "someone/prior"


def test_real_guidance_runs_beside_other_recipes(tmp_path):
    config = toy_config(tmp_path, conditioning={"recipe": ["text", "real-guidance", "image"]})
    summary = generate(config)
    assert (summary.ok, summary.failed) == (2 * 5 * 3, 0)


def test_licences_that_allow_no_commercial_use_are_marked():
    console = Console(file=io.StringIO(), width=200)
    entries = [
        GeneratorEntry("a", licence="One", commercial=False, weights_gb=34.7),
        GeneratorEntry("b", licence="Two"),
    ]
    print_generators(entries, console)
    lines = console.file.getvalue().splitlines()
    assert "  licence    One - NOT FOR COMMERCIAL USE" in lines
    assert "  memory     34.7 GB of weights in 16 bits" in lines
    assert {"  licence    Two", "  memory     not stated"} < set(lines)


def test_the_command_lists_them():
    text = CliRunner().invoke(app, ["generators"]).output
    listed = json.loads(CliRunner().invoke(app, ["generators", "--json"]).output)
    assert [facts["name"] for facts in listed] == list(generator_names())
    for name in generator_names():
        family = find_family(name)
        assert name in text
        assert family.model in text
        assert family.licence in text
    kandinsky = next(facts for facts in listed if facts["name"] == "kandinsky-2.2")
    assert "takes no prompt" in kandinsky["notes"]
    assert kandinsky["inputs"] == ["image"]
    assert "text" not in kandinsky["recipes"]
    assert kandinsky["settings"] == ["prior"]
    klein = next(facts for facts in listed if facts["name"] == "flux2-klein")
    assert (klein["inputs"], klein["weights_gb"]) == (["initial-image", "reference-image", "text"], 16.0)
    assert "reference images" in text
    assert "negative_prompt, noise_level, published_dropout" in text
