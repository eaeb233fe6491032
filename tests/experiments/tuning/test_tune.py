"""A whole tuning of toy images: no test image is opened, it goes on where it stopped, and others share the work."""

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest

from augcond.config import load_config
from augcond.datasets import loading
from augcond.errors import ConfigError, CorruptRunError, RunMismatchError
from augcond.evaluation.tuning import read_tuning
from augcond.experiments.tuning import judging, sharing
from augcond.experiments.tuning import survey as surveying
from augcond.experiments.tuning import tune as tuning
from augcond.experiments.tuning.candidates import candidate_of, config_of
from augcond.experiments.tuning.notes import set_as_none, weak_guidance
from augcond.experiments.tuning.schedule import Effort
from augcond.experiments.tuning.survey import survey, survey_lines
from augcond.experiments.tuning.tune import tune
from augcond.pipeline import generate, run
from augcond.progress import NoProgress
from augcond.report.tuning import tuned_facts
from augcond.store import RunFolder, audit_run
from augcond.store.verifying import verify_files
from tests.training.toys import toy_run, write_colours

SMALL = Effort(candidates=2, sets=2, folds=3, trainings=2)
TRAINING = {"steps": 1, "seeds": 1}
CANDIDATES = {
    "as-configured": {},
    "text,guidance=4": {"conditioning.recipe": "text", "generator.guidance_scale": 4.0},
}


def small(root, **sections):
    if not (root / "train").exists():
        write_colours(root / "train", [4, 3, 1])
    sections = {"conditioning": {"recipe": "mixup"}, "training": TRAINING} | sections
    return toy_run(root, data={"validation": None, "test": root / "no test images"}, **sections)


@pytest.fixture
def unopened(monkeypatch):
    """Let whatever opens, or merely lists, images that are held out for a test fail."""

    def opened(*_, **__):
        raise AssertionError("a tuning opened held-out images")

    monkeypatch.setattr(loading, "list_held_out", opened)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def outcome(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "list_held_out", lambda *_: pytest.fail("a tuning opened held-out images"))
        return tune(small(root), "60", effort=SMALL)


def test_no_test_image_is_opened(outcome):
    # Nor could any be: the folder that data.test names is not there.
    assert outcome.rounds and outcome.gain is not None
    assert outcome.trainings == 2 and outcome.folds == 3
    assert (outcome.real_images, outcome.judged_images, outcome.classes) == (8, 7, 2)
    assert any("one real image" in note and note.endswith("1.") for note in outcome.notes)
    assert outcome.images <= 60


def test_an_image_is_made_of_two_blocks_and_a_fold_uses_as_many_of_each_class_as_any(root, outcome):
    ground = surveying.ground_of(small(root), SMALL)
    bench = judging.Bench(ground.config, RunFolder(root / "run"), ground.real, ground.folds, ground.held)
    held = dict(zip(bench.keys, ground.held.tolist(), strict=True))
    assert sorted(tried.name for tried in outcome.rounds[0].tried) == ["as-configured", "text,guidance=4"]
    sets = {name: [*bench.run(name).read_plan().plan.rows()] for name in ("as-configured", "text,guidance=4")}
    assert {row.source_keys for row in sets["text,guidance=4"]} == {()}
    for row in sets["as-configured"]:
        # The only image of a class is mixed with itself, and is in every fold.
        assert len({held[key] for key in row.source_keys}) <= 2
        assert len(set(row.source_keys)) == (1 if held[row.source_keys[0]] == -1 else 2)
    assert {fold for row in sets["as-configured"] for fold in map(held.get, row.source_keys)} == {-1, 0, 1, 2}
    made = {name: tuple(np.bincount([row.label for row in rows]).tolist()) for name, rows in sets.items()}
    used = made["text,guidance=4"]
    assert sum(used) == outcome.rounds[0].images
    assert outcome.images == sum(map(sum, made.values()))
    standing = judging.Standing(0, used, made)
    for name, rows in sets.items():
        for fold in range(3):
            out = np.flatnonzero(ground.held == fold)
            places = judging.used_rows(bench, standing, candidate_of(CANDIDATES[name]), out)
            assert np.bincount(bench.rows(name, standing).labels[places]).tolist() == list(used)
            assert not {bench.keys[place] for place in out} & {key for at in places for key in rows[at].source_keys}


