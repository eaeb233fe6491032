"""The README: its Python example runs as it stands, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.toy import write_photos

README = Path(__file__).parents[2] / "README.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found.group(1)


def test_config_and_python_of_the_readme_work(tmp_path, monkeypatch, capsys):
    write_photos(tmp_path / "photos" / "train", {"cat": 2, "dog": 2})
    config = yaml.safe_load(block("yaml"))
    config["generator"] = {"name": "fake"}
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})  # noqa: S102 - our own README
    assert capsys.readouterr().out.strip() == "32 0 {}"


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert len(local) > 10
    assert [link for link in local if not (README.parent / link).exists()] == []
