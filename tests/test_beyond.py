"""The campaign of ideas beyond the paper: its units, equal budgets, and what goes on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.beyond import __main__ as command
from benchmarks.beyond import page
from benchmarks.beyond.campaign import STEPS, Beyond, whole_amounts
from benchmarks.beyond.settings import IDEAS, PILOTS, SMALL, WHOLE
from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.measured import Measured, compared
from benchmarks.evidence.measuring import without_folders
from benchmarks.evidence.records import FORMAT, pack_labels, read_records, write_record
from benchmarks.evidence.settings import FULL
from benchmarks.evidence.units import images_keys

from augcond.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def beyond(tmp_path):
    tuned = Campaign(FULL, evidence.RESULTS, tmp_path, "0", 1)
    return Beyond(SMALL, tmp_path / "results", tuned, tmp_path, "0")


def test_every_pilot_makes_as_many_images_as_its_baseline(beyond):
    units = {unit.name: unit for unit in beyond.units("pilots")}
    for cell in PILOTS:
        of_cell = {name.split("/")[2]: unit for name, unit in units.items() if name.startswith(f"pilots/{cell.name}/")}
        assert {idea.name for idea in SMALL.ideas} < of_cell.keys()
        budget = whole_amounts(of_cell["text"].config)
        for name, unit in of_cell.items():
            recipes = unit.config.training.arms[0].recipes
            # Of two recipes each gives half of its images.
            assert len(recipes) == (2 if name.startswith("half-text") else min(1, len(recipes)))
            if "useful" in name or name == "rounds":
                plan = unit.config.plan
                asked = whole_amounts(
                    unit.config.model_copy(update={"plan": plan.model_copy(update={"rounds": None, "oversample": 1})})
                )
                assert asked == {class_id: amount // 2 for class_id, amount in budget.items()}
                assert (plan.oversample, plan.rounds is not None) == ((1, True) if name == "rounds" else (2, False))
            elif unit.synthetic:
                assert whole_amounts(unit.config) == budget, name
        assert len({unit.config.training.steps for unit in of_cell.values()}) == 1
        # A probe is trained on the very images of the row of its recipe, in the way that the evidence has tuned.
        own, row = (of_cell[name].config.model_dump(mode="json") for name in ("probe-dropout", "dropout"))
        assert images_keys(own) == images_keys(row)
        assert of_cell["probe"].config.training.weight_decay == of_cell["probe-text"].config.training.weight_decay
    assert len({unit.fingerprint for unit in units.values()}) == len(units)
    coarse = units["pilots/k2-coarse/text/seed-0"].config
    assert (coarse.data.class_names.name, coarse.data.several_names) == ("coarse.tsv", True)


def test_where_files_lie_is_no_part_of_what_is_measured(beyond, monkeypatch):
    def fingerprints():
        return [unit.fingerprint for unit in beyond.units("senses")]

    before = fingerprints()
    elsewhere = Path(str(beyond.work)) / "elsewhere"
    (elsewhere / "names").mkdir(parents=True)
    for path in (Path(evidence.__file__).parent / "names").iterdir():
        (elsewhere / "names" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("benchmarks.evidence.units.__file__", str(elsewhere / "units.py"))
    assert fingerprints() == before
    path = elsewhere / "names" / "wrong-senses.tsv"
    path.write_text(path.read_text() + "# other contents\n")
    assert set(fingerprints()).isdisjoint(before)


def write_pilots(beyond, validation):
    for unit in beyond.units("pilots"):
        row = unit.name.split("/")[2]
        write_record(beyond.results, unit.name, record_of(unit, validation.get(row, 0.5)))


def record_of(unit, accuracy, wrong=()):
    """Return a record as of a unit; the test images at the places `wrong` are not recognised."""
    values = unit.config.model_dump(mode="json", exclude={"run"})
    (arm,) = unit.config.training.arms
    labels = [place % 10 for place in range(60)]
    predicted = [(label + 1) % 10 if place in wrong else label for place, label in enumerate(labels)]
    shares = {"overall": accuracy, "class_mean": accuracy, "many": accuracy, "medium": accuracy, "few": accuracy}
    models = [
        {
            "arm": arm.name,
            "seeds": {"split": values["data"]["split"]["seed"], "generation": values["plan"]["seed"], "training": seed},
            "real_counts": [2] * 10,
            "settings": values["training"],
            "screened_out": 0,
            "synthetic_images": 4,
            "validation": shares,
            "test": shares,
            "predicted": pack_labels(predicted),
        }
        for seed in unit.config.training.training_seeds
    ]
    return {
        "format": FORMAT,
        "unit": unit.name,
        "fingerprint": unit.fingerprint,
        "leaks": [],
        "versions": {"torch": "1"},
        "machine": {"cores": 2, "threads": 1},
        "classes": list("abcdefghij"),
        "config": values,
        "models": models,
        "test": {"labels": pack_labels(labels), "keys_sha256": "0"},
        "generator": {"name": "g", "model": "m", "revision": "r"},
        "seconds": {"generate": 1800.0, "train": 1800.0},
        "images": {"attempted": 4, "failed": 0},
    }


def test_a_record_does_not_tell_where_files_lie(beyond):
    for unit in beyond.units("pilots"):
        values = without_folders(unit.config)
        assert str(unit.config.run.parent) not in json.dumps(values)
        assert values["plan"]["rounds"] in (None, "rounds.json")
        assert values["data"]["class_names"] in (None, "coarse.tsv")
    folders = (ROOT / "benchmarks" / "results").rglob("*.json")
    assert not [path for path in folders if re.search(r'"/\w', path.read_text(encoding="utf-8"))]


def test_the_ideas_that_go_on_did_best_on_validation_images(beyond):
    with pytest.raises(NotMeasured, match="before the second step"):
        list(beyond.units("final"))
    guessing = replace(beyond, guess=True)
    assert len(guessing.chosen()) == 2
    write_pilots(beyond, {"probe": 0.9, "across": 0.7, "useful": 0.65, "dropout": 0.6, "phased": 0.55})
    # No idea of how to train is better than what it changes.
    assert [idea.name for idea in beyond.chosen()] == ["across", "useful"]
    # What is left is listed by what was measured, as soon as it is.
    assert guessing.chosen() == beyond.chosen()
    names = [unit.name for unit in beyond.units("final")]
    assert len(set(names)) == len(names)
    assert "final/k2-coarse/across/seed-1" in names
    assert not {"probe", "phased"} & {name.split("/")[2] for name in names}
    # No model that helped to choose is measured.
    seeds = {step: {unit.config.data.split.seed for unit in beyond.units(step)} for step in STEPS}
    assert not seeds["pilots"] & seeds["final"] and seeds["senses"] <= seeds["final"]


def test_the_best_images_and_the_best_training_go_on_together(beyond):
    write_pilots(beyond, {"useful": 0.7, "tilted": 0.65, "adjusted": 0.64, "dropout": 0.6})
    assert [idea.name for idea in beyond.chosen()] == ["useful", "useful+tilted"]
    units = {unit.name: unit for unit in beyond.units("final")}
    both = units["final/long-tail-coarse/useful+tilted/seed-1"].config
    alone = units["final/long-tail-coarse/useful/seed-1"].config
    assert (both.plan.oversample, both.screening.by) == (2, "classifier")
    assert both.plan.per_class == alone.plan.per_class
    assert both.training.arms[0].overrides["synthetic_tilt"] == 0.5
    assert len(both.training.training_seeds) == SMALL.trainings == 2


def test_kinds_of_prompts_share_images_where_they_name_a_class_alike(beyond):
    units = {unit.name: unit.config.model_dump(mode="json") for unit in beyond.units("senses")}
    write_pilots(beyond, {})
    units |= {unit.name: unit.config.model_dump(mode="json") for unit in beyond.units("final")}
    one, other = (f"{start}/text/seed-1" for start in ("final/k2-coarse", "senses/k2-wrong-senses"))
    assert images_keys(units[one]) == images_keys(units[other])
    # Images of `text` have no sources, so that splits share them; those of recipes with sources are of one split.
    assert images_keys(units[one]) == images_keys(units["final/long-tail-coarse/text/seed-1"])
    own = {start: images_keys(units[f"final/{start}-coarse/dropout/seed-1"]) for start in ("k2", "long-tail")}
    assert not set(own["k2"]) & set(own["long-tail"])


def test_a_row_of_several_trainings_is_the_mean_of_each_seed(beyond):
    write_pilots(beyond, {})
    name = "final/k2-coarse/text/seed-1"
    unit = next(unit for unit in beyond.units("final") if unit.name == name)
    record = record_of(unit, 0.5)
    record["models"][1]["test"] = {**record["models"][1]["test"], "overall": 0.7}
    row = Measured([record]).row("final/k2-coarse/text", "text")
    assert (row.seeds, row.mean()) == (1, pytest.approx(0.6))
    assert len(row.trained()) == 2 == len(record["models"])
    beside = next(unit for unit in beyond.units("final") if unit.name == "final/k2-coarse/dropout/seed-1")
    other = Measured([record_of(beside, 0.5, wrong=(0, 1))]).row("final/k2-coarse/dropout", "dropout")
    (found,) = compared([(row, other)])
    assert (found.seeds, found.low) == (1, None)
    # Of both its trainings.
    record = record_of(beside, 0.5, wrong=(0, 1))
    record["models"][1] = {**record["models"][1], "predicted": record_of(beside, 0.5)["models"][1]["predicted"]}
    (half,) = compared([(row, Measured([record]).row("final/k2-coarse/dropout", "dropout"))])
    assert half.mean == pytest.approx(found.mean / 2) and found.mean == pytest.approx(2 / 60)


def test_the_page_is_what_its_command_makes_of_the_records(tmp_path):
    beyond = Beyond(WHOLE, command.RESULTS, Campaign(FULL, evidence.RESULTS, tmp_path, "0", 1), tmp_path, "0")
    records = list(read_records(command.RESULTS)) if command.RESULTS.is_dir() else []
    assert page.page_of(beyond, records, tmp_path) == (ROOT / "docs" / "beyond.md").read_text(encoding="utf-8")


def test_the_page_tells_what_is_missing_what_went_on_and_what_led_nowhere(beyond, tmp_path):
    write_pilots(beyond, {"useful": 0.7, "tilted": 0.65, "dropout": 0.6})
    page.write(beyond, tmp_path / "docs")
    text = (tmp_path / "docs" / "beyond.md").read_text(encoding="utf-8")
    pilots = len(list(beyond.units("pilots")))
    assert f"| pilots | {pilots} | {pilots} | {pilots:.1f} |" in text
    assert "Not complete: final, senses." in text
    assert "not measured yet" not in text.partition("## Pilots")[2].partition("## A probe")[0]
    assert "| `real-strong` | 1 | 50.0 |" in text and "| `ceiling` | 1 | 50.0 |" in text
    assert "**Went on: `useful`, `useful+tilted`.**" in text
    assert "- `across`, k = 2, coarse: " in text and "- `useful`, k = 2" not in text
    for unit in beyond.units("final"):
        better = "useful" in unit.name
        write_record(beyond.results, unit.name, record_of(unit, 0.9 if better else 0.5, () if better else (3, 4)))
    page.write(beyond, tmp_path / "docs")
    text = (tmp_path / "docs" / "beyond.md").read_text(encoding="utf-8")
    # One seed decides nothing, whatever it gains.
    assert "- `useful+tilted`: not reached: long tail " in text and "above `text`: 0 at k = 2." in text
    assert "Not complete: senses." in text
    assert (tmp_path / "docs" / "img" / "beyond" / "gains.svg").stat().st_size > 1000
    assert {f"`{idea.name}`" for idea in IDEAS} <= set(text.replace("|", " ").split())


def test_records_of_other_settings_make_no_page(beyond, tmp_path):
    unit = next(beyond.units("pilots"))
    write_record(beyond.results, unit.name, {**record_of(unit, 0.5), "fingerprint": "another"})
    with pytest.raises(ValueError, match=f"such as {unit.name}"):
        page.write(beyond, tmp_path / "docs")


class _Measuring:
    def __init__(self, failing):
        self.done, self.failing = [], failing

    def is_done(self, unit):
        return unit.name in self.done

    def measure(self, unit):
        if unit.name == self.failing:
            raise ConfigError("no")
        self.done.append(unit.name)
        return {"models": [{"arm": "a", "test": {"overall": 0.5}}], "seconds": {}, "images": {"attempted": 0}}


def test_a_step_ends_once_others_are_done_too_and_goes_on_past_what_fails(beyond, tmp_path, monkeypatch):
    first, second, *rest = [unit.name for unit in beyond.units("senses")]
    measuring = _Measuring(second)
    other = exclusive(tmp_path / "locks" / f"{first}.lock", "held")
    other.__enter__()

    def other_process_ends(seconds):
        assert set(measuring.done) == set(rest)
        other.__exit__(None, None, None)

    monkeypatch.setattr(command.time, "sleep", other_process_ends)
    assert command._work_through(beyond, measuring, "senses", tmp_path, float("inf")) == 1
    assert measuring.done == [*rest, first]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_chain_runs_and_resumes(tmp_path):
    """Ideas that are paths of their own: keeping, rounds, how to train; and the probe."""
    names = ("useful", "rounds", "phased", "probe", "probe-text", "probe-dropout")
    size = replace(SMALL, ideas=tuple(idea for idea in SMALL.ideas if idea.name in names))
    options = ["--smoke", "--work", str(tmp_path)]
    assert command.main(options, size) == 0
    found = {record["unit"]: record for record in read_records(tmp_path / "smoke" / "results")}
    assert {name.partition("/")[0] for name in found} == set(STEPS)
    assert all(record["images"]["failed"] == 0 for record in found.values())
    assert command.main(options, size) == 0
    assert {record["unit"]: record for record in read_records(tmp_path / "smoke" / "results")} == found
    text = (tmp_path / "smoke" / "docs" / "beyond.md").read_text(encoding="utf-8")
    assert "Not complete" not in text and "not measured yet" not in text