def test_it_ends_with_a_config_a_table_and_a_figure(root, outcome):
    folder = RunFolder(root / "run")
    assert read_tuning(folder.tuning_path) == outcome
    text = folder.tuned_path.read_text(encoding="utf-8")
    assert text.startswith("# augcond tune chose this") and outcome.sentence in text
    tuned = load_config(folder.tuned_path)
    assert tuned.run.resolve() == folder.tuned_run_path.resolve()
    assert tuned.data.test.name == "no test images"
    for ending in ("md", "csv", "png", "svg"):
        assert folder.tuning_path.with_suffix(f".{ending}").stat().st_size > 100
    assert all(tried.name in (root / "run" / "tuning.md").read_text() for tried in outcome.rounds[0].tried)
    assert tuned_facts(folder, None) is None


def test_what_is_done_is_not_done_again(root, outcome, monkeypatch, unopened):
    for module, name in ((sharing, "train_folds"), (sharing, "generate"), (tuning, "measured_rates")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("done again"))
    assert tune(small(root), "60", effort=SMALL) == outcome
    with pytest.raises(RunMismatchError, match=r"generator\.steps: the run has 20, this config 5"):
        tune(small(root, generator={"steps": 5}), "60", effort=SMALL)
    with pytest.raises(RunMismatchError, match="budget"):
        tune(small(root), "61", effort=SMALL)
    monkeypatch.setattr(tuning, "METHOD", 0)
    with pytest.raises(
        RunMismatchError, match=r"method of tuning: the run has 6.*go on with the augcond that began it"
    ):
        tune(small(root), "60", effort=SMALL)


def test_its_files_are_verified(root, outcome):
    folder = RunFolder(root / "run")
    found = verify_files(folder)
    assert not found.problems and not found.unknown
    assert found.verified["tuning"] == found.verified["study"] == 1
    assert found.verified["folded"] == 6
    assert audit_run(folder).problems == ()
    kept = folder.study_path.read_bytes()
    folder.study_path.write_bytes(kept + b"{}\n")
    (problem,) = verify_files(folder).problems
    assert "not the study" in problem
    folder.study_path.write_bytes(kept)


def test_a_damaged_record_is_not_read(root, outcome):
    folder = RunFolder(root / "run")
    (path,) = (folder.path / "tuning").glob("real-*/real-only/training-0.json")
    kept = path.read_text(encoding="utf-8")
    path.write_text(kept.replace('"right": "', '"right": "1', 1), encoding="utf-8")
    with pytest.raises(CorruptRunError, match="augcond tune"):
        tune(small(root), "60", effort=SMALL)
    path.write_text(kept, encoding="utf-8")


def test_an_interrupted_tuning_comes_to_the_same(root, outcome, tmp_path, monkeypatch):
    config = small(root).model_copy(update={"run": tmp_path / "run"})
    done = []

    def train_some(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        judging.train_folds(*args)

    monkeypatch.setattr(sharing, "train_folds", train_some)
    with pytest.raises(KeyboardInterrupt):
        tune(config, "60", effort=SMALL)
    monkeypatch.setattr(sharing, "train_folds", judging.train_folds)
    again = tune(config, "60", effort=SMALL)
    assert (again.chosen, again.gain, again.rounds) == (outcome.chosen, outcome.gain, outcome.rounds)


GROWING = Effort(candidates=4, sets=4, proposed=0, folds=3, trainings=2)


class Stopped(NoProgress):
    """Is interrupted as soon as the plan of a run has grown."""

    def __init__(self, run):
        self.run = run
        self.before = len(run.read_plan().plan)

    def advance(self, made, failed):
        if len(self.run.read_plan().plan) > self.before:
            raise KeyboardInterrupt


def test_a_tuning_that_stopped_while_a_pilot_grew_comes_to_the_same(tmp_path, monkeypatch):
    config = small(tmp_path, plan={"per_class": 24}, engine={"shard_size": 32})
    alone = tune(config, "700", effort=GROWING)
    assert [len(each.tried) for each in alone.rounds] == [4, 3] and alone.rounds[1].made > alone.rounds[0].made
    again = config.model_copy(update={"run": tmp_path / "again"})

    def stopped(run, *, progress):
        folder = RunFolder(run.run)
        return generate(run, progress=Stopped(folder) if folder.plan_path.exists() else progress)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sharing, "generate", stopped)
        tune(again, "700", effort=GROWING)
    found = tune(again, "700", effort=GROWING)
    assert (found.chosen, found.gain, found.rounds) == (alone.chosen, alone.gain, alone.rounds)
    first = [*(again.run / "tuning").glob("round-0-*/*/*.json")]
    # Of the last round none that picked its candidates.
    assert {path.name for path in first} == {"training-0.json"}
    last = {path.name for path in (again.run / "tuning").glob("round-1-*/*/*.json")}
    assert last == {"training-1.json", "training-2.json"}
    # A record that is deleted is made anew from the images of its round, not from those of later ones.
    written = {path: path.read_bytes() for path in first}
    for path in written:
        path.unlink()
    tune(again, "700", effort=GROWING)
    assert {path: path.read_bytes() for path in written} == written


