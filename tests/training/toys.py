"""Small image sets and settings that the tests of training share."""

from __future__ import annotations

from typing import Any

import torch

from augcond.config import TrainingConfig
from augcond.training.images import ImageSet, MemoryPixels

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
