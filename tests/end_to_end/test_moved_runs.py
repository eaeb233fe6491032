"""A run is where it lies now: copied, moved, linked, alone or with its photos; and a run of 0.1 is still a run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import RunError, RunMismatchError
from augcond.evaluation.results import read_results
from augcond.store import RunFolder
from tests.training.toys import toy_run

OF_0_1 = Path(__file__).parents[1] / "data" / "run-0.1"


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def digests(folder: Path) -> dict[str, str]:
    """Return what every file of a run holds, but locks and logs."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".txt")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project: photos, a config beside them, and a run that is generated, trained and evaluated."""
    root = tmp_path_factory.mktemp("made") / "project"
    root.mkdir()
    training = {"seeds": 1, "steps": 2, "arms": [{"name": "real-only"}, {"name": "text", "recipe": "text"}]}
    config = toy_run(root, conditioning={"recipe": ["text"]}, plan={"per_class": 1}, training=training)
    values = config.model_dump(mode="json")
    values["data"] |= {"path": "train", "validation": "validation", "test": "test"}
    (root / "photos.yaml").write_text(yaml.safe_dump({**values, "run": "run"}))
    call("run", root / "photos.yaml")
    return root


@pytest.fixture
def project(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "project"))


@pytest.mark.parametrize("kept", ["", "config.yaml"])
def test_a_copy_of_a_run_is_trained_judged_and_reported_on_by_itself(project, kept):
    before = digests(project / "run")
    copy = Path(shutil.copytree(project / "run", project / "copy"))
    call("train", copy / kept, "--set", "training.steps=3", "--overwrite")
    call("evaluate", copy / kept)
    call("report", copy / kept, "--no-metrics")
    assert digests(project / "run") == before
    assert read_results(copy / "results.json").arms[0].steps == 3
    call("run", copy / kept, "--set", "training.steps=3")
    assert digests(project / "run") == before


def test_a_moved_run_does_not_make_the_old_place_again(project, tmp_path):
    call("generate", project / "run")  # so that it knows where it is
    shutil.move(project / "run", tmp_path / "elsewhere")
    models = digests(tmp_path / "elsewhere" / "models")
    call("generate", tmp_path / "elsewhere")
    call("train", tmp_path / "elsewhere")
    assert digests(tmp_path / "elsewhere" / "models") == models
    assert not (project / "run").exists()
    assert RunFolder(tmp_path / "elsewhere").read_config().data.test == project / "test"


def test_a_project_that_moved_is_judged_on_its_own_photos(made, project, tmp_path, caplog):
    before = digests(project / "run")
    moved = Path(shutil.copytree(project, tmp_path / "moved"))
    config = RunFolder(moved / "run").read_config()
    assert (config.data.path, config.data.test, config.run) == (moved / "train", moved / "test", moved / "run")
    assert f"data.test has moved with the run: {moved / 'test'}, not {made / 'test'}" in caplog.text
    for photo in (moved / "test" / "a").iterdir():
        if photo.name != "0.png":
            photo.unlink()
    assert json.loads(call("evaluate", moved / "run", "--json"))["test_images"] == 17
    assert digests(project / "run") == before


def test_from_elsewhere_and_through_a_link(project, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(project / "run")
    monkeypatch.chdir(tmp_path)
    models = digests(project / "run" / "models")
    for way in ("link", "project/run", "link/config.yaml"):
        assert [card["arm"] for card in json.loads(call("train", way, "--json"))] == ["real-only", "text"]
    assert digests(project / "run" / "models") == models
    assert not (tmp_path / "run").exists()


def test_a_sweep_that_moved_goes_on_where_it_lies(project):
    config, over = project / "photos.yaml", ("--over", "training.lr=0.01,0.02", "--seeds", "1", "--on", "test")
    settings = ("--set", "training.arms=[{name: real-only}]")
    call("sweep", config, *over, *settings, "--set", f"run={project / 'sweep'}")
    before = digests(project / "sweep")
    copy = Path(shutil.copytree(project / "sweep", project / "copy"))
    call("report", copy)
    models = digests(copy / "cells")
    call("sweep", config, *over, *settings, "--set", f"run={copy}", "--set", "evaluation.bootstrap=50")
    assert digests(project / "sweep") == before
    assert {name: value for name, value in digests(copy / "cells").items() if "models" in name} == {
        name: value for name, value in models.items() if "models" in name
    }


def test_a_config_of_ones_own_may_be_called_config_yaml(project):
    (project / "photos.yaml").rename(project / "config.yaml")
    assert "nothing left to do" in call("generate", project / "config.yaml")


def test_a_run_of_a_newer_augcond_is_refused(project):
    kept = project / "run" / "config.yaml"
    kept.write_text(kept.read_text().replace("format: 2", "format: 99"))
    with pytest.raises(RunError, match=r"config\.yaml is of format 99, which a newer augcond wrote .*: update augcond"):
        call("train", project / "run")


@pytest.fixture
def old(tmp_path):
    """A run that augcond 0.1 generated, trained and judged in /home/user/garments/runs/one."""
    return Path(shutil.copytree(OF_0_1, tmp_path / "one"))


def test_a_run_of_0_1_goes_on(old):
    before = digests(old)
    assert "nothing left to do" in call("generate", old)
    cards = json.loads(call("train", old, "--json"))
    assert [card["arm"] for card in cards] == ["real-only", "text", "embed-mixup-dropout"]
    assert call("check", old).startswith("sound: 2 shards read, 20 images")
    call("report", old, "--no-metrics")
    now = digests(old)
    changed = {name for name in before if now[name] != before[name]}
    # These are written anew, with what this version knows; images, models and results are what they were.
    assert changed == {"config.yaml", "plan.parquet", "sources.parquet"}


def test_a_run_of_0_1_grows_and_keeps_its_shards(old):
    before = digests(old / "shards")
    assert "20 images made" in call("generate", old, "--set", "plan.per_class=2")
    now = digests(old / "shards")
    assert {name: now[name] for name in before} == before
    assert len(now) == 8


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("generator.steps=2", "generator.steps: the run has 1, this config 2"),
        ("generator.noise_level=3", "generator.own.noise_level: the run has 0, this config 3"),
        ("generator.size=64", "generator.size: the run has 32, this config 64"),
        ("plan.seed=1", "plan.seed: the run has 0, this config 1"),
    ],
)
def test_a_run_of_0_1_is_refused_to_other_settings(old, setting, named):
    with pytest.raises(RunMismatchError, match=named):
        call("generate", old, "--set", setting)
    with pytest.raises(RunMismatchError, match=named.partition(":")[0]):
        call("train", old, "--set", setting)


def test_what_0_1_left_to_be_understood_may_be_spelled_out(old):
    assert "nothing left to do" in call("generate", old, "--set", "generator.size=32", "--set", "output.size=32")


def test_a_model_of_0_1_is_refused_to_other_settings(old):
    with pytest.raises(RunMismatchError, match=r"training\.lr: it has 0\.01, this config 0\.02"):
        call("train", old, "--set", "training.lr=0.02")
