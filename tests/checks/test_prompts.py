"""What prompts call the classes, and a toy that is to draw photos: said before anything is made, by every command."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from typer.testing import CliRunner

from augcond import cli
from augcond.assets import WORLD
from augcond.checks import Look, check_run, ensure_ready
from augcond.cli.output import logged
from augcond.config import kept_text
from augcond.experiments.forecast import forecast
from augcond.pipeline import generate
from augcond.report import ReportSettings, write_report
from augcond.store import RunFolder
from tests.toy import toy_config

TEXT = {"recipe": ["text"]}
BUILTIN = {"name": "stable-unclip", "model": "builtin", "steps": 2, "device": "cpu"}
LIMIT = 16  # of the built-in text encoder


def warnings_of(config):
    found = check_run(Look(config, {"generate"}))
    return [f"{problem.what}: {problem.detail}" for problem in found if not problem.error]


def named(tmp_path, *names):
    path = tmp_path / "names.tsv"
    path.write_text("".join(f"{class_id}\t{name}\n" for class_id, name in zip(("cat", "dog"), names, strict=True)))
    return {"path": tmp_path / "photos", "class_names": path}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("crane", "crane"), "2 classes have one name, 'crane' (cat, dog), so one prompt"),
        (("Crane", "crane"), "2 classes have one name, 'crane'"),
        (("n02085620-Chihuahua", "dog"), "prompts would use names with a WordNet id before them (n02085620-Chihuahua)"),
        (("001.Black footed Albatross", "dog"), "prompts would use names with a number before them"),
        (("7", "dog"), "prompts would use numbers (7)"),
    ],
)
def test_names_that_are_no_words_are_said(tmp_path, names, words):
    toy_config(tmp_path)
    assert any(words in warning for warning in warnings_of(toy_config(tmp_path, data=named(tmp_path, *names))))


def test_a_class_that_gets_no_images_needs_no_words(tmp_path):
    toy_config(tmp_path)
    data = named(tmp_path, "7", "dog")
    assert warnings_of(toy_config(tmp_path, data=data, plan={"per_class": {"dog": 2}})) == []


def test_prompts_that_tell_the_classes_apart_are_fine(tmp_path):
    assert warnings_of(toy_config(tmp_path)) == []


def test_a_template_without_the_class_is_said(tmp_path):
    (warning,) = warnings_of(toy_config(tmp_path, prompt=["a photo", "a {class_name}"]))
    assert "the prompt 'a photo' is the same for every class: write {class_name}" in warning


@pytest.mark.parametrize("own_file", [True, False])
def test_prompts_that_the_text_encoder_does_not_read_to_the_end_are_said(tmp_path, own_file):
    model = "builtin"
    if not own_file:
        # Older checkpoints have vocabulary and merges alone.
        model = str(shutil.copytree(WORLD / "checkpoint", tmp_path / "checkpoint"))
        (tmp_path / "checkpoint" / "tokenizer" / "tokenizer.json").unlink()
    config = toy_config(
        tmp_path,
        prompt=["very " * 20 + "small {class_name}", "a {class_name} " + "very " * 20, "a {class_name}"],
        generator={**BUILTIN, "model": model},
        conditioning=TEXT,
    )
    (cut,) = [warning for warning in warnings_of(config) if "tokens" in warning]
    assert f"4 of 6 prompts are longer than the {LIMIT} tokens that the text encoder reads" in cut
    assert "In 2 of them that is the class name, or a part of it" in cut
    assert "small cat'. In 2" in cut


def test_the_warning_says_where_the_text_encoder_stops(tmp_path):
    from augcond.checks.prompts import _ends
    from augcond.generators import load_generator

    folder = WORLD / "checkpoint" / "tokenizer"
    prompt = "a " * 20 + "sandal"  # each word is a token
    kept = prompt[: _ends([prompt], folder, LIMIT)[prompt]]
    generator = load_generator(toy_config(tmp_path, generator=BUILTIN, conditioning=TEXT).generator)
    whole, cut = (generator._prompts.encode([text])[0] for text in (prompt, kept))
    assert whole.equal(cut)
    assert not whole.equal(generator._prompts.encode([kept.rpartition(" ")[0]])[0])


def test_a_generator_without_prompts_needs_no_words(tmp_path):
    toy_config(tmp_path)
    config = toy_config(
        tmp_path,
        data=named(tmp_path, "7", "7"),
        generator={"name": "kandinsky-2.2", "model": "some/where"},
        conditioning={"recipe": ["image"]},
    )
    assert not any(warning.startswith("prompt") for warning in warnings_of(config))


def test_a_toy_that_is_to_draw_photos_is_said_everywhere(tmp_path, monkeypatch):
    # Twelve recipes by the real networks take seconds.
    monkeypatch.setattr("augcond.experiments.preview.preview", lambda *_, **__: [])
    monkeypatch.setattr("augcond.experiments.preview.contact_sheet", lambda *_: b"")
    config = toy_config(tmp_path, generator=BUILTIN, conditioning=TEXT, plan={"per_class": 1})
    toy = "builtin is a toy that can draw the small garments of its own world and nothing else"
    assert any(toy in warning for warning in warnings_of(config))
    assert any(toy in problem.detail for problem in forecast(config).missing)
    path = tmp_path / "c.yaml"
    path.write_text(kept_text(config))
    runner = CliRunner()
    outputs = {
        "run": runner.invoke(cli.app, ["run", str(path), "--dry"]).output,
        "plan": runner.invoke(cli.app, ["plan", str(path), "--no-timing"]).output,
        "preview": runner.invoke(
            cli.app, ["preview", str(path), "--to", str(tmp_path / "p.png"), "--class", "cat"]
        ).output,
        "generate": runner.invoke(cli.app, ["generate", str(path)]).output,
    }
    assert all(toy in output for output in outputs.values()), outputs
    assert json.loads(runner.invoke(cli.app, ["plan", str(path), "--no-timing", "--json"]).stdout)["warnings"]
    page = write_report(RunFolder(config.run), ReportSettings(metrics=False))
    assert toy in page.read_text()


@pytest.mark.parametrize(
    "sections", [{"generator": {"name": "fake"}}, {"data": {"source": "builtin", "path": None}, "generator": BUILTIN}]
)
def test_a_toy_in_its_own_world_is_fine(tmp_path, sections):
    assert not any("toy" in warning for warning in warnings_of(toy_config(tmp_path, conditioning=TEXT, **sections)))


def test_what_the_checks_find_is_said_once(tmp_path, capsys):
    config = toy_config(tmp_path, prompt="a photo")
    with logged(config):
        ensure_ready(config, {"generate"})
        ensure_ready(config, {"generate"})
        logging.getLogger("augcond.engine").warning("not this")
    said = capsys.readouterr().err
    assert said.count("look at this: prompt: the prompt 'a photo' is the same") == 1
    assert said.count("warning: not this") == 1
    assert not logging.getLogger("augcond.checks").handlers
    assert generate(config).failed == 0
