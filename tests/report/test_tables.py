"""Every number that leaves a run is one of its results."""

import csv
import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.evaluation.differences import METRICS
from augcond.evaluation.results import read_results
from augcond.report.tables import latex, table_files, to_latex, to_markdown
from tests.report.runs import arm, gain, make_results
from tests.report.test_report import parse

ENDINGS = (".csv", ".md", ".tex", "-differences.csv", "-seeds.csv")


@pytest.fixture(scope="module")
def results(trained):
    return read_results(trained.run / "results.json")


def rows(page, name):
    return list(csv.DictReader((page.parent / name).read_text(encoding="utf-8").splitlines()))


def number(text):
    return None if text == "" else float(text)


def test_csv_has_every_number_as_measured(trained_page, results):
    for line, one in zip(rows(trained_page, "results.csv"), results.arms, strict=True):
        assert line["arm"] == one.name and int(line["seeds"]) == 3
        for metric in METRICS:
            assert number(line[metric]) == getattr(one.mean, metric)
            assert number(line[f"spread of {metric}"]) == getattr(one.spread, metric)
        found = results.gain(one.name)
        if found:
            told = [number(line[key]) for key in ("gain", "gain low", "gain high", "p")]
            assert told == [found.mean, found.low, found.high, found.p] and line["verdict"] == found.verdict
        setup = one.setup
        assert (line["loss"], line["counts"], line["overrides"]) == (
            setup.loss,
            setup.counts,
            "; ".join(setup.overrides),
        )
        assert (int(line["steps"]), int(line["batch size"])) == (one.steps, setup.batch_size)
    lines = rows(trained_page, "results-differences.csv")
    assert len(lines) == len(results.differences) > 10
    for line, one in zip(lines, results.differences, strict=True):
        told = [number(line[key]) for key in ("difference", "low", "high", "p")]
        assert told == [one.mean, one.low, one.high, one.p]
        assert (line["arm"], line["baseline"], line["metric"]) == (one.arm, one.baseline, one.metric)
    seeds = [seed for one in results.arms for seed in one.seeds]
    for line, seed in zip(rows(trained_page, "results-seeds.csv"), seeds, strict=True):
        assert [number(line[metric]) for metric in METRICS] == [getattr(seed.metrics, metric) for metric in METRICS]


def test_latex_and_markdown_have_the_same_numbers(results):
    for text in (to_latex(results), to_markdown(results)):
        for one in results.arms:
            line = next(line for line in text.splitlines() if one.name in line and ("&" in line or "|" in line))
            for name in ("overall", "class_mean", "many", "medium", "few"):
                assert f"{100 * getattr(one.mean, name):.1f}" in line
            if found := results.gain(one.name):
                assert all(f"{100 * value:+.1f}" in line for value in (found.mean, found.low, found.high))


def test_the_page_has_the_same_numbers(trained_page, results):
    text = re.sub(r"\s+", " ", " ".join(parse(trained_page).texts))
    for one in results.differences:
        if one.metric in ("overall", "many", "medium", "few"):
            assert f"{100 * one.mean:+.1f} ({one.interval})" in text
    for one in results.arms:
        for seed in one.seeds:
            assert f"{100 * seed.metrics.overall:.1f}" in text
        assert f"{100 * one.mean.few:.1f} ± {100 * one.spread.few:.1f}" in text
        assert one.setup.loss in text and all(override in text for override in one.setup.overrides)


def test_bold_is_what_is_decided():
    arms = (arm("real-only", "real-only", (0.5,)), arm("image", "synthetic", (0.9,)), arm("a_b", "synthetic", (0.8,)))
    table = to_latex(make_results(arms=arms, differences=(gain("image", 0.01), gain("a_b", 0.3))))
    assert r"a\_b & 1 & \textbf{80.0}" in table and "image & 1 & 90.0" in table


def test_whatever_a_name_holds_latex_takes_it_as_text():
    assert latex("50% of a_b & {c} $d$ #1 ~^<>\\") == (
        r"50\% of a\_b \& \{c\} \$d\$ \#1 \textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbackslash{}"
    )


def test_the_page_links_every_table(trained_page, results):
    names = {f"results{ending}" for ending in ENDINGS}
    assert names == set(table_files(results))
    assert names <= {a.get("download") for a in parse(trained_page).of("a")}
    assert all((trained_page.parent / name).is_file() for name in names)


def test_the_command_prints_latex_and_nothing_else(trained, results):
    done = CliRunner().invoke(app, ["report", str(trained.run), "--tex"])
    assert done.exit_code == 0 and done.stdout == to_latex(results)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: apt install texlive-latex-recommended")
def test_the_latex_compiles(tmp_path, results):
    odd = make_results(arms=(arm("50%-a_b", "synthetic", (0.5, 0.6)),), differences=())
    tables = to_latex(results) + to_latex(odd)
    text = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{tables}\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").is_file()
