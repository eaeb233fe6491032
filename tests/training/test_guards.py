"""The guards: what must not be trained on, or judged on, is refused and named."""

import re
import shutil

import pytest

from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.datasets.loading import load_held_out
from augcond.datasets.splits import few_shot, make_split, subset
from augcond.errors import LeakError, RunMismatchError
from augcond.pipeline import evaluate, generate, run, train
from augcond.training.arms import arms_of
from augcond.training.experiment import load_experiment
from augcond.training.guards import check_apart, check_sources, overlap
from tests.toy import toy_dataset
from tests.training.toys import toy_run


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


def test_overlap_by_bytes_across_folders_and_by_key_within_one():
    pool = toy_dataset({"a": 4})
    training, held_out = subset(pool, ["a/0.png", "a/1.png"]), subset(pool, ["a/1.png", "a/2.png"])
    assert overlap(training, held_out) == [("a/1.png", "a/1.png")]
    elsewhere = toy_dataset({"a": 2})
    assert overlap(training, elsewhere) == [("a/0.png", "a/0.png"), ("a/1.png", "a/1.png")]
    other = toy_dataset({"b": 2})
    assert overlap(training, other) == []


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
