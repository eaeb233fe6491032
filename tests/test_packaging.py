"""What says the same in several files does say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_that_of_the_project():
    assert yaml.safe_load(text("CITATION.cff"))["version"] == PROJECT["version"]


def test_every_file_installs_the_same_pytorch():
    found = {name: set(re.findall(r"torch(?:vision)?==[0-9.]+", text(name))) for name in ("Makefile", "Dockerfile")}
    assert len(found["Makefile"]) == 2
    assert found["Dockerfile"] == found["Makefile"]
    bounds = {name.partition(">=")[0]: name.rpartition("<=")[2] for name in PROJECT["dependencies"]}
    assert {f"torch=={bounds['torch']}", f"torchvision=={bounds['torchvision']}"} == found["Makefile"]


def test_the_pythons_are_those_that_are_named():
    named = [entry.rpartition(" ")[2] for entry in PROJECT["classifiers"] if "Python :: 3." in entry]
    assert named == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert f"Python {named[0]} to {named[-1]}" in text("README.md")
    assert re.findall(r"FROM python:(3[.][0-9]+)-", text("Dockerfile"))[0] in named
