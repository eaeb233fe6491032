"""`augcond tune` as a user meets it."""

import importlib
import json
import sys
from shutil import rmtree

import pytest
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import ConfigError, MissingExtraError
from tests.training.toys import write_colours


@pytest.fixture
def config(tmp_path):
    write_colours(tmp_path / "photos", 4)
    values = {
        "data": {"path": "photos"},
        "run": "run",
        "plan": {"per_class": 4},
        "conditioning": {"recipe": "image"},
        "generator": {"name": "fake"},
        "training": {"image_size": 16, "steps": 1, "batch_size": 8, "device": "cpu", "seeds": 1},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "c.yaml"


def test_a_dry_tuning_says_what_it_buys_and_writes_nothing(config):
    told = CliRunner().invoke(app, ["tune", str(config), "--budget", "72", "--dry"])
    assert told.exit_code == 0
    assert "sets of" in told.output and "12 of 12 real images are judged, in 4 folds" in told.output
    assert "in 80 % of all cases" in told.output
    assert not (config.parent / "run").exists()
    told = CliRunner().invoke(app, ["tune", str(config), "--budget", "72", "--dry", "--folds", "2", "--json"])
    found = json.loads(told.stdout)
    assert found["folds"] == 2 and found["schedule"]["images"] <= 72
    assert found["image_seconds"] > 0 and found["training_seconds"] > 0


def test_hours_are_images_at_the_rate_of_this_machine(config):
    few, many = (
        json.loads(CliRunner().invoke(app, ["tune", str(config), "--budget", text, "--dry", "--json"]).stdout)
        for text in ("0.0001h", "1h")
    )
    assert few["schedule"]["images"] <= many["schedule"]["images"]


def test_a_budget_is_needed_and_understood(config):
    assert CliRunner().invoke(app, ["tune", str(config)]).exit_code == 2
    # Before anything takes time: the photos are not even looked for.
    rmtree(config.parent / "photos")
    for how in (["--dry"], []):
        wrong = CliRunner().invoke(app, ["tune", str(config), "--budget", "a lot", *how])
        assert isinstance(wrong.exception, ConfigError)
        assert "2000" in str(wrong.exception)
    assert not (config.parent / "run" / "decoded.parquet").exists()


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for module in ("study", "tune"):
        monkeypatch.delitem(sys.modules, f"augcond.experiments.tuning.{module}", raising=False)
    # Whoever looks through the public names needs no extra.
    assert callable(importlib.import_module("augcond.experiments.tuning.tune").tune)
    with pytest.raises(MissingExtraError, match=r"pip install 'augcond\[tune\]'"):
        importlib.import_module("augcond.experiments.tuning.study")
