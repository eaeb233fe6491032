"""The page of a sweep, on a small one of the fake generator."""

import csv
import re

import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.config import load_config
from augcond.errors import CorruptRunError
from augcond.evaluation.results import read_results
from augcond.experiments.axes import parse_axis
from augcond.experiments.sweep import sweep
from augcond.report import write_report
from augcond.store import RunFolder
from tests.report.test_report import parse, text_of
from tests.training.toys import toy_run


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    config = toy_run(tmp_path_factory.mktemp("sweep"), conditioning={"recipe": "mixup"}, training={"steps": 1})
    return config, sweep(config, [parse_axis("plan.per_class=0,2,4")], seeds=2)


@pytest.fixture(scope="module")
def page(swept):
    return write_report(RunFolder(swept[0].run))


def test_arms_keep_the_settings_and_times_of_their_cells(swept):
    config, results = swept
    assert [dict(arm.settings) for arm in results.arms] == [{}, {"plan.per_class": 2}, {"plan.per_class": 4}]
    assert read_results(config.run / "sweep.json") == results
    assert all(seed.training_seconds > 0 < seed.evaluation_seconds for arm in results.arms for seed in arm.seeds)


def test_the_page_has_a_curve_per_axis_and_every_gain_with_its_baseline(page):
    text = text_of(page)
    assert "Overall accuracy over synthetic images per class" in text
    assert "mixup per_class=4" in text and "training of 6 models" in text
    assert "These are validation images" in text
    # Two seeds decide nothing, and the first thing said is that.
    assert "What it shows Too few seeds to decide (2 of 2): mixup per_class=2 " in text
    names = {path.name for path in (page.parent / "figures").iterdir()}
    stems = ("over-plan-per_class", "accuracy-gain")
    assert names == {f"{name}.{kind}" for name in stems for kind in ("png", "svg", "pdf")}


def test_a_swept_key_has_a_column_in_every_table(swept, page):
    folder, results = swept[0].run, swept[1]
    lines = list(csv.DictReader((folder / "sweep.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["plan.per_class"] for line in lines] == ["", "2", "4"]
    assert [float(line["overall"]) for line in lines] == [arm.mean.overall for arm in results.arms]
    assert (folder / "sweep.md").read_text(encoding="utf-8").startswith("| arm | plan.per_class | seeds |")
    assert r"arm & plan.per\_class & seeds" in (folder / "sweep.tex").read_text(encoding="utf-8")
    assert (page.parent / "results.tex").read_text(encoding="utf-8") == (folder / "sweep.tex").read_text(
        encoding="utf-8"
    )


def test_the_page_says_what_repeats_the_sweep(swept, page):
    command = "augcond sweep config.yaml --over plan.per_class=0,2,4 --seeds 2 --on validation"
    assert command in text_of(page)
    kept = load_config(swept[0].run / "sweep.yaml")
    assert kept.training == swept[0].training and kept.run == swept[0].run
    assert "licence of the generator" in text_of(page) and "commit of augcond" in text_of(page)


def test_the_page_is_whole_and_asks_nothing_of_any_other_place(page):
    found = parse(page)
    links = [a["href"] for a in found.of("a") if not a["href"].startswith("#")]
    assert links and all((page.parent / name).is_file() for name in links)
    anchors = {a["href"][1:] for a in found.of("a") if a["href"].startswith("#")}
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert anchors <= set(ids) and len(ids) == len(set(ids))
    assert not found.of("script")
    addresses = re.findall(r"""(?:https?:)?//[^\s"'<>)]+""", page.read_text(encoding="utf-8"))
    assert all(address.startswith("http://www.w3.org/") for address in addresses)


def test_the_commands_end_with_the_page(swept, page):
    config, _ = swept
    done = CliRunner().invoke(app, ["report", str(config.run)])
    assert done.exit_code == 0 and done.stdout.strip() == str(page)
    cell = config.run / "cells" / "synthetic" / "plan.per_class=2" / "seed-0"
    arguments = ["sweep", str(cell / "config.yaml"), "--set", f"run={config.run.parent / 'other'}"]
    done = CliRunner().invoke(app, [*arguments, "--over", "plan.per_class=1,2", "--seeds", "1"])
    assert done.exit_code == 0, done.output
    assert (config.run.parent / "other" / "report" / "index.html").is_file()
    assert "trained" in (config.run.parent / "other" / "log.txt").read_text(encoding="utf-8")
    assert str(config.run.parent / "other" / "report" / "index.html") in done.stdout.replace("\n", "")


def test_a_broken_table_leaves_the_old_page(swept, page, tmp_path):
    path = swept[0].run / "sweep.json"
    whole = path.read_text()
    path.write_text("{")
    before = page.read_bytes()
    with pytest.raises(CorruptRunError, match=r"sweep\.json"):
        write_report(RunFolder(swept[0].run))
    assert page.read_bytes() == before
    path.write_text(whole)


def test_a_changed_table_of_a_sweep_is_made_anew_by_sweep(tmp_path):
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(CorruptRunError, match=r"sweep\.json is not what augcond wrote.*run augcond sweep again"):
        write_report(RunFolder(tmp_path))
