"""What keys say of themselves, and what is derived from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import Field

from augcond.config import RunConfig, parse_config, relative_paths
from augcond.config.base import (
    ABSENT,
    NOTHING,
    Decides,
    Section,
    Setting,
    counted,
    find_setting,
    sections_in,
    setting_of,
    uncounted,
    with_neutral,
)
from augcond.errors import ConfigError


class Inner(Section, decides="models"):
    shown: int = 1
    later: Annotated[int, Setting(neutral=0)] = 5


class Outer(Section, decides="images"):
    scale: Annotated[float, Field(ge=0)] = 1.0
    rows: Annotated[int, Setting(by="each")] = 4
    device: Annotated[str, NOTHING] = "auto"
    later: Annotated[bool, Setting(neutral=False)] = True
    within: Inner = Inner()
    maybe: Inner | None = None


def test_a_section_speaks_for_its_keys_unless_they_say_otherwise():
    assert setting_of(Outer, "scale") == Setting("images")
    assert setting_of(Outer, "device") == NOTHING
    assert setting_of(Inner, "later") == Setting("models", neutral=0)
    assert find_setting(Outer, ("within", "shown")).decides == "models"
    assert find_setting(Outer, ("maybe", "shown")).decides == "models"
    assert find_setting(Outer(), ("within", "nonsense")) is None


def test_what_counts_is_what_defines_and_is_not_neutral():
    assert counted(Outer(), "images") == {"scale": 1.0, "later": True, "within": {}, "maybe": None}
    assert counted(Outer(later=False), "images") == {"scale": 1.0, "within": {}, "maybe": None}
    assert counted(Outer(), "images", "models")["within"] == {"shown": 1, "later": 5}
    assert uncounted(Outer(), "images") == {"rows": 4, "within": {}}


def test_what_an_older_version_wrote_in_full_gets_neutral_values():
    old = with_neutral(Outer, {"scale": 2.0, "within": {"shown": 3}, "maybe": None})
    assert old == {"scale": 2.0, "later": False, "within": {"shown": 3, "later": 0}, "maybe": None}
    assert with_neutral(Outer, {}) == {"later": False, "within": {"later": 0}}
    written = {"scale": 2.0, "later": True, "within": {"shown": 3, "later": 9}, "maybe": None}
    assert with_neutral(Outer, written) == written


def keys_of(section: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Setting]]:
    for key, field in section.model_fields.items():
        yield (*prefix, key), setting_of(section, key)
        for inner in sections_in(field.annotation):
            yield from keys_of(inner, (*prefix, key))


def test_every_key_of_a_run_says_what_it_decides():
    found = dict(keys_of(RunConfig))
    assert len(found) > 80
    assert {setting.decides for setting in found.values()} == set(get_args(Decides))
    for keys, setting in found.items():
        # What computes something defines nothing, wherever it stands.
        if keys[-1] in ("device", "dtype", "threads", "max_memory_gb", "checkpoint_every", "compile", "memory"):
            assert setting.decides == "nothing", keys


def test_no_key_of_0_1_declares_a_neutral_value():
    # Those of later versions do; add them here when they come, and never take one away.
    assert [keys for keys, setting in keys_of(RunConfig) if setting.neutral is not ABSENT] == [
        ("data", "several_names"),
        ("data", "near_duplicates"),
        ("tracking",),
        ("plan", "oversample"),
        ("plan", "rounds"),
        ("conditioning", "neighbours"),
        ("generator", "away_from"),
        ("generator", "cache"),
        ("generator", "lora"),
        ("generator", "vae"),
        ("generator", "memory"),
        ("output", "effort"),
        ("training", "synthetic_tilt"),
        ("training", "real_steps"),
        ("training", "ceiling_counts"),
        ("training", "decay"),
        ("training", "standardise"),
        ("evaluation", "primary"),
        ("evaluation", "features"),
        ("sweep",),
    ]


def nested(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {keys[0]: nested(keys[1:], value) if keys[1:] else value}


def test_every_path_is_relative_to_the_config(tmp_path):
    paths = [keys for keys, setting in keys_of(RunConfig) if setting.path is not None]
    assert {keys[-1] for keys in paths} >= {"path", "test", "validation", "class_names", "run", "model", "weights"}
    arms = [{"name": "a", "overrides": {"mode": "finetune", "weights": "w/arm.safetensors"}}]
    values = {
        "data": {"path": "photos", "test": "test"},
        "generator": {"model": "./sd"},
        "training": {"mode": "finetune", "weights": "w/all.safetensors", "arms": arms},
        "run": "run",
    }
    config = parse_config(values, base=tmp_path)
    assert config.data.test == tmp_path / "test"
    assert config.generator.model == str(tmp_path / "sd")
    assert config.training.weights == str(tmp_path / "w" / "all.safetensors")
    assert config.training.arms[0].overrides["weights"] == str(tmp_path / "w" / "arm.safetensors")
    back = relative_paths(config.model_dump(mode="json"), tmp_path)
    assert back["training"]["arms"][0]["overrides"]["weights"] == "./w/arm.safetensors"
    assert Path(back["data"]["path"]) == Path("photos")
    hub = parse_config({**values, "training": {"mode": "finetune", "weights": "hub", "arms": None}}, base=tmp_path)
    assert hub.training.weights == "hub"


@pytest.mark.parametrize(
    "key",
    ["steps", "batch_size", "image_size", "precision", "device", "seeds"],
)
def test_budgets_are_the_same_for_every_arm(key):
    values = {"data": {"source": "builtin"}, "run": "r", "training": {"arms": [{"name": "a", "overrides": {key: 1}}]}}
    with pytest.raises(ConfigError, match=f"arm 'a': {key} is the same for every arm"):
        parse_config(values)


def test_loras_count_by_file_and_scale_and_not_by_where_they_lie(tmp_path):
    def config(*overrides, **generator):
        values = {"data": {"source": "builtin"}, "run": "r", "generator": generator}
        return parse_config(values, overrides, base=tmp_path).generator

    entry = {"model": "./style", "weights": "a.safetensors", "scale": 0.5}
    here, there = config(lora=[entry]), config(lora=[{**entry, "model": "someone/style", "revision": "main"}])
    assert here.lora[0].model == str(tmp_path / "style")
    assert counted(here, "images") == counted(there, "images")
    assert counted(here, "images")["lora"] == [{"weights": "a.safetensors", "scale": 0.5}]
    assert uncounted(here, "images") != uncounted(there, "images")
    assert counted(config(lora=[]), "images") == counted(config(), "images")
    # Interval 1 computes everything at every step: it is the run without a cache.
    assert config("generator.cache.interval=1").cache is None
    assert counted(config("generator.cache.branch=2"), "images")["cache"] == {"interval": 3, "branch": 2}
    assert config(vae="./vae").vae == str(tmp_path / "vae")
    assert "vae" not in counted(config(vae="tiny"), "images")
