"""The batches of a training: which real and which synthetic images make up each, and what the network gets of them.

What a batch holds is a function of the seed and the step alone, so a resumed training sees what an uninterrupted one
sees. Images come in shuffled rounds: none is seen twice before all are seen once; with class-balanced sampling, that
holds within each class, and classes come in shuffled rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from augcond.conditioning.streams import numpy_stream
from augcond.errors import TrainingError
from augcond.training.ahead import AHEAD, Ahead, spread
from augcond.training.augmentation import PIECE, BatchAugmentation, mix_inputs, read_crops
from augcond.training.orders import BalancedRounds, Order, Rounds, Tilted, members_of
from augcond.training.transforming import transforming_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from augcond.config.training import AugmentConfig, Drawing
    from augcond.training.devices import Rank
    from augcond.training.image_sets import ImageSet
    from augcond.training.transforming import Transforming


class Inputs(Protocol):
    """Gives the inputs and targets of any step."""

    def __call__(self, step: int, rank: Rank) -> tuple[Tensor, Tensor]:
        """Return inputs (B, ...) and targets (B,) or (B, C) of step `step`, on the device of `rank`."""
        ...

    def close(self) -> None:
        """Stop whatever makes batches ahead."""
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
        sampler: BatchSampler,
        config: AugmentConfig,
        size: int,
        classes: int,
        seed: int,
    ) -> None:
        self._real, self._synthetic = images
        self._sampler = sampler
        self._config = config
        self._augment = BatchAugmentation(config, size)
        self._size = size
        self._classes = classes
        self._seed = seed
        self._ahead: tuple[Rank, Ahead[_Made]] | None = None
        self._transforming: Transforming | None = None

    def __call__(self, step: int, rank: Rank) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, S, S) in [0, 1] and their labels, or label distributions where inputs are mixed.

        Those of the next steps are being made when it returns.
        """
        if self._ahead is None or self._ahead[0] != rank:
            self.close()
            steps, share = self._sampler.steps, self._sampler.size / rank.count
            self._transforming = transforming_for(self._augment, self._config, round((steps - step) * share))
            at_once = AHEAD if self._transforming is None else max(AHEAD, self._transforming.processes)
            self._ahead = (rank, Ahead(partial(self._make, rank), steps, at_once))
        made, purpose = self._ahead[1](step), f"augment-{_draws(step, rank)}"
        images = made.images
        if not made.transformed:
            images = self._augment.transform(images, self._seed, purpose)
        images = images.to(rank.device, non_blocking=rank.device.type == "cuda")
        if not made.augmented:
            images = self._augment.crop_and_flip(images, self._seed, purpose)
        labels = made.labels.to(rank.device)
        return mix_inputs(images, labels, self._classes, self._config, self._seed, f"mix-inputs-{_draws(step, rank)}")

    def close(self) -> None:
        """Stop what makes batches ahead; another call would start it again."""
        if self._ahead is not None:
            self._ahead[1].close()
        if self._transforming is not None:
            self._transforming.close()
        self._ahead = self._transforming = None

    def _make(self, rank: Rank, step: int, going_on: Callable[[], None]) -> _Made:
        """Return the batch of a step, in memory, as far as threads and processes make it.

        It is augmented where the CPU trains; else the device does that. Transforms come before it, on the CPU.
        """
        real, synthetic = self._sampler(step).share_of(rank)
        labels = torch.cat([self._real.labels[real], self._synthetic.labels[synthetic]])
        if self._synthetic.mixed is not None:
            sets = ((self._real, real), (self._synthetic, synthetic))
            labels = torch.cat([images.targets(places, self._classes) for images, places in sets])
        count, edge, size = len(labels), self._real.pixels.edge, self._size
        purpose, pinned = f"augment-{_draws(step, rank)}", rank.device.type == "cuda"
        augmented = rank.device.type == "cpu" and not self._augment.transforms
        drawn = self._augment.draw(count, edge, self._seed, purpose)
        # What is pinned goes to the device while it computes.
        images = torch.empty(
            (count, 3, size, size) if augmented else (count, 3, edge, edge),
            dtype=torch.float32 if augmented else torch.uint8,
            device="cpu",
            pin_memory=pinned and not self._augment.transforms,
        )
        whole = images.numpy()

        def fill(piece: slice) -> None:
            out = whole[piece]
            read = np.empty((len(out), 3, edge, edge), np.uint8) if augmented else out
            kept = max(0, min(len(real) - piece.start, len(out)))
            first = piece.start + kept
            chosen = synthetic[first - len(real) :][: len(out) - kept]
            if drawn.crops is None:
                self._real.pixels.read(real[piece], read[:kept])
                self._synthetic.pixels.read(chosen, read[kept:])
            else:
                read_crops(self._real.pixels, real[piece], drawn.crops[piece.start : first], read[:kept])
                read_crops(self._synthetic.pixels, chosen, drawn.crops[first : piece.stop], read[kept:])
            if augmented:
                self._augment.apply(read, drawn, piece, out)

        in_memory = self._real.pixels.in_memory and self._synthetic.pixels.in_memory
        each = max(1, PIECE // (4 * 3 * edge**2)) if in_memory else 1
        pieces = [slice(start, min(start + each, count)) for start in range(0, count, each)]
        if len(pieces) == 1:
            fill(pieces[0])
        else:
            spread(fill, pieces, going_on)
        if self._transforming is None:
            return _Made(images, labels, not self._augment.transforms, augmented)
        images = torch.from_numpy(self._transforming(whole, self._seed, purpose))
        if rank.device.type == "cpu":
            return _Made(self._augment.crop_and_flip(images, self._seed, purpose), labels, True, True)
        return _Made(images.pin_memory() if pinned else images, labels, True, False)


@dataclass(frozen=True, slots=True)
class _Made:
    images: Tensor
    labels: Tensor
    transformed: bool
    augmented: bool


def _draws(step: int, rank: Rank) -> str:
    # Each process has draws of its own.
    return f"{step}-{rank.number}"


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """Features of real and synthetic images; each batch takes one of the views of each image.

    Attributes:
        real: (V, N, D).
        real_labels: (N,).
        synthetic: (V, M, D).
        synthetic_labels: (M,); or label distributions, (M, C), where images are of two classes.
        sampler: which images make up a batch.
        seed: seed of the training; draws the views.
    """

    real: Tensor
    real_labels: Tensor
    synthetic: Tensor
    synthetic_labels: Tensor
    sampler: BatchSampler
    seed: int

    def __call__(self, step: int, rank: Rank) -> tuple[Tensor, Tensor]:
        """Return features (B, D) and labels (B,), or label distributions (B, C)."""
        real, synthetic = self.sampler(step).share_of(rank)
        rng = numpy_stream(self.seed, f"views-{step}-{rank.number}")
        views = rng.integers(0, len(self.real), len(real) + len(synthetic))
        features = torch.cat([self.real[views[: len(real)], real], self.synthetic[views[len(real) :], synthetic]])
        added = self.synthetic_labels[synthetic]
        own = self.real_labels[real]
        labels = torch.cat([functional.one_hot(own, added.shape[1]).float() if added.ndim == 2 else own, added])
        return features.to(rank.device), labels.to(rank.device)

    def close(self) -> None:
        """Do nothing: features are at hand."""


@dataclass(frozen=True, slots=True)
class EncodedInputs:
    """Features of augmented images, which are encoded anew for every batch.

    Attributes:
        images: gives the images.
        encode: a frozen encoder: images (B, 3, S, S) to features (B, D).
    """

    images: ImageInputs
    encode: Callable[[Tensor], Tensor]

    def __call__(self, step: int, rank: Rank) -> tuple[Tensor, Tensor]:
        """Return features (B, D) and labels (B,)."""
        images, labels = self.images(step, rank)
        return self.encode(images).to(rank.device), labels

    def close(self) -> None:
        """Stop whatever makes images ahead."""
        self.images.close()


class BatchSampler:
    """Batches of real and synthetic images.

    Args:
        real: number of real images.
        synthetic: number of synthetic images.
        settings: what a batch holds.
        seed: seed of the training.
        steps: number of batches.
        balance: labels of the real images; given, they are drawn class by class, each class equally often.

    Raises:
        TrainingError: images are asked for of which there are none.
    """

    def __init__(
        self,
        real: int,
        synthetic: int,
        settings: BatchSettings,
        seed: int,
        steps: int,
        balance: Sequence[int] | None = None,
    ) -> None:
        if balance is not None and len(balance) != real:
            raise ValueError(f"{len(balance)} labels for {real} real images")
        if settings.share < 1 and not real:
            raise TrainingError("there are no real images to train on")
        if settings.share > 0 and not synthetic:
            raise TrainingError(
                "there are no synthetic images to train on: run augcond generate first, or loosen the screening"
            )
        self.steps, self.size = steps, settings.size
        self._real: Order = Rounds(real, seed, "real-order")
        if balance is not None:
            self._real = BalancedRounds(members_of(balance), seed, "real-order")
        self._synthetic: Order = Rounds(synthetic, seed, "synthetic-order")
        if settings.tilted is not None and synthetic:
            self._synthetic = settings.tilted.order(seed, "synthetic-order")
        size = settings.size
        if settings.drawing == "exact":
            # The small number keeps 0.3 * 10 = 3.0000000000000004 and its like from rounding the wrong way.
            mixed = np.minimum(np.arange(steps + 1), steps - settings.real_steps)
            ends = np.floor(mixed * (size * settings.share) + 1e-9).astype(np.int64)
        else:
            drawn = numpy_stream(seed, "bernoulli-mix").binomial(size, settings.share, steps)
            drawn[steps - settings.real_steps :] = 0
            ends = np.concatenate(([0], np.cumsum(drawn)))
        self._synthetic_ends = ends
        self._real_ends = np.arange(steps + 1) * size - ends

    def __call__(self, step: int) -> Batch:
        """Return the batch of step `step`, counted from 0."""
        return Batch(
            self._real(int(self._real_ends[step]), int(self._real_ends[step + 1])),
            self._synthetic(int(self._synthetic_ends[step]), int(self._synthetic_ends[step + 1])),
        )


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What batches hold.

    Attributes:
        size: images per step.
        share: share of synthetic images, in [0, 1].
        drawing: `exact`: each batch holds this share (where it is no whole number, rounded down or up so that the sum
            over the steps is right); `bernoulli`: each image is synthetic with this probability.
        real_steps: so many of the last steps hold real images alone.
        tilted: how often synthetic images of each class are drawn; None for all equally often.
    """

    size: int
    share: float
    drawing: Drawing
    real_steps: int = 0
    tilted: Tilted | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Positions of the images of one step, among the real and among the synthetic ones."""

    real: np.ndarray
    synthetic: np.ndarray

    def share_of(self, rank: Rank) -> tuple[np.ndarray, np.ndarray]:
        """Return the real and synthetic positions that `rank` takes: every `rank.count`-th of the batch."""
        whole = np.arange(len(self.real) + len(self.synthetic))[rank.number :: rank.count]
        real = whole[whole < len(self.real)]
        return self.real[real], self.synthetic[whole[len(real) :] - len(self.real)]
