from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from augcond.config import RunConfig, load_config, parse_config
from augcond.errors import AugcondError, ConfigError

MINIMAL = {"data": {"path": "photos"}, "run": "runs/a"}


def test_everything_but_data_and_run_has_a_default(tmp_path):
    config = parse_config(MINIMAL, base=tmp_path)
    assert config.data.path == tmp_path / "photos"
    assert config.run == tmp_path / "runs" / "a"
    assert config.plan.per_class == 16


@pytest.mark.parametrize("missing", ["data", "run"])
def test_data_and_run_are_required(missing):
    with pytest.raises(ConfigError, match=f"{missing}: Field required"):
        parse_config({key: value for key, value in MINIMAL.items() if key != missing})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.stepz=5", "generator.stepz: unknown key; did you mean 'steps'?"),
        ("genrator.steps=5", "genrator: unknown key; did you mean 'generator'?"),
        ("generator.steps=0", "generator.steps: Input should be greater than or equal to 1 (got 0)"),
        ("generator.steps=many", "generator.steps: "),
        ("conditioning.recipe=mixdown", "conditioning.recipe: no recipe 'mixdown'; known: text, real-guidance, image"),
        ("conditioning.recipe=[text, text]", "conditioning.recipe: name each recipe once"),
        ("conditioning.recipe=[]", "conditioning.recipe: "),
        ("conditioning.dropout=1.5", "conditioning.dropout: "),
        ("conditioning.crop_scale=[1, 0.5]", "lies above the highest"),
        ("plan={per_class: 3, fill_to: 9}", "give per_class or fill_to, not both"),
        ("plan.per_class=-1", "plan.per_class: "),
        ("prompt='{name}'", "may hold no braces but {class_name}"),
        ("prompt=[]", "prompt: "),
        ("data.source=builtin", "source 'builtin' takes no path"),
        ("data={source: list}", "source 'list' needs a path"),
        ("generator.guidance_interval=[0.9, 0.1]", "start lies after its end"),
        ("training.arms=[{name: a, overrides: {lrr: 1}}]", "training: arm 'a': lrr: unknown key; did you mean 'lr'?"),
        ("training.arms=[{name: a, overrides: {lr: 0}}]", "training: arm 'a': lr: Input should be greater than 0"),
        ("training.arms=[{name: a, overrides: {mode: finetune}}]", "arm 'a': overrides: mode 'finetune' needs weights"),
        (
            "training.arms=[{name: a, recipe: mixdown}]",
            "training.arms: arm 'a' trains on 'mixdown', which is no recipe; known: embed-mixup-dropout, text, ",
        ),
        ("no equals sign", "expected key=value"),
        ("=5", "expected key=value"),
        ("generator.steps=[", "is not YAML"),
    ],
)
def test_errors_name_the_key_the_value_and_what_is_allowed(override, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL, (override,))
    assert message in str(caught.value)


def test_all_wrong_keys_are_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL, ("generator.stepz=5", "plan.seed=-1", "engine.batch_size=0"))
    assert len(str(caught.value).splitlines()) == 4


def test_overrides_win_and_the_values_stay_as_they_were():
    values = {**MINIMAL, "generator": {"steps": 5}}
    config = parse_config(values, ("generator.steps=7", "plan.fill_to=30", "conditioning.recipe=[text, image]"))
    assert config.generator.steps == 7
    assert (config.plan.fill_to, config.plan.per_class) == (30, None)
    assert config.conditioning.recipe == ("text", "image")
    assert values["generator"] == {"steps": 5}


def test_paths_of_a_file_are_relative_to_it_and_overrides_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "a.yaml"
    path.write_text("data: {path: photos, class_names: names.txt}\nrun: ../runs/a\ngenerator: {model: ./sd}\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(path)
    assert config.data.path == tmp_path / "configs" / "photos"
    assert config.data.class_names == tmp_path / "configs" / "names.txt"
    assert config.run.resolve() == tmp_path / "runs" / "a"
    assert config.generator.model == str(tmp_path / "configs" / "sd")
    assert load_config(path, ("run=here",)).run == tmp_path / "here"


def test_hub_ids_are_no_paths():
    config = parse_config(MINIMAL, ("generator.model=sd2-community/stable-diffusion-2-1-unclip",))
    assert config.generator.model == "sd2-community/stable-diffusion-2-1-unclip"


@pytest.mark.parametrize(
    ("text", "message"), [("", "must hold keys"), ("- a", "must hold keys"), ("a: [", "cannot be read as YAML")]
)
def test_files_that_are_no_config(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "b.yaml")


def test_a_saved_config_reads_back_equal(tmp_path):
    config = parse_config(MINIMAL, ("conditioning.recipe=[text, mixup]", "plan.per_class={cat: 3}"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(RunConfig.model_fields)), values)
def test_any_value_is_accepted_or_refused_with_our_error(key, value):
    try:
        parse_config({**MINIMAL, key: value})
    except AugcondError as error:
        assert key in str(error) or "config" in str(error)


@pytest.mark.parametrize("key", ["generator.guidance_scale", "conditioning.alpha", "training.tau", "training.lr"])
@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_numbers_are_finite(key, number):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        parse_config({"data": {"path": "photos"}, "run": "run"}, (f"{key}={number}",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "plan.per_class=1e1",
            "expected a whole number (got '1e1', which YAML reads as a text: write 10); or expected a m",
        ),
        ("plan.fill_to=1.5", "plan.fill_to: expected a whole number (got 1.5)"),
        ("training.seeds=1e0", "which YAML reads as a text: write 1)"),
        ("generator.guidance_scale=much", "expected a number (got 'much')"),
    ],
)
def test_wrong_numbers_are_told_in_our_words(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_config({"data": {"path": "photos"}, "run": "run"}, (override,))


def test_a_default_that_waits_for_a_wrong_key_is_nothing_wrong_of_its_own():
    with pytest.raises(ConfigError, match=r"generator\.name: no generator 'x'") as error:
        parse_config({"data": {"source": "builtin"}, "run": "a", "generator": {"name": "x"}})
    assert "steps" not in str(error.value)
    steps = {
        model: parse_config({"data": {"source": "builtin"}, "run": "a", "generator": {"model": model}}).generator.steps
        for model in ("builtin", "somebody/else")
    }
    assert steps == {"builtin": 5, "somebody/else": 20}
