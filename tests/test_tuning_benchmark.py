"""The benchmark of `augcond tune`: its units, its page, its simulation, and the whole chain where there is time."""

import pytest
from benchmarks import tuning, tuning_coverage, tuning_page
from benchmarks.evidence.records import FORMAT, read_records, write_record


def records(folder, pairs=4):
    for seed in range(pairs):
        name = f"2-shot-named/seed-{seed}"
        grid = {"real-only": 0.5, "as-configured": 0.6, "embed-cutmix-dropout,guidance=2": 0.4, "text,guidance=4": 0.7}
        for candidate, value in grid.items():
            unit = f"{name}/grid/{candidate}"
            validation = 1 - value
            write_record(folder, unit, {"format": FORMAT, "unit": unit, "test": [value], "validation": [validation]})
        chosen = "as-configured" if seed else "real-only"
        found = {"gain": {"mean": 0.05, "low": 0.0, "high": 0.2 if seed % 2 else 0.06}}
        write_record(folder, f"{name}/tune-500", {"format": FORMAT, "unit": f"{name}/tune-500", **found})
        outcome = {"chosen": chosen, "test": [grid[chosen]], "validation": [0.0]}
        write_record(folder, f"{name}/outcome-500", {"format": FORMAT, "unit": f"{name}/outcome-500", **outcome})


def test_regrets_and_honesty_are_read_off_the_records(tmp_path):
    records(tmp_path / "results")
    studies = tuning_page.studies_of(tmp_path / "results")
    assert len(studies) == 4
    regrets = studies[1].regrets()
    assert regrets["augcond tune, 500 images"] == pytest.approx(10)
    assert regrets["real images alone"] == pytest.approx(20)
    assert regrets["the grid, by validation images"] == pytest.approx(30)
    text = tuning_page.text_of(studies)
    assert "real images alone were chosen in 1 of 4 pairs" in text
    # A gain of 10 points lies within two of the other three intervals.
    assert "in 2 (67 %" in text
    assert "| the paper's default, guidance 2 | 30.0 | 30.0 | 30.0 | 4 of 4 |" in text


def test_the_page_is_written_between_its_marks(tmp_path):
    page, figure = tmp_path / "page.md", tmp_path / "img" / "regret.svg"
    page.write_text(f"before\n{tuning_page._MARKS[0]}\nold\n{tuning_page._MARKS[1]}\nafter\n")
    tuning_page.write(tmp_path / "none", page, figure)
    assert "Nothing is measured yet." in page.read_text() and not figure.exists()
    records(tmp_path / "results")
    tuning_page.write(tmp_path / "results", page, figure)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert figure.stat().st_size > 1000
    page.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        tuning_page.write(tmp_path / "results", page, figure)


def test_binomial_intervals():
    # Wilson's interval of 9 of 10, as in textbooks.
    assert tuning_page.wilson(9, 10) == pytest.approx((0.596, 0.982), abs=1e-3)


def test_there_are_forty_pairs_and_an_outcome_comes_after_its_tuning(tmp_path):
    assert len(tuning.WORLDS) * tuning.Scale().seeds >= 40
    pairs, missing = tuning.pairs_of(tuning.Scale(seeds=1), tmp_path, tmp_path)
    assert len(pairs) + len(missing) == len(tuning.WORLDS)
    names = [unit.name.rpartition("/")[2] for unit in pairs[0].units()]
    assert len(names) == len(set(names))
    assert names.index("tune-500") < names.index("outcome-500")
    assert {"real-only", "as-configured", "embed-cutmix-dropout,guidance=2", "tune-2000"} < set(names)


def test_a_simulated_round_is_the_same_each_time():
    cell = tuning_coverage.Cell((4, 4), 3, 1.0, 4)
    one = tuning_coverage.simulate(cell, 1)
    assert one == tuning_coverage.simulate(cell, 1) != tuning_coverage.simulate(cell, 2)
    assert {"cross-fitted", "not cross-fitted"} <= set(one) <= set(tuning_coverage.KINDS)


@pytest.mark.slow
def test_the_whole_chain_runs_and_resumes(tmp_path):
    command = ["--smoke", "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert tuning.main(command) == 0
    found = {record["unit"]: record for record in read_records(tmp_path / "results")}
    assert len(found) == 6
    assert tuning.main(command) == 0
    assert {record["unit"]: record for record in read_records(tmp_path / "results")} == found
    assert "1 pairs" in tuning_page.text_of(tuning_page.studies_of(tmp_path / "results"))
