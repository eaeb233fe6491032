"""The commands train, evaluate and run, from a config file to a table."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.config import load_config
from augcond.errors import ConfigError, RunError
from augcond.experiments.launch import Together, idle_gpus, train_together
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


@pytest.fixture
def gpus(monkeypatch):
    """Let this process, and none that it starts, see so many GPUs."""

    def see(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return see


def test_gpus_that_would_idle_are_named_with_the_command_that_uses_them(tmp_path, gpus):
    config = toy_run(tmp_path, training={"device": "auto", "batch_size": 9})
    call = Together(tmp_path / "a run", ("training.lr=0.01",), overwrite=True)
    gpus(1)
    assert idle_gpus(config, call) is None
    gpus(4)
    assert shlex.split(idle_gpus(config, call).partition("on 3 of them: ")[2]) == [
        *("augcond", "train", str(tmp_path / "a run"), "--set", "training.lr=0.01", "--overwrite", "--processes", "3")
    ]
    assert idle_gpus(toy_run(tmp_path), call) is None  # on the CPU, as it says
    with pytest.raises(ConfigError, match="--processes 5: there are 4 GPUs"):
        train_together(config, call, 5)
    with pytest.raises(ConfigError, match=r"training\.batch_size \(9\) must be a multiple"):
        train_together(config, call, 2)


@pytest.mark.slow
def test_two_processes_train_together_by_the_command_that_is_printed(config_file, tmp_path, gpus):
    call("generate", config_file)
    # Both decode a mapped set batch by batch; then one of them replaces the models of both.
    for overrides, overwrite in ((("training.max_memory_gb=0",), False), (("training.lr=0.01",), True)):
        gpus(2)
        asked = Together(config_file, overrides, overwrite=overwrite, as_json=True)
        printed = idle_gpus(load_config(config_file, ("training.device=auto",)), asked).partition("them: ")[2]
        words = shlex.split(printed)
        gpus(0)
        command = [sys.executable, "-m", *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        cards = json.loads(done.stdout)
        assert [card["arm"] for card in cards] == ["real-only", "image"]
    assert cards[0]["training"]["lr"] == 0.01
    results = json.loads(call("evaluate", tmp_path / "run", "--json"))
    assert len(results["arms"]) == 2
