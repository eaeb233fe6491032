"""Whole runs of the fake generator: arms, models on disk, resuming, and what is refused."""

import json

import pytest
import torch

from augcond.errors import ConfigError, LeakError, RunError, RunMismatchError, SplitError, TrainingError
from augcond.evaluation.metrics import measure
from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import read_results
from augcond.pipeline import evaluate, generate, run, train
from augcond.training.arms import arms_of
from augcond.training.experiment import load_experiment
from augcond.training.learners import prepare_training
from augcond.training.models import model_folder, read_card
from augcond.training.run_images import RunImages
from tests.training.toys import CLASSES, toy_run, write_colours


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run that is generated, trained and evaluated."""
    root = tmp_path_factory.mktemp("done")
    config = toy_run(root)
    return config, run(config)


def test_a_run_ends_in_a_table_of_arms(done):
    config, results = done
    assert [arm.name for arm in results.arms] == ["real-only", "text", "mixup"]
    assert [arm.kind for arm in results.arms] == ["real-only", "synthetic", "synthetic"]
    assert results == read_results(config.run / "results.json")
    assert results.test_images == 24
    assert results.real_counts == (12, 8, 6)
    assert not results.leaky
    for arm in results.arms:
        assert [seed.seeds.training for seed in arm.seeds] == [0, 1]
        assert arm.steps == 6
        assert arm.spread is not None
        assert sum(map(sum, arm.seeds[0].confusion)) == 24
        assert (config.run / arm.seeds[1].predictions).is_file()
        assert arm.mean.many == arm.mean.many
    assert results.arm("mixup").synthetic_images == 12
    assert {(d.arm, d.baseline) for d in results.differences} == {
        ("text", "real-only"),
        ("mixup", "real-only"),
        ("mixup", "text"),
    }


def test_a_second_call_trains_nothing_anew(done):
    config, results = done
    before = {path: path.stat().st_mtime_ns for path in (config.run / "models").rglob("model.safetensors")}
    assert len(before) == 6
    assert run(config) == results
    assert before == {path: path.stat().st_mtime_ns for path in (config.run / "models").rglob("model.safetensors")}
    assert not list((config.run / "models").rglob("checkpoint*"))


def test_other_settings_are_refused_unless_overwritten(done, tmp_path):
    config, _ = done
    other = config.model_copy(update={"training": config.training.model_copy(update={"lr": 0.01})})
    with pytest.raises(RunMismatchError, match=r"training\.lr: it has 0\.05, this config 0\.01"):
        train(other)


def test_half_of_what_an_arm_sees_is_synthetic(done):
    config, _ = done
    images = RunImages(load_experiment(config))
    arm = arms_of(config)[1]
    assert images.added(arm, 16).counts(CLASSES) == [4, 4, 4] == images.added_counts(arm)
    model, inputs = prepare_training(images, arm, seed=0)
    batches = [inputs._sampler(step) for step in range(6)]
    assert {(len(batch.real), len(batch.synthetic)) for batch in batches} == {(4, 4)}
    assert model.size == 16


def test_large_sets_are_decoded_batch_by_batch_to_the_same_pixels(done):
    config, _ = done
    small = config.model_copy(update={"training": config.training.model_copy(update={"max_memory_gb": 0.0})})
    arm = arms_of(config)[2]
    whole, parts = (RunImages(load_experiment(c)) for c in (config, small))
    for one, other in ((whole.real(16), parts.real(16)), (whole.added(arm, 16), parts.added(arm, 16))):
        assert type(one.pixels) is not type(other.pixels)
        assert one.keys == other.keys
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.pixels.batch(range(len(one))), other.pixels.batch(range(len(one))))


def test_arms_of_ones_own(tmp_path):
    arms = [
        {"name": "real-only"},
        {"name": "cutmix-inputs", "overrides": {"augment": {"mix": "cutmix"}}},
        {"name": "two-a-class", "recipe": "text", "per_class": 2, "overrides": {"counts": "effective"}},
        {"name": "ceiling", "recipe": "unused-real"},
        {"name": "adjusted", "overrides": {"loss": "logit-adjustment"}},
    ]
    split = {"name": "long-tail", "imbalance": 4, "head": 4}
    config = toy_run(tmp_path, data={"split": split}, plan={"per_class": 2}, training={"arms": arms, "seeds": 1})
    results = run(config)
    assert [arm.name for arm in results.arms] == [arm["name"] for arm in arms]
    assert results.real_counts == (4, 2, 1)
    assert results.arm("two-a-class").synthetic_images == 6
    assert results.arm("ceiling").kind == "ceiling"
    assert results.arm("ceiling").synthetic_images == 6
    card = read_card(model_folder(config.run, "adjusted", 0))
    assert card.test_shift == pytest.approx([-torch.log(torch.tensor(n / 7)).item() for n in (4, 2, 1)])
    split = json.loads((config.run / "split.json").read_text())
    assert len(split["train"]) == 7


def test_a_probe_of_the_generators_encoder(tmp_path):
    probe = {"model": "generator", "mode": "linear-probe", "views": 2, "seeds": 1, "image_size": None, "steps": 25}
    config = toy_run(tmp_path, conditioning={"recipe": "text"}, training={**probe, "lr": 0.1, "optimizer": "adamw"})
    results = run(config)
    assert results.model == "generator"
    assert results.arm("real-only").mean.overall > 0.9


def test_arms_must_be_planned_and_have_images(tmp_path):
    with pytest.raises(ConfigError, match=r"'x' trains on 'image', which conditioning\.recipe does not name"):
        arms_of(toy_run(tmp_path, training={"arms": [{"name": "x", "recipe": "image"}]}))
    with pytest.raises(RunError, match="run augcond generate first"):
        train(toy_run(tmp_path))
    with pytest.raises(TrainingError, match="unused real images"):
        train(toy_run(tmp_path, training={"arms": [{"name": "ceiling", "recipe": "unused-real"}]}))
    with pytest.raises(RunError, match="no trained model"):
        evaluate(toy_run(tmp_path))


def test_another_split_on_the_same_run_is_refused(tmp_path):
    config = toy_run(tmp_path, data={"split": {"name": "few-shot", "k": 3}})
    generate(config)
    other = toy_run(tmp_path, data={"split": {"name": "few-shot", "k": 3, "seed": 1}})
    with pytest.raises(RunMismatchError, match="another split"):
        train(other)
    with pytest.raises(RunMismatchError, match="another split"):
        generate(other)
    generate(other, overwrite=True)
    with pytest.raises(SplitError, match="class 'b' has 8 readable images"):
        generate(toy_run(tmp_path, data={"split": {"name": "few-shot", "k": 9}}))


def test_test_images_among_the_training_images_are_refused(tmp_path):
    config = toy_run(tmp_path)
    generate(config)
    same = (tmp_path / "train" / "a" / "3.png").read_bytes()
    (tmp_path / "test" / "b" / "again.png").write_bytes(same)
    with pytest.raises(LeakError, match=r"1 test images are training images too, such as 'b/again\.png'"):
        train(config)


def test_classes_of_the_test_set_must_be_those_of_training(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "text"})
    generate(config)
    write_colours(tmp_path / "other", 2)
    (tmp_path / "other" / "a").rename(tmp_path / "other" / "z")
    with pytest.raises(Exception, match=r"data\.test has 1 classes that the training data lacks, such as 'z'"):
        train(toy_run(tmp_path, conditioning={"recipe": "text"}, data={"test": tmp_path / "other"}))


def test_choices_are_made_on_the_validation_set(done):
    config, results = done
    chosen_by = evaluate(config, part="validation")
    assert (chosen_by.part, chosen_by.test_images) == ("validation", 15)
    assert chosen_by == read_results(config.run / "validation.json")
    assert read_results(config.run / "results.json") == results
    kept = {path.relative_to(config.run).as_posix() for path in config.run.rglob("predictions/**/*.parquet")}
    assert {seed.predictions for found in (results, chosen_by) for arm in found.arms for seed in arm.seeds} == kept


def test_predictions_on_disk_are_those_that_were_measured(done):
    config, results = done
    seed = results.arms[0].seeds[0]
    predictions = read_predictions(config.run / seed.predictions)
    assert len(predictions.keys) == 24
    measured = measure(predictions, seed.real_counts, config.evaluation)
    assert measured.overall == seed.metrics.overall
    assert measured.calibration_error == pytest.approx(seed.metrics.calibration_error, abs=1e-5)
