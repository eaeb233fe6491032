"""What an arm trains and how that judges images, for whole networks and for linear probes alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from augcond.training.augmentation import BatchAugmentation
from augcond.training.batches import (
    BatchSampler,
    BatchSettings,
    EncodedInputs,
    FeatureInputs,
    ImageInputs,
    Inputs,
)
from augcond.training.cards import load_weights
from augcond.training.devices import find_rank
from augcond.training.loop import make_optimizer
from augcond.training.networks import build_classifier, check_network, input_size
from augcond.training.orders import Tilted
from augcond.training.probes import LinearHead, plain_features

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import TrainingConfig
    from augcond.training.arm_images import RunImages
    from augcond.training.arms import Arm
    from augcond.training.image_sets import ImageSet
    from augcond.training.probes import FrozenEncoder

_BATCH = 256
_UNKNOWN_SIZE = 224
_VIEW_SEED = 0  # the views of an image are computed once and shared by all training seeds


@dataclass(frozen=True, slots=True)
class Model:
    """A network, and how it judges images.

    Attributes:
        module: what is or was trained.
        size: edge length of the images that it judges.
        logits: gives the logits (N, C) of images of that size by a network like `module`.
    """

    module: nn.Module
    size: int
    logits: Callable[[nn.Module, ImageSet], Tensor]


def prepare_training(images: RunImages, arm: Arm, seed: int) -> tuple[Model, Inputs]:
    """Return what `arm` trains with a training seed, and the batches for it.

    Raises:
        TrainingError: there are no images of a kind that the arm asks for, or weights that do not fit.
        ConfigError: there is no such network.
    """
    return _probe(images, arm, seed) if arm.config.mode == "linear-probe" else _whole(images, arm, seed)


def check_training(config: TrainingConfig, classes: int, size: int | None = None) -> str | None:
    """Raise what would be wrong with the settings of an arm once it is trained; nothing is loaded or fetched.

    Args:
        config: the arm's settings.
        classes: number of classes.
        size: edge length of the input; where None, that of the network, and unknown for the generator's own encoder.

    Returns:
        The repository on the hub that weights have to be fetched from; None where they need not be.

    Raises:
        ConfigError: a network, optimiser or transform is unknown or does not go with the rest.
        TrainingError: there are no such weights, or they do not fit.
    """
    make_optimizer(nn.Linear(1, 1), config)
    fetched = None
    if config.model != "generator":
        fetched = check_network(config, classes)
        size = input_size(config)
    size = size or config.image_size
    augmentation = BatchAugmentation(config.augment, size or _UNKNOWN_SIZE)
    if size is not None:
        augmentation(torch.zeros(1, 3, *(augmentation.stored_size,) * 2, dtype=torch.uint8), 0, "check")
    return fetched


def _whole(images: RunImages, arm: Arm, seed: int) -> tuple[Model, Inputs]:
    config = arm.config
    classes = len(images.experiment.pool.classes)
    size = input_size(config)
    real, added = _augmentable(images, arm, size)
    sampler = _sampler(arm, real, added, seed, classes)
    inputs = ImageInputs((real, added), sampler, config.augment, size, classes, seed)
    return Model(build_classifier(config, classes, seed), size, _judge(config)), inputs


def _augmentable(images: RunImages, arm: Arm, size: int) -> tuple[ImageSet, ImageSet]:
    """Return the real images and those added to them, as augmentation to `size` pixels takes them."""
    augmentation = BatchAugmentation(arm.config.augment, size)
    stored, photos = augmentation.stored_size, augmentation.of_photos
    return images.real(stored, photos=photos), images.added(arm, stored, photos=photos)


def _judge(config: TrainingConfig) -> Callable[[nn.Module, ImageSet], Tensor]:
    device = find_rank(config).device
    return lambda module, judged: _image_logits(module, judged, device)


def _image_logits(module: nn.Module, images: ImageSet, device: torch.device) -> Tensor:
    """Return the logits, float32 (N, C), of images that are not augmented; `module` is left in the mode it was in."""
    training = module.training
    module.eval().to(device)
    parts = []
    with torch.inference_mode():
        for _, batch in images.batches(_BATCH):
            parts.append(module(batch.to(device).float() / 255).float().cpu())
    module.train(training)
    return torch.cat(parts)


def _probe(images: RunImages, arm: Arm, seed: int) -> tuple[Model, Inputs]:
    classes = len(images.experiment.pool.classes)
    encoder = images.encoder(arm.config)
    config, standardise = arm.config, arm.config.standardise
    if config.views == "fresh":
        sets = _augmentable(images, arm, encoder.size)
        fresh = ImageInputs(sets, _sampler(arm, *sets, seed, classes), config.augment, encoder.size, classes, seed)
        head = LinearHead(encoder.plain(images.real(encoder.size)), classes, seed, standardise=standardise)
        return Model(head, encoder.size, _probe_judge(encoder)), EncodedInputs(fresh, encoder.encode)
    real, added = images.real(encoder.size), images.added(arm, encoder.size)
    augmentable = _augmentable(images, arm, encoder.size)
    real_features = _features(real, augmentable[0], config, encoder)
    added_features = _features(added, augmentable[1], config, encoder) if len(added) else real_features[:, :0]
    sampler = _sampler(arm, real, added, seed, classes)
    targets = added.labels if added.mixed is None else added.targets(np.arange(len(added)), classes)
    inputs = FeatureInputs(real_features, real.labels, added_features, targets, sampler, seed)
    head = LinearHead(real_features.flatten(0, 1), classes, seed, standardise=standardise)
    return Model(head, encoder.size, _probe_judge(encoder)), inputs


def _probe_judge(encoder: FrozenEncoder) -> Callable[[nn.Module, ImageSet], Tensor]:
    def logits(module: nn.Module, judged: ImageSet) -> Tensor:
        mode = module.training
        device = next(module.parameters()).device
        module.eval()
        with torch.inference_mode():
            found: Tensor = module(encoder.plain(judged).to(device)).cpu()
        module.train(mode)
        return found

    return logits


def _features(plain: ImageSet, augmentable: ImageSet, config: TrainingConfig, encoder: FrozenEncoder) -> Tensor:
    """Return the plain features and those of the augmented views, (1 + views, N, D)."""
    views = encoder.views(augmentable, config.augment, int(config.views), _VIEW_SEED)
    return torch.cat([encoder.plain(plain)[None], views])


def _sampler(arm: Arm, real: ImageSet, added: ImageSet, seed: int, classes: int) -> BatchSampler:
    config = arm.config
    tilted = None
    if config.synthetic_tilt:
        tilted = Tilted(tuple(added.labels.tolist()), tuple(real.counts(classes)), config.synthetic_tilt)
    settings = BatchSettings(config.batch_size, arm.share, config.mix, config.real_steps, tilted)
    balance = real.labels.tolist() if arm.config.sampling == "class-balanced" else None
    return BatchSampler(len(real), len(added), settings, seed, arm.config.steps, balance)


def load_model(images: RunImages, config: TrainingConfig, folder: Path) -> Model:
    """Return the trained model in `folder`, which was trained with `config` and has no flaw, ready to be judged.

    Raises:
        CorruptRunError: its weights are missing or damaged.
    """
    classes = len(images.experiment.pool.classes)
    if config.mode == "linear-probe":
        encoder = images.encoder(config)
        width = plain_features(encoder.encode, images.real(encoder.size).take([0])).shape[1]
        module: nn.Module = LinearHead(torch.zeros(1, width), classes, seed=0)
        model = Model(module, encoder.size, _probe_judge(encoder))
    else:
        # The weights that it started from are not needed again.
        fresh = config.model_copy(update={"mode": "scratch", "weights": None})
        module = build_classifier(fresh, classes, seed=0)
        model = Model(module, input_size(config), _judge(config))
    load_weights(folder, module)
    return model
