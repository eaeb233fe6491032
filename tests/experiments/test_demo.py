"""The demo: every stage in one call, resumable, and clear about folders of other versions."""

import numpy as np
import pytest
from PIL import Image

from augcond import cli
from augcond.conditioning import RECIPES
from augcond.config import ConditioningConfig
from augcond.datasets import load_dataset
from augcond.engine import Summary
from augcond.errors import RunError, RunMismatchError
from augcond.experiments import demo
from augcond.experiments.demo import HEAD, SMALLEST, demo_config, run_demo
from augcond.pipeline import load_training_images, plan_for
from augcond.store import RunFolder
from augcond.training.arms import arms_of
from augcond.training.cards import read_cards
from tests.tampering import rewrite_json
from tests.training.toys import toy_run


def follow(to, config):
    """Run the demo; return its results, what it said, and what it showed."""
    said, shown = [], []
    results = run_demo(to, config, say=said.append, show=shown.append)
    return results, "\n".join(said), shown


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A demo on small images of the fake generator: its folder, config, results, what it said and what it showed."""
    to = tmp_path_factory.mktemp("demo")
    config = toy_run(to, plan={"per_class": 2}, training={"steps": 2})
    return to, config, *follow(to, config)


def test_the_demo_is_real_only_against_text_and_the_default_recipe_with_two_seeds(tmp_path):
    config = demo_config(tmp_path)
    default = ConditioningConfig().recipe
    assert [arm.name for arm in arms_of(config)] == ["real-only", "text", *default]
    assert config.training.training_seeds == (0, 1)
    dataset = load_training_images(config)
    assert (max(dataset.counts()), min(dataset.counts())) == (HEAD, SMALLEST)
    table = plan_for(config, dataset).table
    assert len(table) == (HEAD * len(dataset.classes) - sum(dataset.counts())) * (1 + len(default))
    _, counts = np.unique(table["label"].to_numpy(), return_counts=True)
    assert counts.max() // (1 + len(default)) <= 50
    # What is judged is the world's whole test set.
    assert config.data.source == "builtin" and len(load_dataset(config.data).classes) == 10


def test_every_stage_leaves_what_the_demo_names(done):
    to, _, results, text, shown = done
    assert [arm.name for arm in results.arms] == ["real-only", "text", "mixup"]
    for path in (to / "run" / "report" / "index.html", to / "preview.png", to / "synthetic"):
        assert path.exists()
        assert str(path) in text
    assert len(list((to / "synthetic").glob("*/*.png"))) == 12
    with Image.open(to / "preview.png") as sheet:
        assert sheet.width > 100 * len(RECIPES)
    page = (to / "run" / "report" / "index.html").read_text()
    assert "training of 6 models" in page
    made, audit, judged = shown
    assert (made.ok, made.failed, audit.ok, audit.problems) == (12, 0, 12, ())
    assert judged is results
    assert "2 training seeds of one split, not evidence" in text


def test_running_it_again_makes_nothing_anew(done):
    to, config, results, _, _ = done
    kept = [*to.rglob("shards/*.parquet"), *to.rglob("model.safetensors"), to / "preview.png"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) > 6
    again, _, shown = follow(to, config)
    assert again == results
    assert isinstance(shown[0], Summary) and shown[0].shards == 0
    assert before == {path: path.stat().st_mtime_ns for path in kept}


def test_the_command_prints_what_the_demo_tells(done, monkeypatch, capsys):
    to, config, results = done[:3]
    monkeypatch.setattr(demo, "demo_config", lambda to: config)
    cli.experiments.demo(to)
    out = capsys.readouterr().out
    for words in ("1/6  generating", "nothing left to do", "sound: ", "real-only", "look at"):
        assert words in out
    assert f"{results.test_images:,} test images" in out


@pytest.mark.parametrize(
    "other",
    [
        {"generator": {"steps": 3}, "plan": {"per_class": 2}, "training": {"steps": 2}},
        {"plan": {"per_class": 2}, "training": {"steps": 3}},
    ],
    ids=["other images", "other models"],
)
def test_a_demo_of_another_version_says_what_to_do(done, other):
    to = done[0]
    with pytest.raises(RunMismatchError) as caught:
        follow(to, toy_run(to, **other))
    assert f"delete {to}, or name another folder (augcond demo FOLDER)" in str(caught.value)
    log = RunFolder(to / "run").log_path
    assert str(log) in str(caught.value)
    assert str(caught.value.__cause__).splitlines()[0] in log.read_text()


def test_a_model_card_of_another_version_says_what_to_do(done):
    to, config = done[:2]
    path = next(to.rglob("model.json"))
    whole = path.read_text()
    rewrite_json(path, colour="of a later version")
    with pytest.raises(RunMismatchError, match="another version of augcond"):
        follow(to, config)
    path.write_text(whole)
    assert len(read_cards(config.run)) == 6


def test_images_that_are_not_sound_stop_the_demo(done):
    to, config = done[:2]
    stray = to / "run" / "shards" / "00099.parquet"
    stray.write_bytes(b"no parquet")
    with pytest.raises(RunError, match=r"not sound .* delete"):
        follow(to, config)
    stray.unlink()
