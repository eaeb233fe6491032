"""Small image sets and settings that the tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from augcond.config import RunConfig, TrainingConfig
from augcond.training.batches import BatchSampler, BatchSettings, ImageInputs
from augcond.training.image_sets import ImageSet
from augcond.training.loop import Task
from augcond.training.losses import make_objective
from augcond.training.networks import build_classifier
from augcond.training.pixels import MemoryPixels
from tests.toy import config_with

CLASSES = 3
SIZE = 16


def toy_images(per_class: int, *, seed: int = 0, size: int = SIZE, name: str = "real") -> ImageSet:
    """Return images whose class is their colour, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat(per_class)
    images = torch.randint(0, 120, (len(labels), 3, size, size), generator=generator)
    images[torch.arange(len(labels)), labels] += 100
    keys = tuple(f"{name}/{i}" for i in range(len(labels)))
    return ImageSet(keys, labels, MemoryPixels(images.to(torch.uint8)))


def toy_settings(**keys: Any) -> TrainingConfig:
    """Return settings of a training that takes a second."""
    values: dict[str, Any] = {"image_size": SIZE, "steps": 8, "batch_size": 8, "device": "cpu", "lr": 0.02, "seeds": 1}
    return TrainingConfig.model_validate(values | keys)


def write_colours(root: Path, per_class: int | list[int], *, seed: int = 0) -> Path:
    """Write a folder of three classes whose images are told by their colour, and return it."""
    rng = np.random.default_rng(seed)
    counts = per_class if isinstance(per_class, list) else [per_class] * CLASSES
    for label, count in enumerate(counts):
        folder = root / "abc"[label]
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
            pixels[..., label] += 100
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def toy_run(root: Path, **sections: Any) -> RunConfig:
    """Return the config of a small run of the fake generator, with training, validation and test images of its own."""
    if not (root / "train").exists():
        for part, count, seed in (("train", [12, 8, 6], 0), ("validation", 5, 1), ("test", 8, 2)):
            write_colours(root / part, count, seed=seed)
    values: dict[str, Any] = {
        "data": {"path": root / "train", "validation": root / "validation", "test": root / "test"},
        "run": root / "run",
        "plan": {"per_class": 4},
        "conditioning": {"recipe": ["text", "mixup"]},
        "generator": {"name": "fake"},
        "engine": {"shard_size": 8, "batch_size": 8},
        "training": {"image_size": SIZE, "steps": 6, "batch_size": 8, "device": "cpu", "lr": 0.05, "seeds": 2},
        "evaluation": {"many": 10, "few": 7, "bootstrap": 100},
    }
    return config_with(values, sections)


def toy_task(config: TrainingConfig, *, seed: int = 0, **keys: Any) -> Task:
    """Return a training on toy images; with cross entropy, of a network with dropout."""
    real, synthetic = toy_images(6), toy_images(10, seed=1, name="synthetic")
    mix = BatchSettings(config.batch_size, config.synthetic_share, config.mix)
    sampler = BatchSampler(len(real), len(synthetic), mix, seed, config.steps)
    network = build_classifier(config, CLASSES, seed)
    return Task(
        module=nn.Sequential(network, nn.Dropout(0.3)) if config.loss == "cross-entropy" else network,
        inputs=ImageInputs((real, synthetic), sampler, config.augment, SIZE, CLASSES, seed),
        objective=make_objective("balanced-softmax", [6, 6, 6], ("a", "b", "c")),
        config=config,
        seed=seed,
        fingerprint="f",
        **keys,
    )
