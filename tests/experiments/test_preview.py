"""Previews take few steps, unless somebody asks for more."""

import pytest

from augcond.config import parse_config
from augcond.experiments.preview import in_few_steps


@pytest.mark.parametrize(("steps", "strength", "expected"), [(20, 0.5, 8), (5, 0.5, 5), (50, 0.04, 25), (8, 1.0, 8)])
def test_few_steps_are_enough_to_look_at(steps, strength, expected):
    values = {"generator": {"steps": steps}, "conditioning": {"strength": strength}}
    config = parse_config({**values, "data": {"source": "builtin"}, "run": "r"})
    assert in_few_steps(config).generator.steps == expected
    assert expected * strength >= 1 or steps * strength < 1


@pytest.mark.parametrize(("asked", "expected"), [((), 5), (("--set", "generator.steps=13"), 13)])
def test_the_command_says_how_many(tmp_path, monkeypatch, asked, expected):
    from typer.testing import CliRunner

    from augcond.cli import app

    seen = []

    def load(config, **_):
        seen.append(config.steps)
        raise RuntimeError("enough")

    monkeypatch.setattr("augcond.generators.load_generator", load)
    config = tmp_path / "c.yaml"
    config.write_text(f"data: {{source: builtin}}\nrun: {tmp_path / 'run'}\n")
    CliRunner().invoke(app, ["preview", str(config), "--to", str(tmp_path / "p.png"), *asked])
    assert seen == [expected]
