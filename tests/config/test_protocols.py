"""Protocols set what the config does not spell, and say what they need."""

import pytest

from augcond.config import parse_config
from augcond.errors import ConfigError

BUILTIN = {"data": {"source": "builtin"}, "run": "runs/x"}
FOLDER = {"data": {"source": "folder", "path": "photos"}, "run": "runs/x"}


def test_long_tail_on_the_built_in_world():
    config = parse_config({**BUILTIN, "protocol": "long-tail"})
    assert (config.data.split.name, config.data.split.imbalance, config.data.split.head) == ("long-tail", 100, 200)
    assert config.plan.fill_to == 200
    assert (config.training.loss, config.training.counts, config.training.mix) == ("balanced-softmax", "real", "exact")
    assert config.leaks == ()


def test_long_tail_elsewhere_takes_the_data_as_it_is_and_asks_for_the_amount():
    with pytest.raises(ConfigError, match=r"protocol 'long-tail' needs plan\.fill_to"):
        parse_config({**FOLDER, "protocol": "long-tail"})
    config = parse_config({**FOLDER, "protocol": "long-tail", "plan": {"fill_to": 1280}})
    assert config.data.split is None


def test_few_shot():
    config = parse_config({**FOLDER, "protocol": "few-shot", "data": {**FOLDER["data"], "split": {"k": 2, "seed": 3}}})
    assert (config.data.split.k, config.data.split.seed, config.data.split.name) == (2, 3, "few-shot")
    assert config.plan.per_class == 16
    assert (config.training.mode, config.training.model, config.training.weights) == ("linear-probe", "resnet50", "hub")
    small = parse_config({**BUILTIN, "protocol": "few-shot"})
    assert (small.training.model, small.training.mode) == ("small-cnn", "scratch")


def test_what_the_config_spells_goes_first():
    values = {**BUILTIN, "protocol": "long-tail", "plan": {"per_class": 3}, "training": {"loss": "cross-entropy"}}
    config = parse_config(values, ("data.split.imbalance=10",))
    assert (config.plan.per_class, config.plan.fill_to) == (3, None)
    assert config.training.loss == "cross-entropy"
    assert config.training.counts == "real"
    assert config.data.split.imbalance == 10
    other = parse_config({**BUILTIN, "protocol": "long-tail"}, ("data.split={name: few-shot, k: 5}",))
    assert other.data.split.k == 5


def test_published_plants_all_four_leaks():
    config = parse_config({**BUILTIN, "protocol": "published"})
    assert set(config.leaks) == {
        "synthetic-validation",
        "whole-train-sources",
        "fixed-training-subset",
        "best-epoch",
    }
    assert config.training.mix == "bernoulli"
    assert config.data.split.name == "few-shot"


@pytest.mark.parametrize("protocol", ["long-tail", "few-shot", "published", None])
def test_a_saved_config_means_the_same_again(protocol):
    config = parse_config({**BUILTIN, "protocol": protocol})
    assert parse_config(config.model_dump(mode="json")) == config


def test_an_unknown_protocol_is_named():
    with pytest.raises(ConfigError, match="protocol: "):
        parse_config({**BUILTIN, "protocol": "longtail"})


def test_presets_train_as_published():
    few = parse_config({**FOLDER, "protocol": "few-shot"}).training
    assert (few.optimizer, few.lr, few.schedule, few.views, few.standardise) == (
        "adam",
        1e-4,
        "constant",
        "fresh",
        False,
    )
    tail = parse_config({**FOLDER, "protocol": "long-tail", "plan": {"fill_to": 10}}).training
    assert (tail.optimizer, tail.momentum, tail.decay, tail.schedule) == ("momentum", 0.9, "all", "cosine")
