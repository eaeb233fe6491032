"""The guide to one's own photos: its config and every command in it, in order, with a tiny real pipeline."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

import augcond.__main__ as program
from augcond.config import parse_config
from augcond.testing import save_tiny_stable_unclip
from tests.datasets import layouts

GUIDE = Path(__file__).parents[2] / "docs" / "guide-own-photos.md"
COMMAND = re.compile(r"^(?: {4})?(augcond .*)$", re.MULTILINE)


def test_the_guide_s_commands_run_in_order(tmp_path, monkeypatch, capsys):
    text = GUIDE.read_text(encoding="utf-8")
    commands = COMMAND.findall(text)
    stages = [command.split()[1] for command in commands]
    assert stages[:9] == ["inspect", "run", "preview", "plan", "generate", "status", "check", "train", "evaluate"]

    for seed, (part, class_id, count) in enumerate(
        (part, class_id, count) for part, count in (("train", 4), ("test", 2)) for class_id in ("tabby_cat", "sparrow")
    ):
        for number in range(count):
            layouts.put(tmp_path / "photos" / part / class_id / f"{number}.jpg", layouts.jpeg(100 * seed + number))
    values = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
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


def test_the_ready_config_is_the_guide_s():
    guide = yaml.safe_load(re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL).group(1))
    ready = yaml.safe_load((GUIDE.parents[1] / "configs" / "photos.yaml").read_text(encoding="utf-8"))
    # Where photos and runs lie is the one difference, and what the ready one spells out are the defaults.
    for values in (guide, ready):
        values["data"] |= {"path": "photos/train", "test": "photos/test"}
        values["run"] = "runs/photos"
    resolved = [
        parse_config(values, origin="test").model_dump(exclude={"data": {"split"}}) for values in (guide, ready)
    ]
    assert resolved[0] == resolved[1]
