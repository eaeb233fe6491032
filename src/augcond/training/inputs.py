"""What a step of training receives: augmented images, or features that were computed once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from augcond.conditioning.streams import numpy_stream
from augcond.training.augmentation import BatchAugmentation, mix_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.config.training import AugmentConfig
    from augcond.training.images import ImageSet
    from augcond.training.sampling import MixedSampler, Process


class Inputs(Protocol):
    """Gives the inputs and targets of any step."""

    def __call__(self, step: int, process: Process, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return inputs (B, ...) and targets (B,) or (B, C) of step `step`, on `device`."""
        ...


class ImageInputs:
    """Real and synthetic images, mixed and augmented.

    Args:
        images: real and synthetic ones.
        sampler: which of them make up a batch.
        config: how they are augmented.
        size: edge length of the network's input.
        classes: number of classes.
        seed: seed of the training.
    """

    def __init__(
        self,
        images: tuple[ImageSet, ImageSet],
        sampler: MixedSampler,
        config: AugmentConfig,
        size: int,
        classes: int,
        seed: int,
    ) -> None:
        self._real, self._synthetic = images
        self._sampler = sampler
        self._config = config
        self._augment = BatchAugmentation(config, size)
        self._classes = classes
        self._seed = seed
        # One thread fetches the next batch while the network works on this one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._ahead: tuple[int, Process, Future[tuple[Tensor, Tensor]]] | None = None

    def __call__(self, step: int, process: Process, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, S, S) in [0, 1] and their labels, or label distributions where inputs are mixed."""
        if self._ahead is not None and self._ahead[:2] == (step, process):
            images, labels = self._ahead[2].result()
        else:
            images, labels = self._fetch(step, process)
        self._ahead = (step + 1, process, self._thread.submit(self._fetch, step + 1, process))
        # Each process has draws of its own.
        purpose = f"{step}-{process.rank}"
        augmented = self._augment(images.to(device), self._seed, f"augment-{purpose}")
        return mix_inputs(
            augmented, labels.to(device), self._classes, self._config, self._seed, f"mix-inputs-{purpose}"
        )

    def _fetch(self, step: int, process: Process) -> tuple[Tensor, Tensor]:
        if step >= self._sampler.steps:
            return torch.empty(0), torch.empty(0)
        batch = self._sampler(step)
        real, synthetic = batch.share_of(process)
        images = torch.cat([self._real.pixels.batch(real), self._synthetic.pixels.batch(synthetic)])
        labels = torch.cat([self._real.labels[real], self._synthetic.labels[synthetic]])
        return images, labels


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """Features of real and synthetic images; each batch takes one of the views of each image.

    Attributes:
        real: (V, N, D).
        real_labels: (N,).
        synthetic: (V, M, D).
        synthetic_labels: (M,).
        sampler: which images make up a batch.
        seed: seed of the training; draws the views.
    """

    real: Tensor
    real_labels: Tensor
    synthetic: Tensor
    synthetic_labels: Tensor
    sampler: MixedSampler
    seed: int

    def __call__(self, step: int, process: Process, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return features (B, D) and labels (B,)."""
        real, synthetic = self.sampler(step).share_of(process)
        rng = numpy_stream(self.seed, f"views-{step}-{process.rank}")
        views = rng.integers(0, len(self.real), len(real) + len(synthetic))
        features = torch.cat([self.real[views[: len(real)], real], self.synthetic[views[len(real) :], synthetic]])
        labels = torch.cat([self.real_labels[real], self.synthetic_labels[synthetic]])
        return features.to(device), labels.to(device)
