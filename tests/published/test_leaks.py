"""Each of the four leaks of the published scripts, planted: refused as an accident, flagged where it is asked for."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from augcond.datasets import load_dataset
from augcond.datasets.protocol import protocol_of
from augcond.datasets.splits import draw_split, few_shot, subset
from augcond.errors import ConfigError, LeakError, RunMismatchError
from augcond.pipeline import evaluate, generate, run, train
from augcond.published import leaks
from augcond.published.leaks import BestEpoch, replace_by_synthetic
from augcond.store import RunFolder
from augcond.training import trainer
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.experiment import evaluation_images, load_experiment
from augcond.training.guards import check_apart, overlap
from tests.training.toys import SIZE, toy_images, toy_run

FEW = {"split": {"name": "few-shot", "k": 3, "seed": 1}}
LEAKS = ["synthetic-validation", "whole-train-sources", "fixed-training-subset", "best-epoch"]


def test_nothing_published_is_imported_unless_a_config_asks_for_it(tmp_path):
    config = tmp_path / "config.json"
    short = {"seeds": 1, "steps": 2, "arms": [{"name": "text", "recipe": "text"}]}
    config.write_text(toy_run(tmp_path, training=short).model_dump_json())
    script = """
import sys
from pathlib import Path
from augcond.config import RunConfig
from augcond.pipeline import evaluate, generate, train
from augcond.datasets.protocol import protocol_of

config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
generate(config), train(config), evaluate(config)
print([name for name in sys.modules if name.startswith("augcond.published")])
protocol_of(config.model_copy(update={"leaks": ("best-epoch",)}))
print("augcond.published.leaks" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script, str(config)], capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines() == ["[]", "True"], done.stderr


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
    validation = protocol_of(config).held_out(pool, lambda: pytest.fail("no such images are asked for"))
    assert overlap(training, validation)
    with pytest.raises(LeakError, match="validation images are training images too"):
        check_apart(training, validation, "validation")


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
    assert best.restore(module) == "step 2 of 3 was best on the images that are reported"
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


def limited(root, monkeypatch):
    """Return a small run with an arm of two images a class, and the keys of what it is judged with."""
    arms = [{"name": "real-only"}, {"name": "two", "recipe": "text", "per_class": 2}]
    config = toy_run(root, data=FEW, leaks=["synthetic-validation"], training={"seeds": 1, "steps": 1, "arms": arms})
    keys = []

    def replaced(images, synthetic, seed):
        keys.append(synthetic.keys)
        return replace_by_synthetic(images, synthetic, seed)

    monkeypatch.setattr(leaks, "replace_by_synthetic", replaced)
    generate(config)
    train(config)
    return config, keys


def test_an_arm_of_few_images_is_judged_with_those_that_it_was_trained_on(tmp_path, monkeypatch):
    config, keys = limited(tmp_path, monkeypatch)
    evaluate(config)
    trained = RunImages(load_experiment(config)).added_keys(arms_of(config)[1])
    assert keys == [trained]
    assert len(trained) == 6


def test_a_leak_does_not_judge_with_other_images_than_were_trained_on(tmp_path, monkeypatch):
    """Models of 0.1 do not say how many images of each class they had."""
    config, _ = limited(tmp_path, monkeypatch)
    path = RunFolder(config.run).model_path("two", 0) / "model.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["per_class"], values["seal"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RunMismatchError, match=r"was trained on 6 images .* would judge it with 12: train it anew"):
        evaluate(config)


def test_the_best_epoch_is_what_is_saved(tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    seen = []

    def accuracy(module):
        seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(accuracies)

    monkeypatch.setattr(trainer, "_accuracy", lambda *about: accuracy)
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


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("generated")
    generate(toy_run(root))
    return root
