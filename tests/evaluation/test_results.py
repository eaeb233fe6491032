"""Results as files and as text."""

import json
from dataclasses import replace

import pytest

from augcond.errors import CorruptRunError
from augcond.evaluation.results import Difference, read_results, share_text, write_results
from augcond.evaluation.verdicts import how_judged
from tests.report.runs import make_results


def test_results_are_read_as_they_were_written(tmp_path):
    results = make_results()
    path = tmp_path / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    assert read_results(path).arms[0].seeds[0].training_seconds == 30.0
    values = json.loads(path.read_text())
    del values["seal"]  # as 0.1 wrote them
    del values["arms"][0]["seeds"][0]["training_seconds"]
    path.write_text(json.dumps(values))
    with pytest.raises(CorruptRunError, match="is not what augcond wrote"):
        read_results(path)


def test_a_thousand_classes_fit_into_a_few_megabytes(tmp_path):
    """Fifty test images a class, of which at most fifty cells of a million are anything but 0."""
    first = make_results().arms[0]
    cells = tuple((true, (true + 7 * step) % 1000, 5) for true in range(1000) for step in range(10))
    seeds = tuple(replace(seed, confusion=tuple(sorted(cells))) for seed in first.seeds * 3)
    results = make_results(arms=(replace(first, seeds=seeds),), differences=())
    path = tmp_path / "results.json"
    write_results(path, results)
    assert path.stat().st_size < 1_000_000
    assert read_results(path) == results


def test_confusions_of_format_3_are_read(tmp_path):
    results = make_results()
    path = tmp_path / "results.json"
    write_results(path, results)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["format"] = 3
    del values["seal"], values["provenance"]
    for arm in values["arms"]:
        del arm["setup"]
        for seed in arm["seeds"]:
            del seed["added_counts"]
            seed["confusion"] = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_results(path) == results


def test_a_gain_is_over_the_arm_that_is_asked_for():
    over = [Difference("image", name, "overall", 0.1, (0.1, 0.1)) for name in ("real-only", "text")]
    results = make_results(differences=(Difference("image", "real-only", "few", 0.3, (0.3, 0.3)), *over))
    assert results.gain("image") == results.gain("image", "real-only") == over[0]
    assert results.gain("image", "text") == over[1]
    assert results.gain("image", "mixup") is results.gain("more-real") is None


def test_shares_and_gains_in_words():
    assert share_text(0.6151, 0.0082) == "61.5 ± 0.8"
    assert share_text(0.6151) == "61.5"
    assert share_text(None, 0.1) == "-"
    sure = Difference("a", "b", "overall", 0.021, (0.02, 0.022, 0.021), low=0.008, high=0.034)
    assert sure.text == "+2.1 (+0.8 to +3.4)"


def test_intervals_of_older_results_are_left_out(tmp_path):
    """Those were a bootstrap's; what each seed gained is taken from the accuracies."""
    path = tmp_path / "results.json"
    write_results(path, make_results())
    values = json.loads(path.read_text(encoding="utf-8"))
    values["format"] = 2
    del values["seal"]
    for arm in values["arms"]:
        del arm["interval"]
    del values["missing"]
    old = {"arm": "image", "baseline": "real-only", "metric": "overall", "mean": 0.11, "low": 0.04, "high": 0.18}
    values["differences"] = [old | {"seeds": 2}]
    path.write_text(json.dumps(values), encoding="utf-8")
    (found,) = read_results(path).differences
    assert (found.low, found.high, found.p, found.verdict) == (None, None, None, "not judged")
    assert found.per_seed == pytest.approx((0.1, 0.12))
    assert "run augcond evaluate again" in found.text and "run augcond evaluate again" in how_judged(read_results(path))
