"""The evidence page: what the repository shows is what its records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.evidence import page, tables
from benchmarks.evidence.measured import read_measured
from benchmarks.evidence.settings import FULL, ROUNDS

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
    assert {tuple(sorted(rounds)) for rounds in tried.values()} == {tuple(sorted(ROUNDS * FULL.tried))}


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
