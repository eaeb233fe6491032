"""The commands train, evaluate and run, from a config file to a table."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import ConfigError, RunError
from tests.training.toys import toy_run


@pytest.fixture
def config_file(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "image"}, training={"seeds": 1, "steps": 2})
    path = tmp_path / "photos.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def call(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_run_prints_the_table_and_the_commands_find_the_run_again(config_file, tmp_path):
    printed = call("run", config_file)
    assert "real-only" in printed
    assert "overall - real-only" in " ".join(printed.split())
    assert "LEAKY" not in printed
    run = tmp_path / "run"
    cards = json.loads(call("train", run, "--json"))
    assert [card["arm"] for card in cards] == ["real-only", "image"]
    results = json.loads(call("evaluate", config_file, "--json"))
    written = json.loads((run / "results.json").read_text())
    assert results | {"seal": written["seal"]} == written
    assert "augcond evaluate judges them" in " ".join(call("train", run).split())


def test_a_run_of_real_images_alone_is_found_again(config_file, tmp_path):
    call("run", config_file, "--set", "training.arms=[{name: real-only}]")
    assert "real-only" in call("evaluate", tmp_path / "run")
    assert not (tmp_path / "run" / "report").exists()


def test_a_leaky_table_says_so(config_file):
    assert call("run", config_file, "--set", "leaks=[best-epoch]").startswith("LEAKY")
    assert "was best on the images that are reported" in call("train", config_file.parent / "run")


def test_train_needs_a_run(tmp_path):
    with pytest.raises(RunError, match=r"has no config\.yaml"):
        call("train", tmp_path / "none")
    with pytest.raises(ConfigError, match="no config file"):
        call("run", tmp_path / "none.yaml")


@pytest.mark.slow
def test_two_processes_train_together(config_file, tmp_path):
    call("generate", config_file)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "augcond.cli"]
    # Both decode a mapped set batch by batch; then one of them replaces the models of both.
    for options in (["--set", "training.max_memory_gb=0"], ["--set", "training.lr=0.01", "--overwrite"]):
        command = [*launch, "train", str(config_file), "--json", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        cards = json.loads(done.stdout)
        assert [card["arm"] for card in cards] == ["real-only", "image"]
    assert cards[0]["training"]["lr"] == 0.01
    results = json.loads(call("evaluate", tmp_path / "run", "--json"))
    assert len(results["arms"]) == 2
