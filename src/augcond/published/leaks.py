"""The four leaks of the published few-shot scripts, one by one, to measure what they are worth.

Nothing here runs unless a config asks for it (`leaks:` or `protocol: published`); results are then marked leaky.

    synthetic-validation    validation images are replaced by synthetic ones with probability 1/2
    whole-train-sources     generation is conditioned on the whole training set, at any k
    fixed-training-subset   the training subset is always that of seed 0; validation is what the trial's own seed
                            leaves, and so overlaps it
    best-epoch              the best epoch on the validation set is what is reported
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from augcond.conditioning.streams import numpy_stream
from augcond.datasets.splits import few_shot
from augcond.errors import ConfigError, TrainingError
from augcond.training.image_sets import ImageSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.config import RunConfig, SplitConfig
    from augcond.datasets import Dataset

REPLACED = 0.5
"""Probability that a validation image is replaced by a synthetic one."""

EPOCHS = 50
"""So often a training is looked at to find its best epoch."""


def leaky_split_config(config: RunConfig) -> SplitConfig:
    """Return the split of the training subset that every trial shares: that of seed 0."""
    return _few_shot_config(config).model_copy(update={"seed": 0, "validation_per_class": 0})


def leaky_validation_keys(config: RunConfig, pool: Dataset) -> list[str]:
    """Return the images that the trial's own seed leaves: they overlap the training subset, which is that of seed 0."""
    split = _few_shot_config(config)
    if split.k is None:
        raise ConfigError("the leak fixed-training-subset needs data.split.k")
    own = set(few_shot(pool, split.k, split.seed).train)
    return [image.key for image in pool.images if image.key not in own]


def _few_shot_config(config: RunConfig) -> SplitConfig:
    split = config.data.split
    if split is None or split.name != "few-shot":
        raise ConfigError("the leak fixed-training-subset needs data.split: {name: few-shot, k: ...}")
    return split


def replace_by_synthetic(images: ImageSet, synthetic: ImageSet, seed: int, probability: float = REPLACED) -> ImageSet:
    """Return `images` with each replaced, with this probability, by a synthetic image of its class; keys stay.

    Args:
        images: validation images.
        synthetic: the images that the classifier was trained on.
        seed: draws which are replaced, and by what.
        probability: in [0, 1].
    """
    rng = numpy_stream(seed, "synthetic-validation")
    own = [np.flatnonzero(synthetic.labels.numpy() == label) for label in range(int(images.labels.max()) + 1)]
    replacement = np.full(len(images), -1, np.int64)
    for position, label in enumerate(images.labels.tolist()):
        if rng.random() < probability and len(own[label]):
            replacement[position] = rng.choice(own[label])
    return ImageSet(images.keys, images.labels, _Replaced(images, synthetic, replacement))


@dataclass(frozen=True, slots=True)
class _Replaced:
    images: ImageSet
    synthetic: ImageSet
    replacement: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, positions: Sequence[int] | np.ndarray) -> Tensor:
        places = np.asarray(positions, dtype=np.int64)
        batch = self.images.pixels.batch(places).clone()
        other = self.replacement[places]
        if (other >= 0).any():
            batch[torch.from_numpy(other >= 0)] = self.synthetic.pixels.batch(other[other >= 0])
        return batch


@dataclass(slots=True)
class BestEpoch:
    """Keeps the weights of the step that does best on the images that will be reported.

    Attributes:
        accuracy: measures the network on those images.
        steps: of the whole training.
        best: the best accuracy so far.
        at: its step.
        weights: its weights.
    """

    accuracy: Callable[[nn.Module], float]
    steps: int
    best: float = -1.0
    at: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, done: int, module: nn.Module) -> None:
        """Look at `module` after `done` steps, EPOCHS times in a training."""
        if done % max(1, self.steps // EPOCHS) and done != self.steps:
            return
        accuracy = self.accuracy(module)
        if accuracy > self.best:
            self.best, self.at = accuracy, done
            self.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    def restore(self, module: nn.Module) -> None:
        """Put the best weights back.

        Raises:
            TrainingError: nothing was looked at, as after resuming a finished training.
        """
        if not self.weights:
            raise TrainingError("best-epoch has seen no step of this training: delete its models and train again")
        module.load_state_dict(self.weights)
