"""The campaign of ideas beyond the paper: its units, equal budgets, and what goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.beyond.campaign import Beyond, whole_amounts
from benchmarks.beyond.settings import NOT_CHOSEN, PILOTS, SMALL
from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.records import FORMAT, write_record
from benchmarks.evidence.settings import FULL


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
            if name in ("useful", "rounds"):
                plan = unit.config.plan
                asked = whole_amounts(
                    unit.config.model_copy(update={"plan": plan.model_copy(update={"rounds": None, "oversample": 1})})
                )
                assert asked == {class_id: amount // 2 for class_id, amount in budget.items()}
                assert (plan.oversample, plan.rounds is not None) == ((2, False) if name == "useful" else (1, True))
            elif unit.synthetic:
                assert whole_amounts(unit.config) == budget, name
        assert len({unit.config.training.steps for unit in of_cell.values()}) == 1
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


def test_the_ideas_that_go_on_did_best_on_validation_images(beyond):
    with pytest.raises(NotMeasured, match="before the second step"):
        list(beyond.units("final"))
    for cell in PILOTS:
        for place, idea in enumerate(SMALL.ideas):
            overall = 0.5 + (0.01 * place if cell is PILOTS[0] else -0.02 * abs(place - 3))
            scores = {"validation": {"overall": overall}, "test": {"overall": 1 - overall}}
            name = f"pilots/{cell.name}/{idea.name}/seed-0"
            write_record(beyond.results, name, {"format": FORMAT, "models": [scores]})
    expected = max(range(len(SMALL.ideas)), key=lambda place: 0.01 * place - 0.02 * abs(place - 3))
    assert [idea.name for idea in beyond.chosen()] == [SMALL.ideas[expected].name]
    assert SMALL.ideas[expected].name not in NOT_CHOSEN
    names = [unit.name for unit in beyond.units("final")]
    assert len(set(names)) == len(names)
    assert f"final/k2-coarse/{SMALL.ideas[expected].name}/training-0/seed-0" in names
