"""The evidence page: what the repository shows is what its records say."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence import page, tables
from benchmarks.evidence.campaign import NotMeasured
from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.measured import read_measured
from benchmarks.evidence.measuring import trained_and_judged
from benchmarks.evidence.settings import FULL, ROUNDS

from augcond.config import DataConfig
from augcond.datasets.base import names_in
from augcond.datasets.loading import list_images
from augcond.pipeline import evaluate, generate, train
from augcond.store.folder import RunFolder
from tests.training.toys import toy_run

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "results" / "evidence"


def test_the_page_is_what_its_command_makes_of_the_records(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    assert page.main(["--results", str(RECORDS), "--docs", str(tmp_path / "docs"), "--readme", str(readme)]) == 0
    made = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert made == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert readme.read_text(encoding="utf-8") == (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_row_is_the_mean_over_its_records():
    measured = read_measured(RECORDS)
    row = measured.row("long-tail/real-strong", "real-strong")
    by_hand = []
    for path in sorted((RECORDS / "long-tail" / "real-strong").glob("seed-*.json")):
        (model,) = json.loads(path.read_text(encoding="utf-8"))["models"]
        by_hand.append(model["test"]["overall"])
    assert row.seeds == len(by_hand)
    assert row.mean() == pytest.approx(sum(by_hand) / len(by_hand))
    assert tables.accuracy(row).startswith(f"{100 * sum(by_hand) / len(by_hand):.1f}")


def test_records_of_other_weights_are_not_mixed_in(tmp_path, capsys):
    for number, source in enumerate(sorted((RECORDS / "long-tail" / "real-strong").glob("seed-*.json"))[:1] * 2):
        record = json.loads(source.read_text(encoding="utf-8"))
        record["generator"]["revision"] += str(number)
        target = tmp_path / "long-tail" / "real-strong" / f"seed-{number}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        record["unit"] = f"long-tail/real-strong/seed-{number}"
        target.write_text(json.dumps(record), encoding="utf-8")
    assert (
        page.main(["--results", str(tmp_path), "--docs", str(tmp_path / "docs"), "--readme", str(tmp_path / "x")]) == 1
    )
    assert "2 states of the generator's weights" in capsys.readouterr().err


def test_every_tuned_row_was_tried_with_the_same_number_of_settings():
    tried = {}
    for path in (RECORDS / "tuning").rglob("*.json"):
        round_name = path.stem.partition("-")[0]
        tried.setdefault(path.parent.relative_to(RECORDS), []).append(round_name)
    assert tried
    expected = sorted(name for name in ROUNDS for _ in range(FULL.tried[name]))
    assert all(sorted(rounds) == expected for rounds in tried.values())


class _TwoUnits:
    """A campaign whose second unit needs the record of the first."""

    def __init__(self, records):
        self.records = records

    def units(self, tier):
        yield SimpleNamespace(name="first")
        if "first" not in self.records:
            raise NotMeasured("first")
        yield SimpleNamespace(name="second")


class _Counting:
    def __init__(self, records):
        self.records = records
        self.measured = []

    def is_done(self, unit):
        return unit.name in self.records

    def measure(self, unit):
        self.measured.append(unit.name)
        self.records.add(unit.name)
        return {
            "models": [{"arm": "a", "test": None, "validation": {"overall": 0.5}}],
            "seconds": {},
            "images": {"attempted": 0},
        }


def test_a_process_leaves_what_another_is_at_and_waits_for_it_where_it_decides_the_next(tmp_path, monkeypatch):
    records = set()
    measuring = _Counting(records)
    options = SimpleNamespace(tier="a", work=tmp_path, budget_minutes=None)
    with ExitStack() as other:
        other.enter_context(exclusive(tmp_path / "locks" / "first.lock", "held"))

        def other_process_ends(seconds):
            records.add("first")
            other.close()

        monkeypatch.setattr(evidence.time, "sleep", other_process_ends)
        assert evidence.measure_units(_TwoUnits(records), measuring, options) == 0
    assert measuring.measured == ["second"]


def test_a_missing_record_that_no_process_is_at_is_an_error(tmp_path, monkeypatch):
    measuring = _Counting(set())
    monkeypatch.setattr(measuring, "is_done", lambda unit: True)
    with pytest.raises(NotMeasured, match="first"):
        evidence.measure_units(
            _TwoUnits(set()), measuring, SimpleNamespace(tier="a", work=tmp_path, budget_minutes=None)
        )


def test_seeds_of_different_settings_are_no_row(tmp_path, capsys):
    for path in sorted((RECORDS / "long-tail" / "real-strong").glob("seed-[01].json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if path.stem == "seed-1":
            record["models"][0]["settings"]["lr"] *= 2
        target = tmp_path / path.relative_to(RECORDS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(record), encoding="utf-8")
    assert page.main(["--results", str(tmp_path), "--docs", str(tmp_path), "--readme", str(tmp_path / "x")]) == 1
    assert "seeds 0 and 1 were measured with different settings" in capsys.readouterr().err


def test_records_of_other_settings_are_not_shown(tmp_path, capsys):
    shutil.copytree(RECORDS / "tuning" / "long-tail", tmp_path / "tuning" / "long-tail")
    target = tmp_path / "tuning" / "long-tail" / "real-strong" / "own-0.json"
    arguments = ["--results", str(tmp_path), "--docs", str(tmp_path / "docs"), "--readme", str(tmp_path / "x")]
    assert page.main(arguments) == 0
    record = json.loads(target.read_text(encoding="utf-8"))
    record["fingerprint"] = "0" * 64
    target.write_text(json.dumps(record), encoding="utf-8")
    assert page.main(arguments) == 1
    assert "1 records were measured with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["coarse", "wrong-senses"])
def test_names_of_harder_worlds_are_words_that_the_generator_knows(name):
    path = Path(evidence.__file__).parent / "names" / f"{name}.tsv"
    config = DataConfig(source="builtin", class_names=path, several_names=True)
    listing = list_images(config)
    drawn = names_in("|".join(listing.class_names))
    assert set(drawn) == set(listing.classes)
    for class_id, text in zip(listing.classes, listing.class_names, strict=True):
        assert class_id in names_in(text)
    assert 5 <= sum("|" in text for text in listing.class_names) < len(listing.classes)


def test_a_unit_is_trained_and_judged_as_a_run_is(tmp_path):
    """Screened, of two arms and two trainings; what is measured and what lies in the run is what commands leave."""
    screened = {"screening": {"by": "classifier", "rejected_real": 0.5}}
    own, other = (toy_run(tmp_path, run=tmp_path / name, **screened) for name in ("own", "other"))
    generate(own)
    shutil.copytree(own.run, other.run)
    train(own)
    expected = {on: evaluate(own, on=on) for on in ("validation", "test")}
    found, seconds = trained_and_judged(other, ("validation", "test"))
    assert {"train", "evaluate"} == seconds.keys()
    for on, results in expected.items():
        assert [arm.seeds for arm in found[on].arms] == [arm.seeds for arm in results.arms]
    names = [
        sorted(path.relative_to(run).as_posix() for path in run.rglob("*.parquet")) for run in (own.run, other.run)
    ]
    assert names[0] == names[1]
    assert RunFolder(own.run).read_config().training == RunFolder(other.run).read_config().training
