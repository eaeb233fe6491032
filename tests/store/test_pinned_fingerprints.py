"""Fingerprints as literals: a run on disk is known by them, so no change of this code may change one.

What fails here has made every run on disk unknown. A key that was added needs a neutral value (config/base.py); a key
that moved stays where it was in what is hashed (config/moved.py). A default that changed is another config: spell out
the old value here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from augcond.config import parse_config
from augcond.datasets import DecodeSettings
from augcond.generators import GeneratorIdentity
from augcond.planning import make_plan
from augcond.store import RunFolder
from augcond.store.fingerprint import image_settings, row_fingerprints, shard_fingerprints
from augcond.store.images import ImageFormat
from augcond.store.plans import source_facts
from augcond.training import trainer
from augcond.training.arms import arms_of
from tests.toy import toy_dataset

OF_0_1 = Path(__file__).parents[1] / "data" / "run-0.1"

IMAGES = {
    "defaults": ({}, "stable-unclip", "ed5f45ef"),
    "every parameter of a recipe": (
        {
            "conditioning": {
                "recipe": ["mixup-dropout", "real-guidance"],
                "alpha": 0.4,
                "dropout": 0.2,
                "rescale": True,
                "strength": 0.7,
                "mix_probability": 0.5,
                "sources": 3,
                "crop_scale": [0.2, 0.9],
                "augment": [{"name": "RandomHorizontalFlip"}],
            }
        },
        "stable-unclip",
        "f3e4da5c",
    ),
    "sampling": (
        {"generator": {"guidance_scale": 10, "guidance_interval": [0.1, 0.9], "steps": 50, "scheduler": "ddim"}},
        "stable-unclip",
        "3fa9d310",
    ),
    "settings of unCLIP": (
        {"generator": {"noise_level": 20, "published_dropout": True, "negative_prompt": "blurry"}},
        "stable-unclip",
        "7af53d47",
    ),
    "an adapter": ({"generator": {"name": "ip-adapter", "adapter": {"scale": 0.6}}}, "ip-adapter", "4c914abf"),
    "Kandinsky": ({"generator": {"name": "kandinsky-2.2", "size": 64}}, "kandinsky-2.2", "19fd1b0a"),
    "prompts": ({"prompt": ["a {class_name}", "one {class_name}"], "plan": {"seed": 7}}, "stable-unclip", "23a8ee7b"),
    "output": (
        {"output": {"format": "jpeg", "quality": 70, "size": 16}, "data": {"background": "black"}},
        "stable-unclip",
        "6e6c05a0",
    ),
}

MODELS = {
    "defaults": ({}, "e561f3cc"),
    "a long tail": (
        {"loss": "balanced-softmax", "counts": "effective", "augment": {"crop": "resized", "mix": "cutmix"}, "lr": 0.1},
        "9e94ba89",
    ),
}


def fingerprint_of(values, name):
    data = {"source": "builtin", **values.get("data", {})}
    # The default of 0.1, as it resolved it.
    generator = {"steps": 20, **values.get("generator", {})}
    config = parse_config({**values, "data": data, "generator": generator, "run": "runs/a"})
    dataset = toy_dataset({"cat": 2, "dog": 3})
    plan = make_plan(dataset, config.plan, config.conditioning, prompts=config.prompt)
    edge = config.generator.size or 32
    image_format = ImageFormat.resolve(config.output, (edge, edge))
    identity = GeneratorIdentity(name, "builtin", "sha256:0")
    decoding = DecodeSettings.of(config.data)
    settings = image_settings(config, identity, decoding, image_format, (edge, edge))
    return "".join(shard_fingerprints(plan, settings, source_facts(dataset)))


@pytest.mark.parametrize("name", IMAGES)
def test_of_images(name):
    values, generator, pinned = IMAGES[name]
    assert hashlib.sha256(fingerprint_of(values, generator).encode()).hexdigest()[:8] == pinned


@pytest.mark.parametrize("name", MODELS)
def test_of_models(name):
    training, pinned = MODELS[name]
    config = parse_config({"data": {"source": "builtin"}, "run": "runs/a", "training": training})
    (arm, *_) = arms_of(config)
    run = SimpleNamespace(config=config, training=toy_dataset({"cat": 2, "dog": 3}))
    images = SimpleNamespace(experiment=run, added_sha256=lambda arm: "0")
    settings = trainer.training_settings(images, arm.config)
    weights = trainer.weights_identity(images, arm.config)
    assert trainer._fingerprint(images, arm, 3, settings, weights)[:8] == pinned


def test_those_of_0_1_are_made_as_0_1_made_them():
    folder = RunFolder(OF_0_1)
    plan = folder.read_plan()
    facts = folder.read_source_facts(plan.versions)
    assert tuple(shard_fingerprints(plan.plan, plan.settings, facts)) == plan.fingerprints
    assert len(list(row_fingerprints(plan.plan.table, plan.settings, facts))) == 20