def test_with_one_image_a_class_nothing_is_judged(tmp_path, unopened):
    write_colours(tmp_path / "train", 1)
    found = tune(small(tmp_path), "20")
    assert found.gain is None and found.images == 0
    assert "one real image" in found.sentence
    given = small(
        tmp_path, conditioning={"recipe": ["image", "mixup"]}, training={"arms": [{"name": "mine", "recipe": "mixup"}]}
    )
    tune(given, "20")
    tuned = load_config(tmp_path / "run" / "tuned.yaml")
    assert tuned.conditioning == given.conditioning and tuned.training == given.training
    assert survey_lines(survey(small(tmp_path), "20"))[0].startswith("Every class has one")


def test_what_a_training_takes_before_its_first_step_is_told_once(tmp_path, monkeypatch):
    """A clock by which a training takes 3 s and 0.5 s a step; the very first decodes the images besides."""
    clock = [0.0]

    def trained(images, arm, seed):
        clock[0] += (0 if clock[0] else 60) + 3 + 0.5 * arm.config.steps

    monkeypatch.setattr(surveying, "train_one", trained)
    monkeypatch.setattr(surveying.time, "perf_counter", lambda: clock[0])
    ground = surveying.ground_of(small(tmp_path, training={"steps": 100, "real_steps": 20, "seeds": 1}), SMALL)
    assert surveying._training_seconds(ground) == pytest.approx(3 + 0.5 * 100)


def test_the_config_itself_is_kept_unless_another_leads_it_clearly(root, outcome, tmp_path, monkeypatch):
    shutil.copytree(root / "run", tmp_path / "run")
    config = small(root).model_copy(update={"run": tmp_path / "run"})
    right = {"real-only": [], "as-configured": [0, 1], "text,guidance=4": [1, 2, 3]}
    for chosen, passed in (("as-configured", True), ("text,guidance=4", False)):
        monkeypatch.setattr(sharing, "read_right", lambda _, path: np.isin(range(8), right[path.parent.name]))
        found = tune(config, "60", effort=SMALL)
        assert found.chosen == chosen and found.settings == CANDIDATES[chosen]
        assert found.sentence.startswith(chosen) and ("scored higher" in found.sentence) == passed
        assert [tried.name for tried in found.rounds[0].tried if tried.kept] == [chosen]
        right["text,guidance=4"] = [0, 1, 2, 3, 4, 5, 6]


def test_images_of_another_layout_are_not_taken_for_ones_of_this(root, outcome, tmp_path, monkeypatch):
    shutil.copytree(root / "run", tmp_path / "run")
    config = small(root).model_copy(update={"run": tmp_path / "run"})
    shutil.rmtree(tmp_path / "run" / "tuning")
    monkeypatch.setattr(sharing, "generate", lambda *_, **__: pytest.fail("made again"))
    assert tune(config, "60", effort=SMALL).rounds == outcome.rounds
    for other in ({"folds": 2}, {"folds": 4}):
        shutil.rmtree(tmp_path / "run" / "tuning")
        with pytest.raises(RunMismatchError, match="other folds, real images or budget"):
            tune(config, "60", effort=replace(SMALL, **other))


def test_a_class_without_images_cannot_be_judged(tmp_path):
    write_colours(tmp_path / "train", [4, 4, 1])
    for path in (tmp_path / "train" / "c").iterdir():
        path.write_bytes(b"no image")
    config = small(tmp_path, conditioning={"recipe": "text"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"max_bad_share": 0.5})})
    with pytest.raises(ConfigError, match="class 'c' has no readable image to judge on"):
        tune(config, "60", effort=SMALL)


def test_what_mixes_more_images_than_a_fold_leaves_is_told(tmp_path):
    for sources, few in ((2, []), (3, ["Classes whose pilots mix fewer different images than the run will"])):
        conditioning = {"recipe": "mixup", "sources": sources}
        notes = surveying.ground_of(small(tmp_path, conditioning=conditioning), SMALL).notes
        assert [note.partition(":")[0] for note in notes if "mix" in note] == few


