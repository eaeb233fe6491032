"""Whole runs of the fake generator: arms, models on disk, resuming, and what is refused."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pydantic import ValidationError
from safetensors.torch import load_file

from augcond.config import TrainingConfig
from augcond.config.training import ArmConfig
from augcond.engine import NoProgress
from augcond.errors import ConfigError, LeakError, RunError, RunMismatchError, SplitError, TrainingError
from augcond.evaluation.metrics import measure
from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import read_results
from augcond.pipeline import evaluate, generate, run, train
from augcond.store import RunFolder
from augcond.store.images import decode_stored
from augcond.store.shards import shard_rows
from augcond.training import image_sets
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.cards import read_card, read_cards
from augcond.training.devices import find_rank
from augcond.training.experiment import load_experiment
from augcond.training.image_sets import synthetic_images
from augcond.training.models import prepare_training
from augcond.training.synthetic import read_synthetic
from augcond.training.trainer import _objective, train_arms
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
        assert sum(images for _, _, images in arm.seeds[0].confusion) == 24
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


def test_processes_that_map_one_set_at_once_do_not_disturb_each_other(done, monkeypatch):
    config, _ = done
    folder = RunFolder(config.run)
    rows = read_synthetic(folder)
    barrier = threading.Barrier(2)
    encoded = image_sets._encoded

    def together(*about):
        barrier.wait(30)  # both have opened their file
        yield from encoded(*about)

    monkeypatch.setattr(image_sets, "_encoded", together)
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(synthetic_images, rows, rows.select("text"), 16, 0) for _ in range(2)]
        one, other = (job.result().pixels.batch(range(12)) for job in jobs)
    assert torch.equal(one, other)
    assert [path.name for path in (config.run / "cache").glob("text*")] == ["text.arrow"]


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
    card = read_card(RunFolder(config.run).model_path("adjusted", 0))
    assert card.test_shift == pytest.approx([-torch.log(torch.tensor(n / 7)).item() for n in (4, 2, 1)])
    split = json.loads((config.run / "split.json").read_text())
    assert len(split["train"]) == 7
    # What each arm was, for whoever has the results alone; a ceiling's classes are alike in size.
    setups = {arm.name: arm.setup for arm in results.arms}
    assert (setups["ceiling"].loss, setups["ceiling"].counts) == ("balanced-softmax", "effective")
    assert setups["real-only"].counts == "real" and setups["real-only"].synthetic_share == 0
    assert setups["adjusted"].overrides == ("loss=logit-adjustment",)
    assert setups["two-a-class"].overrides == ("counts=effective",) and setups["two-a-class"].batch_size == 8
    assert results.arm("two-a-class").seeds[0].added_counts == (2, 2, 2)
    assert results.provenance.date and results.provenance.versions["torch"]


def test_a_run_begun_before_ceilings_had_effective_counts_keeps_theirs(tmp_path):
    arms = [{"name": "real-only"}, {"name": "ceiling", "recipe": "unused-real"}]
    split = {"name": "long-tail", "imbalance": 4, "head": 4}
    sections = {"data": {"split": split}, "plan": {"per_class": 2}}
    settings = {"arms": arms, "seeds": 1, "steps": 1}
    train(toy_run(tmp_path, **sections, training=settings | {"ceiling_counts": "alike"}))
    kept = tmp_path / "run" / "config.yaml"
    # As it was written before there was such a key.
    kept.write_text("".join(line for line in kept.read_text().splitlines(True) if "ceiling_counts" not in line))
    before = read_cards(tmp_path / "run")
    assert train(toy_run(tmp_path, **sections, training=settings))[::-1] == before
    with pytest.raises(RunMismatchError, match="counts"):
        train(toy_run(tmp_path, **sections, training=settings | {"ceiling_counts": "effective"}))


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
    chosen_by = evaluate(config, on="validation")
    assert (chosen_by.on, chosen_by.test_images) == ("validation", 15)
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


def with_arms(config, *arms, **settings):
    """Return `config` with these arms and training settings."""
    values = config.training.model_dump() | {"seeds": 1} | settings
    return config.model_copy(update={"training": TrainingConfig.model_validate(values | {"arms": arms})})


def prepared(config, **arm):
    """Return what an arm trains and the batches for it."""
    config = with_arms(config, {"name": "arm", **arm})
    return prepare_training(RunImages(load_experiment(config)), arms_of(config)[0], seed=0)


def test_an_arm_may_take_the_first_images_of_each_class_alone(done):
    config, _ = done
    config = with_arms(config, {"name": "two", "recipe": "text", "per_class": 2})
    images = RunImages(load_experiment(config))
    (arm,) = arms_of(config)
    assert images.added_counts(arm) == images.added(arm, 16).counts(CLASSES) == [2, 2, 2]
    assert set(images.added(arm, 16).keys) == {f"{name}/{index}/text" for name in "abc" for index in range(2)}


def test_recipes_of_one_arm_take_turns(done):
    config, _ = done
    config = with_arms(config, {"name": "both", "recipe": ["mixup", "text"]}, {"name": "one", "recipe": ["text"]})
    images = RunImages(load_experiment(config))
    both, one = arms_of(config)
    assert one.recipe == "text"
    assert both.recipe == ("mixup", "text")
    keys = images.added(both, 16).keys
    assert set(keys) == {f"{name}/{i}/{('mixup', 'text')[i % 2]}" for name in "abc" for i in range(4)}
    assert images.added_counts(both) == images.added_counts(one)
    small = with_arms(config, {"name": "both", "recipe": ["mixup", "text"]}, max_memory_gb=0.0)
    mapped = RunImages(load_experiment(small)).added(both, 16)
    assert torch.equal(mapped.pixels.batch(range(12)), images.added(both, 16).pixels.batch(range(12)))
    swapped = with_arms(config, {"name": "both", "recipe": ["text", "mixup"]})
    assert images.added_sha256(both) != RunImages(load_experiment(swapped)).added_sha256(arms_of(swapped)[0])
    for recipe in ([], ["text", "text"], ["text", "unused-real"]):
        with pytest.raises(ValidationError, match="name each recipe once"):
            ArmConfig(name="x", recipe=recipe)
    with pytest.raises(ConfigError, match=r"'x' trains on 'image', which conditioning\.recipe does not name"):
        arms_of(with_arms(config, {"name": "x", "recipe": ["text", "image"]}))


def test_an_arm_of_several_recipes_is_trained_and_told(done, tmp_path):
    config, _ = done
    shutil.copytree(config.run, tmp_path / "run")
    arms = [{"name": "real-only"}, {"name": "both", "recipe": ["mixup", "text"]}]
    config = with_arms(config.model_copy(update={"run": tmp_path / "run"}), *arms)
    train(config)
    card = read_card(RunFolder(config.run).model_path("both", 0))
    assert (card.recipe, card.synthetic_images) == (("mixup", "text"), 12)
    assert evaluate(config).arm("both").recipe == "mixup + text"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("model.safetensors")}
    train(config)
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "models").rglob("model.safetensors")
    }


def test_a_probe_of_the_generators_encoder_takes_synthetic_images(done):
    config, _ = done
    probe = {"model": "generator", "mode": "linear-probe", "image_size": None}
    arm = {"name": "probe", "recipe": "mixup"}
    config = with_arms(config, arm, **probe)
    images = RunImages(load_experiment(config))
    (arm,) = arms_of(config)
    _, inputs = prepare_training(images, arm, seed=0)
    generator = images.generator
    positions = images.experiment.rows.select("mixup")
    by_hand = []
    for position in positions:
        shard = RunFolder(config.run).shard_path(int(images.experiment.rows.shards[position]))
        (row,) = shard_rows(shard, ("image",), [int(images.experiment.rows.places[position])])
        shown = ImageOps.fit(decode_stored(row["image"]["bytes"]), (16, 16), Image.Resampling.BICUBIC)
        by_hand.append(generator.encode_images(generator.view(shown)[None])[0])
    assert torch.allclose(inputs.synthetic[0], torch.stack(by_hand), atol=1e-5)
    features, labels = inputs(0, find_rank(arm.config))
    assert len(features) == len(labels) == 8
    batch = inputs.sampler(0)
    assert (len(batch.real), len(batch.synthetic)) == (4, 4)
    assert labels[4:].tolist() == inputs.synthetic_labels[batch.synthetic].tolist()


def test_arms_sample_and_mix_as_they_say(done):
    config, _ = done
    _, inputs = prepared(config, overrides={"sampling": "class-balanced"})
    drawn = np.concatenate([inputs._sampler(step).real for step in range(6)])
    assert torch.bincount(inputs._real.labels[drawn]).tolist() == [16, 16, 16]
    _, inputs = prepared(config, recipe="text", overrides={"mix": "bernoulli"})
    assert len({len(inputs._sampler(step).synthetic) for step in range(6)}) > 1


def test_effective_counts_are_those_of_the_batches(done):
    config, _ = done
    config = with_arms(config, {"name": "arm", "recipe": "text"}, loss="logit-adjustment", counts="effective")
    (arm,) = arms_of(config)
    shift = _objective(RunImages(load_experiment(config)), arm).test_shift
    # Half 12, 8 and 6 of 26 real images, half a third each.
    shown = torch.tensor([(count / 26 + 1 / 3) / 2 for count in (12, 8, 6)])
    assert torch.allclose(shift, -shown.log())


def test_effective_counts_know_what_is_drawn_less_often_and_for_how_long(done):
    config, _ = done
    about = {"loss": "balanced-softmax", "counts": "effective", "synthetic_tilt": 0.5, "real_steps": 2}
    config = with_arms(config, {"name": "arm", "recipe": "text", "overrides": about})
    (arm,) = arms_of(config)
    shift = _objective(RunImages(load_experiment(config)), arm).training_shift
    drawn = torch.tensor([12.0, 8.0, 6.0]) ** -0.5
    share = 0.5 * 4 / 6
    shown = (1 - share) * torch.tensor([12.0, 8.0, 6.0]) / 26 + share * drawn / drawn.sum()
    torch.testing.assert_close(shift, shown.log())
    _, inputs = prepare_training(RunImages(load_experiment(config)), arm, seed=0)
    assert [len(inputs._sampler(step).synthetic) for step in range(6)] == [4, 4, 4, 4, 0, 0]
    # What a card says it was trained on is how many there are, not how often each is drawn.
    assert RunImages(load_experiment(config)).added_counts(arm) == [4, 4, 4]


def test_effective_counts_are_what_is_drawn(done):
    config, _ = done
    about = {"loss": "balanced-softmax", "counts": "effective", "synthetic_tilt": 2.0, "synthetic_share": 1.0}
    config = with_arms(config, {"name": "arm", "recipe": "text", "overrides": about}, steps=800)
    (arm,) = arms_of(config)
    images = RunImages(load_experiment(config))
    expected = _objective(images, arm).training_shift.exp()
    _, inputs = prepare_training(images, arm, seed=0)
    drawn = np.concatenate([inputs._sampler(step).synthetic for step in range(800)])
    seen = torch.bincount(inputs._synthetic.labels[drawn], minlength=3).double()
    torch.testing.assert_close(seen / seen.sum(), (expected / expected.sum()).double(), atol=0.002, rtol=0)


def test_pretrained_weights_are_what_training_starts_from(done):
    config, _ = done
    weights = RunFolder(config.run).model_path("real-only", 0) / "model.safetensors"
    model, _ = prepared(config, overrides={"mode": "finetune", "weights": str(weights)})
    kept = load_file(weights)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.module.state_dict().items())


def test_logits_are_shifted_where_models_are_judged(tmp_path):
    arm = {"name": "adjusted", "overrides": {"loss": "logit-adjustment", "tau": 1e4}}
    results = run(toy_run(tmp_path, training={"arms": [arm], "seeds": 1}))
    # So strong an adjustment takes everything for the rarest class.
    assert results.arms[0].seeds[0].confusion == ((0, 2, 8), (1, 2, 8), (2, 2, 8))


class Stopped(Exception):
    pass


class Told(NoProgress):
    """Keeps what it is told of steps, and stops a training after some."""

    def __init__(self, stop=None):
        self.steps = []
        self.stop = stop
        self.of_steps = False

    def start(self, total, what=None):
        # Images that are read have a name of their own.
        self.of_steps = what is None

    def advance(self, done, failed):
        if not self.of_steps:
            return
        self.steps.append(done)
        if sum(self.steps) == self.stop:
            raise Stopped


def test_a_stopped_training_goes_on_from_its_checkpoint(tmp_path):
    arms = {"arms": [{"name": "real-only"}], "seeds": 1, "checkpoint_every": 2}
    whole, stopped = (toy_run(tmp_path, run=tmp_path / name, training=arms) for name in ("whole", "stopped"))
    train(whole)
    with pytest.raises(Stopped):
        train(stopped, progress=Told(stop=5))
    told = Told()
    train(stopped, progress=told)
    assert told.steps == [5, 1]
    weights = [
        load_file(RunFolder(config.run).model_path("real-only", 0) / "model.safetensors") for config in (whole, stopped)
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not list(stopped.run.rglob("checkpoint*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augment": {"transforms": [{"name": "RandAugmentt"}]}}, "no v2 transform"),
        ({"augment": {"transforms": [{"name": "CenterCrop", "size": 8}]}}, "make images of 8 pixels"),
        ({"model": "resnet51"}, "no network 'resnet51'"),
        ({"optimizer": "sdg"}, r"training\.optimizer 'sdg'"),
        ({"mode": "finetune", "weights": "/nowhere.safetensors"}, "no file at /nowhere.safetensors"),
        ({"mode": "linear-probe", "weights": "/nowhere.safetensors"}, "no file at /nowhere.safetensors"),
    ],
)
def test_what_is_wrong_with_the_last_arm_shows_before_the_first_is_trained(tmp_path, overrides, message):
    arms = [{"name": "real-only"}, {"name": "last", "overrides": overrides}]
    config = toy_run(tmp_path, training={"arms": arms, "seeds": 1})
    with pytest.raises((ConfigError, TrainingError), match=f"the arm 'last': .*{message}"):
        train(config)
    assert not list(config.run.rglob("model.json"))


def test_a_grown_run_keeps_the_models_whose_images_did_not_change(tmp_path):
    arms = [{"name": "two", "recipe": "text", "per_class": 2}, {"name": "all", "recipe": "text"}]

    def config(per_class, recipes, *names):
        chosen = [arm for arm in arms if arm["name"] in names]
        sections = {"plan": {"per_class": per_class}, "conditioning": {"recipe": recipes}}
        return toy_run(tmp_path, training={"arms": chosen, "seeds": 1}, **sections)

    generate(config(2, ["text"], "two", "all"))
    cards = train(config(2, ["text"], "two", "all"))
    generate(config(4, ["text", "mixup"], "two"))
    assert train(config(4, ["text", "mixup"], "two")) == cards[:1]
    with pytest.raises(RunMismatchError, match="synthetic_images: it has 6, this run 12"):
        train(config(4, ["text", "mixup"], "all"))


def test_models_of_other_images_by_the_same_keys_are_refused(tmp_path):
    config = toy_run(tmp_path, training={"seeds": 1, "arms": [{"name": "text", "recipe": "text"}]})
    generate(config)
    train(config)
    shutil.copytree(config.run / "models", tmp_path / "kept")
    other = config.model_copy(update={"plan": config.plan.model_copy(update={"seed": 1})})
    generate(other, overwrite=True)
    shutil.copytree(tmp_path / "kept", config.run / "models")
    with pytest.raises(RunMismatchError, match="its images were others"):
        train(other)


def test_another_background_is_another_training_and_overwriting_replaces_its_models(tmp_path):
    arms = {"arms": [{"name": "real-only"}], "seeds": 1}
    white, black = (toy_run(tmp_path, data={"background": name}, training=arms) for name in ("white", "black"))
    (card,) = train(white)
    with pytest.raises(RunMismatchError, match="its images were others"):
        train(black)
    folder = RunFolder(black.run).model_path("real-only", 0)
    with pytest.raises(Stopped):
        train(black, overwrite=True, progress=Told(stop=2))
    assert read_card(folder) is None  # the old model is not taken for the new one
    (other,) = train(black)
    assert other.fingerprint != card.fingerprint
    assert read_card(folder) == other


def test_features_of_a_probe_are_computed_once_for_all_seeds(done, monkeypatch):
    config, _ = done
    probe = {"model": "generator", "mode": "linear-probe", "image_size": None, "augment": {"crop": "resized"}}
    config = with_arms(config, {"name": "probe", "recipe": "text"}, **probe)
    images = RunImages(load_experiment(config))
    (arm,) = arms_of(config)
    prepare_training(images, arm, seed=0)

    def never(*about):
        raise AssertionError("computed again")

    monkeypatch.setattr(images.encoder(arm.config), "encode", never)
    prepare_training(images, arm, seed=1)


def test_an_arm_that_screening_left_nothing_is_named(done):
    config, _ = done
    experiment = load_experiment(config)
    arm = arms_of(config)[1]
    dropped = RunImages(experiment).added_keys(arm)
    with pytest.raises(TrainingError, match=f"the arm '{arm.name}' has no images to add .* screening dropped 12"):
        train_arms(experiment, dropped=dropped, overwrite=True)
    # Nothing was overwritten before that was found out.
    assert len(read_cards(config.run)) == 6
