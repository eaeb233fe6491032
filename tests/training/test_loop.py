"""Training learns, and a resumed training equals an uninterrupted one."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from augcond.errors import ConfigError, TrainingError
from augcond.training import loop
from augcond.training.cards import load_checkpoint
from augcond.training.devices import find_rank
from augcond.training.loop import Task, fit, make_optimizer
from tests.training.toys import CLASSES, toy_images, toy_settings, toy_task


class Stopped(Exception):
    pass


def stop_at(step):
    def on_step(done, module):
        if done == step:
            raise Stopped

    return on_step


def test_a_training_learns_the_colours():
    made = toy_task(toy_settings(steps=30, lr=0.05))
    history = fit(made).history
    assert history[-1][0] == 30
    test = toy_images(20, seed=9)
    with torch.inference_mode():
        predicted = made.module(test.pixels.batch(range(60)).float() / 255).argmax(1)
    assert (predicted == test.labels).float().mean() > 0.9
    assert not made.module.training


SETTINGS = {
    "sgd": {"augment": {"transforms": [{"name": "RandAugment"}], "mix": "cutmix"}},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "mix": "bernoulli", "augment": {"crop": "resized"}, "clip_norm": 1.0},
    "dropout": {"loss": "cross-entropy"},
    # These count their steps in the groups of parameters.
    "lamb": {"optimizer": "lamb", "lr": 0.01},
    "adan": {"optimizer": "adan", "lr": 0.01},
    "lookahead": {"optimizer": "lookahead_adamw", "lr": 0.01},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, name):
    config = toy_settings(checkpoint_every=3, warmup_steps=2, **SETTINGS[name])
    whole = toy_task(config)
    history = fit(whole).history
    path = tmp_path / "checkpoint.safetensors"
    # Stopped after step 5 the training goes on from the checkpoint of step 3, and after step 7 from that of step 6.
    for step in (5, 7):
        with pytest.raises(Stopped):
            fit(toy_task(config, checkpoint=path, on_step=stop_at(step)))
    torch.manual_seed(1234)  # the process's own random state plays no part
    resumed = toy_task(config, checkpoint=path)
    seen = []
    before = load_checkpoint(path, resumed.module, make_optimizer(resumed.module, config), resumed.fingerprint)
    fitted = fit(
        Task(**{f: getattr(resumed, f) for f in Task.__slots__} | {"on_step": lambda done, module: seen.append(done)})
    )
    assert seen == [7, 8]
    assert fitted.history == history
    assert fitted.seconds > before.seconds > 0  # what came before the interruption counts too
    for tensor, other in zip(whole.module.state_dict().values(), resumed.module.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)


def test_a_checkpoint_of_another_training_or_a_broken_one_is_passed_over(tmp_path):
    config = toy_settings(steps=4, checkpoint_every=2)
    path = tmp_path / "checkpoint.safetensors"
    fit(toy_task(config, checkpoint=path))
    seen = []
    other = toy_task(config, seed=1, checkpoint=path, on_step=lambda done, module: seen.append(done))
    fit(Task(**{f: getattr(other, f) for f in Task.__slots__} | {"fingerprint": "other"}))
    assert seen == [1, 2, 3, 4]
    path.write_bytes(path.read_bytes()[:100])
    seen.clear()
    fit(toy_task(config, checkpoint=path, on_step=lambda done, module: seen.append(done)))
    assert seen == [1, 2, 3, 4]


def test_a_diverging_loss_says_what_to_do():
    with pytest.raises(TrainingError, match=r"lower training\.lr"):
        fit(toy_task(toy_settings(steps=20, lr=1e30)))


def test_optimisers_that_cannot_be_used_are_config_errors():
    with pytest.raises(ConfigError, match=r"training\.optimizer 'sdg'"):
        fit(toy_task(toy_settings(optimizer="sdg")))
    with pytest.raises(ConfigError, match=r"training\.optimizer 'adahessian' needs second derivatives"):
        fit(toy_task(toy_settings(optimizer="adahessian")))


def learning_rates(monkeypatch, **keys):
    """Return the learning rate of every step of a training."""
    optimizers = []

    def kept(module, config):
        optimizers.append(make_optimizer(module, config))
        return optimizers[-1]

    monkeypatch.setattr(loop, "make_optimizer", kept)
    seen = []
    config = toy_settings(lr=0.01, steps=10, **keys)
    fit(toy_task(config, on_step=lambda done, module: seen.append(optimizers[-1].param_groups[0]["lr"])))
    return seen


def test_the_learning_rate_follows_the_schedule(monkeypatch):
    def half_cosine(share):
        return 0.01 * (1 + math.cos(math.pi * share)) / 2

    constant = learning_rates(monkeypatch, schedule="constant")
    assert constant == pytest.approx([0.01] * 10)
    cosine = learning_rates(monkeypatch)
    assert cosine == pytest.approx([half_cosine(step / 10) for step in range(10)])
    warm = learning_rates(monkeypatch, warmup_steps=4)
    assert warm[:4] == pytest.approx([0.002, 0.004, 0.006, 0.008])
    assert warm[4:] == pytest.approx([half_cosine(step / 6) for step in range(6)])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_inputs_and_labels_of_a_step_are_mixed(name):
    augment = {"crop": "none", "flip": 0}
    plain, mixed = (toy_task(toy_settings(augment={**augment, "mix": mix})).inputs for mix in ("none", name))
    (images, labels), (blends, shares) = (inputs(0, find_rank(toy_settings())) for inputs in (plain, mixed))
    unlike = torch.nonzero(labels != labels.roll(1))[0]
    share = shares[unlike, labels[unlike]].item()
    assert 0 < share < 1
    classes = functional.one_hot(labels, CLASSES)
    assert torch.allclose(shares, share * classes + (1 - share) * classes.roll(1, 0))
    if name == "mixup":
        assert torch.allclose(blends, share * images + (1 - share) * images.roll(1, 0), atol=1e-6)
    else:
        assert (blends == images).all(dim=1).float().mean().item() == pytest.approx(share, abs=0.02)


def test_weight_decay_acts_on_weights_alone_or_on_everything():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    kept = {}
    for decay in ("weights", "all"):
        config = toy_settings(optimizer="momentum", weight_decay=0.1, decay=decay)
        groups = make_optimizer(module, config).param_groups
        kept[decay] = sum(len(group["params"]) for group in groups if group["weight_decay"] == 0.1)
        assert all(group["nesterov"] is False for group in groups)
    assert kept == {"weights": 1, "all": 4}
    assert make_optimizer(module, toy_settings(optimizer="sgd")).param_groups[0]["nesterov"] is True