def test_what_cannot_be_tuned_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--budget"):
        tune(small(tmp_path), "some", effort=SMALL)
    with pytest.raises(ConfigError, match="it buys 3 images, and two pilots take"), monkeypatch.context() as patch:
        patch.setattr(surveying, "load_generator", lambda *_: pytest.fail("loaded before it was refused"))
        tune(small(tmp_path), "3", effort=SMALL)
    with pytest.raises(ConfigError, match="asks for no image"):
        tune(small(tmp_path, plan={"per_class": 0}), "20", effort=SMALL)
    with pytest.raises(ConfigError, match="leaks"):
        tune(small(tmp_path, leaks=["best-epoch"]), "20", effort=SMALL)
    with pytest.raises(ConfigError, match=r"plan\.rounds"):
        tune(small(tmp_path, plan={"per_class": 4, "rounds": tmp_path / "rounds.json"}), "60", effort=SMALL)


def test_oversampling_is_left_out_with_its_judge(tmp_path):
    config = small(tmp_path, plan={"per_class": 4, "oversample": 2}, screening={"by": "encoder"})
    ground = surveying.ground_of(config, SMALL)
    assert ground.planned == (4, 4, 4)
    pilot = config_of(ground.config, {}, tmp_path / "pilot", {"a": 2})
    assert (pilot.plan.oversample, pilot.screening.by) == (1, "none")
    assert any("Screening is left out" in note for note in set_as_none(config))


def test_weak_guidance_in_few_shots_is_told_before_anything_is_spent(tmp_path):
    def of(guidance, name="stable-unclip"):
        return small(tmp_path, generator={"name": name, "guidance_scale": guidance})

    assert "the 3 of this config stays unless something leads" in weak_guidance(of(3.0), [4, 16, 1])[0]
    # What the paper had, what cannot guide, long tails, and generators whose scale may mean something else.
    assert not any(weak_guidance(of(guidance), [4, 16, 1]) for guidance in (10.0, 1.0))
    assert not weak_guidance(of(3.0), [17, 4]) and not weak_guidance(of(3.0, "fake"), [4])
    notes = surveying.ground_of(of(3.0), SMALL).notes
    assert any("set generator.guidance_scale to 10" in note for note in notes)


SCRIPT = """
    import sys
    from pathlib import Path
    from augcond.experiments.tuning.schedule import Effort
    from augcond.experiments.tuning.tune import tune
    from tests.experiments.tuning.test_tune import MANY, MANY_IMAGES, many

    if __name__ == "__main__":
        print(tune(many(Path(sys.argv[1]), sys.argv[2]), MANY_IMAGES, effort=MANY).sentence)
"""
MANY_IMAGES = "900"
MANY = Effort(candidates=12, sets=6, proposed=2, folds=2, trainings=2, calibrating=4)


def many(root, name):
    return small(root, plan={"per_class": 60}, training={"steps": 2, "seeds": 1}).model_copy(
        update={"run": root / name}
    )


def start(root, name):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(root), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_and_shared_by_several_it_comes_to_the_same(tmp_path):
    alone = tune(many(tmp_path, "alone"), MANY_IMAGES, effort=MANY)
    assert len(alone.rounds) > 1 and alone.compared == 4

    def records():
        return len([*(tmp_path / "shared" / "tuning").rglob("training-*.json")])

    def grown():
        return len([*(tmp_path / "shared" / "tuning").glob("blocks-1.json")])

    # After its first trainings, and twice while the pilots of the second round grow.
    for reached in (lambda: records() >= 1, lambda: records() >= 4, grown, grown):
        with start(tmp_path, "shared") as process:
            while not reached() and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    workers = [start(tmp_path, "shared") for _ in range(2)]
    said = [worker.communicate()[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    found = read_tuning(tmp_path / "shared" / "tuning.json")
    assert (found.chosen, found.gain, found.rounds) == (alone.chosen, alone.gain, alone.rounds)
    assert said == [alone.sentence] * 2
    assert list((tmp_path / "shared" / "locks").iterdir()) == []
    assert audit_run(RunFolder(tmp_path / "shared")).problems == ()


@pytest.mark.slow
def test_what_was_tuned_is_measured_once_and_reported_beside_the_estimate(tmp_path):
    write_colours(tmp_path / "no test images", 8, seed=3)
    config = small(tmp_path, training={"steps": 6, "seeds": 3})
    found = tune(config, "60", effort=SMALL)
    folder = RunFolder(config.run)
    tuned = load_config(folder.tuned_path)
    results = run(tuned, reuse=[cell.path for cell in folder.cells()])
    facts = tuned_facts(RunFolder(tuned.run), results)
    assert facts.tuning == found
    page = RunFolder(tuned.run).page_path
    if found.chosen != "real-only":
        assert facts.outcome is not None and facts.held is not None
        assert found.gain.text in page.read_text(encoding="utf-8")
        assert 'id="tuning"' in page.read_text(encoding="utf-8")
    assert audit_run(folder).problems == ()
