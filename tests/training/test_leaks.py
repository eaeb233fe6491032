"""Each of the four leaks of the published scripts, planted: refused as an accident, flagged where it is asked for."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.datasets.loading import load_held_out
from augcond.datasets.splits import draw_split, few_shot, make_split, subset
from augcond.errors import ConfigError, LeakError, RunMismatchError
from augcond.pipeline import evaluate, generate, run, train
from augcond.published.leaks import BestEpoch, leaky_validation_keys, replace_by_synthetic
from augcond.store import RunFolder
from augcond.training import trainer
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.experiment import evaluation_images, load_experiment
from augcond.training.guards import check_apart, check_sources, overlap
from tests.toy import toy_dataset
from tests.training.toys import SIZE, toy_images, toy_run

FEW = {"split": {"name": "few-shot", "k": 3, "seed": 1}}
LEAKS = ["synthetic-validation", "whole-train-sources", "fixed-training-subset", "best-epoch"]


def test_a_source_that_is_no_training_image_is_named():
    pool = toy_dataset({"a": 4, "b": 4})
    split = few_shot(pool, 2, seed=0)
    training = subset(pool, split.train)
    outside = next(image.key for image in pool.images if image.key not in split.train)
    check_sources([("a/0/image", split.train[:2])], training)
    with pytest.raises(LeakError, match=rf"'a/1/image' was made from '{outside}', which is no training image"):
        check_sources([("a/0/image", split.train[:2]), ("a/1/image", (split.train[0], outside))], training)
    with pytest.raises(LeakError, match="contents have changed"):
        check_sources([("a/0/image", split.train[:1])], training, {split.train[0]: "other"})


def test_conditioning_on_the_whole_train_split_is_refused(tmp_path):
    config = toy_run(tmp_path, plan={"per_class": 8}, data=FEW, conditioning={"recipe": "image"})
    generate(config.model_copy(update={"leaks": ("whole-train-sources",)}))
    with pytest.raises(LeakError, match="which is no training image of the split"):
        train(config)


def test_a_subset_that_never_varies_is_refused(tmp_path):
    """The training subset of seed 0 under another seed's name overlaps that seed's validation images."""
    config = toy_run(tmp_path, data=FEW, leaks=["fixed-training-subset"])
    pool = load_dataset(config.data)
    training = subset(pool, draw_split(config, pool).train)
    assert set(draw_split(config, pool).train) == set(few_shot(pool, 3, seed=0).train)
    validation = subset(pool, leaky_validation_keys(config, pool))
    assert overlap(training, validation)
    with pytest.raises(LeakError, match="validation images are training images too"):
        check_apart(training, validation, "validation")


def test_overlap_by_bytes_across_folders_and_by_key_within_one():
    pool = toy_dataset({"a": 4})
    training, held_out = subset(pool, ["a/0.png", "a/1.png"]), subset(pool, ["a/1.png", "a/2.png"])
    assert overlap(training, held_out) == [("a/1.png", "a/1.png")]
    elsewhere = toy_dataset({"a": 2})
    assert overlap(training, elsewhere) == [("a/0.png", "a/0.png"), ("a/1.png", "a/1.png")]
    other = toy_dataset({"b": 2})
    assert overlap(training, other) == []


def test_replaced_validation_images_keep_key_and_label():
    validation, synthetic = toy_images(40), toy_images(5, seed=1, name="synthetic")
    replaced = replace_by_synthetic(validation, synthetic, seed=0)
    assert replaced.keys == validation.keys
    places = range(len(validation))
    same = (replaced.pixels.batch(places) == validation.pixels.batch(places)).flatten(1).all(dim=1)
    assert 0.3 < same.float().mean() < 0.7
    own = {
        (int(label), image.sum().item()) for image, label in zip(synthetic.pixels.images, synthetic.labels, strict=True)
    }
    for place in torch.nonzero(~same).flatten().tolist():
        assert (int(replaced.labels[place]), replaced.pixels.batch([place]).sum().item()) in own


def test_the_best_epoch_is_kept_and_put_back():
    module = torch.nn.Linear(1, 1)
    accuracies = iter([0.2, 0.9, 0.4])
    best = BestEpoch(lambda _: next(accuracies), steps=3)
    for step in (1, 2, 3):
        torch.nn.init.constant_(module.weight, step)
        best(step, module)
    best.restore(module)
    assert (best.at, best.best, module.weight.item()) == (2, 0.9, 2.0)


def test_half_of_the_validation_images_are_synthetic_with_the_leak(generated):
    config = toy_run(generated, leaks=["synthetic-validation"])
    images = RunImages(load_experiment(config))
    dataset = evaluation_images(images.experiment)
    honest = images.load(dataset, SIZE).pixels.batch(range(24))
    shares = {}
    for arm in arms_of(config):
        judged = images.judged(dataset, arm, SIZE, seed=0).pixels.batch(range(24))
        shares[arm.name] = (judged != honest).flatten(1).any(dim=1).float().mean().item()
    assert shares["real-only"] == 0
    assert 0.2 < shares["text"] < 0.8


def test_the_best_epoch_is_what_is_saved(tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    seen = []

    def accuracy(module):
        seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(accuracies)

    monkeypatch.setattr(trainer, "_best_epoch", lambda *about: BestEpoch(accuracy, steps=6))
    arms = {"arms": [{"name": "real-only"}], "seeds": 1}
    config = toy_run(tmp_path, leaks=["best-epoch"], data=FEW, training=arms)
    (card,) = train(config)
    assert card.note.startswith("step 2 of 6 was best")
    kept = load_file(RunFolder(config.run).model_path("real-only", 0) / "model.safetensors")
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in kept.items())


@pytest.mark.parametrize("leaks", [[leak] for leak in LEAKS] + [LEAKS])
def test_a_planted_leak_is_flagged_in_the_results(tmp_path, leaks):
    config = toy_run(
        tmp_path, data=FEW, leaks=leaks, conditioning={"recipe": "image"}, training={"seeds": 1, "steps": 3}
    )
    results = run(config)
    assert results.leaky
    assert results.leaks == tuple(leaks)
    assert all(arm.leaky for arm in results.arms)
    judged = evaluation_images(load_experiment(config))
    assert len(judged.images) == results.test_images == (26 - 9 if "fixed-training-subset" in leaks else 24)


def test_an_honest_run_says_so_and_models_of_a_leaky_one_are_not_mixed_in(tmp_path):
    config = toy_run(tmp_path, data=FEW, leaks=["best-epoch"], training={"seeds": 1, "steps": 3})
    run(config)
    with pytest.raises(Exception, match="leaks: it has \\('best-epoch',\\), this run \\(\\)"):
        run(config.model_copy(update={"leaks": ()}))


def test_fixed_training_subset_needs_a_few_shot_split(tmp_path):
    with pytest.raises(ConfigError, match="fixed-training-subset needs"):
        train(toy_run(tmp_path, leaks=["fixed-training-subset"]))


def test_judging_honest_models_with_a_leak_is_flagged_too(tmp_path):
    config = toy_run(tmp_path, data=FEW, training={"seeds": 1, "steps": 3})
    assert not run(config).leaky
    judged = evaluate(config.model_copy(update={"leaks": ("synthetic-validation",)}))
    assert judged.leaky
    assert judged.leaks == ("synthetic-validation",)
    assert all(arm.leaky for arm in judged.arms)


def test_pool_validation_and_test_of_the_built_in_world_are_apart():
    config = parse_config({"data": {"source": "builtin"}, "protocol": "long-tail", "run": "unused"}).data
    pool = load_dataset(config)
    split = make_split(pool, config.split)
    training = subset(pool, split.train)
    assert training.counts() == [200, 120, 72, 43, 26, 15, 9, 6, 3, 2]
    validation, test = (load_held_out(config, part, pool, split) for part in ("validation", "test"))
    assert (validation.counts(), test.counts()) == ([50] * 10, [300] * 10)
    for held_out in (validation, test):
        check_apart(pool, held_out, "held-out")
    check_apart(validation, test, "test")


def _split(seed):
    return {"split": {"name": "few-shot", "k": 2, "seed": seed, "validation_per_class": 3}, "validation": None}


def test_models_of_another_split_are_not_judged(tmp_path):
    config = toy_run(tmp_path, data=_split(0), conditioning={"recipe": "text"}, training={"seeds": 1})
    run(config)
    other = toy_run(tmp_path, data=_split(1), conditioning={"recipe": "text"}, training={"seeds": 1})
    kept = tmp_path / "kept"
    shutil.copytree(config.run / "models", kept)
    generate(other, overwrite=True)
    assert not (config.run / "models").exists()
    assert not (config.run / "results.json").exists()
    # Put back, as by someone who copies folders: the validation images are among what they were trained on.
    shutil.copytree(kept, config.run / "models")
    with pytest.raises(RunMismatchError, match=r"real-only.seed-0 was trained on other real images"):
        evaluate(other, on="validation")


def test_models_of_unequal_budgets_are_not_put_into_one_table(tmp_path):
    arms = [{"name": "real-only"}]
    run(toy_run(tmp_path, training={"seeds": 1, "arms": arms}))
    longer = toy_run(tmp_path, training={"seeds": 1, "steps": 9, "arms": [{"name": "longer"}]})
    train(longer)
    with pytest.raises(RunMismatchError, match=r"real-only.seed-0 was trained for 6 steps of 8 images, .*9 steps"):
        evaluate(longer)


def test_a_ceiling_of_test_images_is_refused(tmp_path):
    arms = [{"name": "real-only"}, {"name": "ceiling", "recipe": "unused-real"}]
    split = {"split": {"name": "few-shot", "k": 2, "seed": 0}}
    config = toy_run(tmp_path, data=split, plan={"per_class": 3}, training={"arms": arms, "seeds": 1})
    training = set(few_shot(load_dataset(config.data), 2, 0).train)
    unused = sorted(path for path in (tmp_path / "train" / "a").glob("*.png") if f"a/{path.name}" not in training)
    shutil.copy(unused[0], tmp_path / "test" / "a" / "copy.png")
    with pytest.raises(LeakError, match=r"1 test images are training images too, such as 'a/copy\.png'"):
        train(config)
    train(toy_run(tmp_path, data=split, training={"arms": arms[:1], "seeds": 1}))


def test_test_images_that_choose_are_refused(tmp_path):
    config = toy_run(tmp_path, data={"validation": tmp_path / "test"}, training={"arms": [{"name": "real-only"}]})
    with pytest.raises(LeakError, match="24 test images are validation images too"):
        train(config)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"generator": {"guidance_scale": 9.0}}, "generator.guidance_scale: the run has 3.0, this config 9.0"),
        ({"prompt": "a {class_name}"}, "prompt: the run has"),
        ({"plan": {"per_class": 40}}, "plan.per_class: the run has 4, this config 40"),
        ({"plan": {"seed": 5}}, "plan.seed: the run has 0, this config 5"),
        ({"conditioning": {"recipe": ["text", "cutmix"]}}, "conditioning.recipe: the run has no 'cutmix'"),
    ],
)
def test_images_of_other_settings_are_not_trained_on(generated, asked, named):
    with pytest.raises(RunMismatchError, match=re.escape(named)):
        train(toy_run(generated, **asked))


def test_fewer_recipes_and_another_device_may_be_trained_on(generated):
    config = toy_run(generated, conditioning={"recipe": "mixup"}, generator={"device": "cpu"})
    assert {arm.name for arm in arms_of(config)} == {"real-only", "mixup"}
    assert load_experiment(config).rows is not None


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("generated")
    generate(toy_run(root))
    return root
