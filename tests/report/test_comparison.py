"""Runs of one data set side by side."""

import re
import shutil

import pytest
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import RunError
from augcond.evaluation.results import read_results, write_results
from augcond.pipeline import evaluate, generate, train
from augcond.report.comparison import compare_runs, write_comparison
from augcond.store import RunFolder
from tests.report.test_report import parse, text_of
from tests.training.toys import toy_run, write_colours


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their guidance; their arms of real images alone are the very same models."""
    root = tmp_path_factory.mktemp("compared")
    made = []
    for scale in (2.0, 4.0):
        arms = [{"name": "real-only"}, {"name": "mixup", "recipe": "mixup"}]
        sections = {"generator": {"guidance_scale": scale}, "conditioning": {"recipe": "mixup"}}
        config = toy_run(root, run=root / f"guidance-{scale:g}", training={"steps": 1, "arms": arms}, **sections)
        generate(config)
        train(config)
        evaluate(config)
        made.append(RunFolder(config.run))
    return made


def test_arms_stand_in_one_table_with_equal_seeds_paired(runs):
    results = compare_runs(runs)
    names = [arm.name for arm in results.arms]
    assert names == ["real-only guidance_scale=2.0", "mixup guidance_scale=2.0", "mixup guidance_scale=4.0"]
    own = [read_results(run.results_path()) for run in runs]
    for name, before in zip(names[1:], own, strict=True):
        assert results.gain(name).mean == pytest.approx(before.gain("mixup").mean)
        assert results.gain(name).baseline == names[0]
    between = results.gain(names[2], names[1])
    each = zip(own[1].arm("mixup").seeds, own[0].arm("mixup").seeds, strict=True)
    assert between.per_seed == pytest.approx([a.metrics.overall - b.metrics.overall for a, b in each])
    assert between.verdict == "exploratory"


def test_the_page_has_table_curves_and_configs(runs, tmp_path):
    page = write_comparison(runs, tmp_path / "beside")
    text = text_of(page)
    assert "augcond comparison" in text and "Overall accuracy over guidance scale" in text
    assert "mixup guidance_scale=4.0" in text and "guidance_scale: 4.0" in text
    assert {"results.csv", "results.tex"} <= {a["href"] for a in parse(page).of("a")}
    # It is written again where it was, and nowhere else.
    assert write_comparison(runs, tmp_path / "beside") == page
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("mine")
    with pytest.raises(RunError, match="holds what augcond did not write"):
        write_comparison(runs, tmp_path / "other")
    assert (tmp_path / "other" / "index.html").read_text() == "mine"


def test_the_command_takes_several_runs(runs, tmp_path):
    paths = [str(run.path) for run in runs]
    done = CliRunner().invoke(app, ["report", *paths, "--to", str(tmp_path / "beside"), "--single-file"])
    assert done.exit_code == 0, done.output
    page = tmp_path / "beside" / "index.html"
    assert done.stdout.strip() == str(page) and re.search(r"one file of [\d.]+ [kM]B", done.stderr)
    assert all(a["href"].startswith(("#", "data:")) for a in parse(page).of("a"))
    done = CliRunner().invoke(app, ["report", *paths, "--tex"])
    assert done.exit_code == 0 and r"mixup guidance\_scale=4.0" in done.stdout


def test_other_test_images_are_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[1].path, other)
    results = read_results(other / "results.json")
    write_results(other / "results.json", type(results)(**{**fields_of(results), "test_images": 7}))
    with pytest.raises(RunError, match="24 and 7 test images"):
        compare_runs([runs[0], RunFolder(other)])


def test_other_pixels_under_the_same_names_are_refused(runs, tmp_path):
    shutil.copytree(runs[0].path.parent / "train", tmp_path / "train")
    shutil.copytree(runs[0].path.parent / "validation", tmp_path / "validation")
    write_colours(tmp_path / "test", 8, seed=9)
    arms = [{"name": "real-only"}]
    config = toy_run(tmp_path, training={"steps": 1, "arms": arms})
    train(config)
    evaluate(config)
    with pytest.raises(RunError, match="some of their test images are other files"):
        compare_runs([runs[0], RunFolder(config.run)])


def fields_of(results):
    return {name: getattr(results, name) for name in results.__dataclass_fields__}
