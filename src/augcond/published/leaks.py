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
from augcond.datasets.protocol import HonestProtocol
from augcond.datasets.splits import few_shot, subset
from augcond.errors import ConfigError, TrainingError
from augcond.training.image_sets import ImageSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.conditioning.framing import Picture
    from augcond.config import RunConfig, SplitConfig
    from augcond.datasets import Dataset

REPLACED = 0.5
"""Probability that a validation image is replaced by a synthetic one."""

EPOCHS = 50
"""So often a training is looked at to find its best epoch."""


class LeakyProtocol(HonestProtocol[ImageSet]):
    """The protocol of a config that names leaks.

    Raises:
        ConfigError: the leak `fixed-training-subset` is named, and no few-shot split.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if "fixed-training-subset" in config.leaks:
            self._k()

    def split(self) -> SplitConfig | None:
        """Return the split; with `fixed-training-subset` that of seed 0, which every trial shares."""
        own = super().split()
        if "fixed-training-subset" not in self.config.leaks or own is None:
            return own
        return own.model_copy(update={"seed": 0, "validation_per_class": 0})

    def sources(self, pool: Dataset, training: Dataset) -> Dataset:
        """Return the training images; with `whole-train-sources` all images."""
        return pool if "whole-train-sources" in self.config.leaks else training

    def held_out(self, pool: Dataset, own: Callable[[], Dataset]) -> Dataset:
        """Return the held-out images; with `fixed-training-subset` what the trial's own seed leaves of `pool`.

        They overlap the training subset, which is that of seed 0.
        """
        if "fixed-training-subset" not in self.config.leaks:
            return own()
        trained = set(few_shot(pool, *self._k()).train)
        return subset(pool, [image.key for image in pool.images if image.key not in trained])

    def judged(self, images: ImageSet, synthetic: Callable[[], ImageSet], seed: int) -> ImageSet:
        """Return `images`; with `synthetic-validation` many of them replaced by synthetic ones."""
        if "synthetic-validation" not in self.config.leaks:
            return images
        return replace_by_synthetic(images, synthetic(), seed)

    def best_epoch(self, accuracy: Callable[[], Callable[[nn.Module], float]], steps: int) -> BestEpoch | None:
        """Return what keeps the best epoch with `best-epoch`, else None."""
        return BestEpoch(accuracy(), steps) if "best-epoch" in self.config.leaks else None

    def _k(self) -> tuple[int, int]:
        split = self.config.data.split
        if split is None or split.k is None:
            raise ConfigError("the leak fixed-training-subset needs data.split: {name: few-shot, k: ...}")
        return split.k, split.seed


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

    def photo(self, position: int) -> Picture:
        other = int(self.replacement[position])
        return self.images.pixels.photo(position) if other < 0 else self.synthetic.pixels.photo(other)

    @property
    def edge(self) -> int:
        return self.images.pixels.edge

    @property
    def in_memory(self) -> bool:
        return self.images.pixels.in_memory and self.synthetic.pixels.in_memory

    def read(self, positions: np.ndarray, out: np.ndarray) -> None:
        out[...] = self.batch(positions).numpy()


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

    def restore(self, module: nn.Module) -> str:
        """Put the best weights back, and return a note of which they are.

        Raises:
            TrainingError: nothing was looked at, as after resuming a finished training.
        """
        if not self.weights:
            raise TrainingError("best-epoch has seen no step of this training: delete its models and train again")
        module.load_state_dict(self.weights)
        return f"step {self.at} of {self.steps} was best on the images that are reported"
