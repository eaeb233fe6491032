"""The tutorial on one's own photos: every block in it, in order, with a tiny real pipeline."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import datasets
import pytest
import yaml

import augcond.__main__ as program
from augcond.config import parse_config
from augcond.testing import save_tiny_stable_unclip
from tests.datasets import layouts

GUIDE = Path(__file__).parents[2] / "docs" / "guide-own-photos.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def contents(language):
    """Return the contents of every block of the guide in this language, in order."""
    found = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    # Nothing in it stands in a block that is not run.
    assert {kind for kind, _ in found} == {"text", "yaml", "bash", "python"}
    return [text for kind, text in found if kind == language]


def test_every_block_of_the_guide_runs_in_order(tmp_path, monkeypatch, capsys):
    (layout,), (config,), (python,) = (contents(kind) for kind in ("text", "yaml", "python"))
    commands = [line for block in contents("bash") for line in block.splitlines()]
    stages = [command.split()[1] for command in commands]
    assert stages[:9] == ["inspect", "run", "preview", "plan", "generate", "status", "check", "train", "evaluate"]

    folders = dict.fromkeys(re.findall(r"^ {4}(\w+)/", layout, re.MULTILINE))
    assert len(folders) == 2
    for seed, (part, class_id, count) in enumerate(
        (part, class_id, count) for part, count in (("train", 4), ("test", 2)) for class_id in folders
    ):
        for number in range(count):
            layouts.put(tmp_path / "photos" / part / class_id / f"{number}.jpg", layouts.jpeg(100 * seed + number))
    values = yaml.safe_load(config)
    # What needs the hub, a GPU or hours; all else is the guide's.
    values["plan"] = {"per_class": 1}
    values["output"] = {}
    save_tiny_stable_unclip(tmp_path / "tiny")
    values["generator"] |= {"model": "./tiny", "steps": 2, "device": "cpu"}
    values["training"] |= {"model": "generator", "weights": None, "steps": 5, "views": 1, "device": "cpu"}
    values["evaluation"] = {"bootstrap": 20}
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)

    outputs = {}
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as stop:
            program.main()
        captured = capsys.readouterr()
        assert not stop.value.code, f"{command}\n{captured.err}"
        outputs[command] = captured.out
    assert "6 images to make" in outputs["augcond run photos.yaml --dry"]
    assert "real-only" in outputs["augcond evaluate runs/photos"]
    assert json.loads((tmp_path / "runs/photos/results.json").read_text())["test_images"] == 4
    assert (tmp_path / "runs/photos/report/index.html").exists()
    assert (tmp_path / "runs/choose/validation.json").exists()
    assert len([*(tmp_path / "synthetic").rglob("*.png")]) == 6

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found = {}
    exec(python, found)  # noqa: S102 - our own guide
    assert len(found["folder"]) == len(found["timms"]) == len(found["images"]) == 6


def test_the_ready_config_is_the_guide_s():
    guide = yaml.safe_load(*contents("yaml"))
    ready = yaml.safe_load((GUIDE.parents[1] / "configs" / "photos.yaml").read_text(encoding="utf-8"))
    # Where photos and runs lie is the one difference, and what the ready one spells out are the defaults.
    for values in (guide, ready):
        values["data"] |= {"path": "photos/train", "test": "photos/test"}
        values["run"] = "runs/photos"
    resolved = [
        parse_config(values, origin="test").model_dump(exclude={"data": {"split"}}) for values in (guide, ready)
    ]
    assert resolved[0] == resolved[1]
