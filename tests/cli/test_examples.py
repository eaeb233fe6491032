"""Every command's help has an example; each is understood, and run on a small project in the slow test."""

from __future__ import annotations

import shlex
import sys
from itertools import product

import pytest
import typer.main
import yaml

import augcond.__main__ as program
from augcond.cli import app
from tests.toy import hash_of, png

COMMANDS = typer.main.get_command(app).commands
FIRST = ("init", "generate", "train", "evaluate")
"""Others need what these make."""
TOO_LONG = {"demo": "tests/experiments/test_demo.py runs it"}


def example_of(name: str) -> list[str]:
    """Return the words of a command's example, up to where the shell takes over."""
    lines = [line.strip() for line in COMMANDS[name].help.splitlines() if line.strip().startswith("Example: ")]
    assert len(lines) == 1, f"augcond {name} --help has no example, or several"
    words = shlex.split(lines[0].removeprefix("Example: "))
    assert words[:2] == ["augcond", name]
    ends = [place for place, word in enumerate(words) if word in (">", "|", "&&")]
    return words[2 : min(ends, default=None)] if ends else words[2:]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_one_that_it_takes(name):
    COMMANDS[name].make_context(name, example_of(name))


@pytest.mark.slow
def test_every_example_works(tmp_path, monkeypatch, capsys):
    for part, class_id, number in product(("train", "test"), ("cat", "dog"), range(6)):
        path = tmp_path / "photos" / part / class_id / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(hash_of(part, class_id, number)))
    config = {
        "data": {"path": "photos/train", "test": "photos/test", "split": {"validation_per_class": 2}},
        "plan": {"per_class": 2},
        "conditioning": {"recipe": ["text", "mixup"]},
        "generator": {"name": "fake"},
        "training": {"steps": 2, "seeds": 2, "batch_size": 4, "device": "cpu"},
        "run": "runs/my-photos",
    }
    (tmp_path / "keys.txt").write_text("cat/0/mixup\n")
    monkeypatch.chdir(tmp_path)
    for name in [*FIRST, *(name for name in COMMANDS if name not in FIRST and name not in TOO_LONG)]:
        monkeypatch.setattr(sys, "argv", ["augcond", name, *example_of(name)])
        with pytest.raises(SystemExit) as stop:
            program.main()
        assert not stop.value.code, f"{name}: {capsys.readouterr().err}"
        if name == "init":  # what it wrote takes a GPU
            (tmp_path / "photos.yaml").write_text(yaml.safe_dump(config))
