"""Losses for balanced and for long-tailed data: all are cross entropy of logits that are shifted by class counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from augcond.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from augcond.config.training import LossName


@dataclass(frozen=True, slots=True)
class Objective:
    """What training minimises, and what the trained logits need at test time.

    Attributes:
        training_shift: added to the logits in training, (C,).
        test_shift: added to the logits at test time, (C,).
        label_smoothing: in [0, 1).
    """

    training_shift: Tensor
    test_shift: Tensor
    label_smoothing: float = 0.0

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            logits: (B, C).
            targets: labels, int64 (B,), or label distributions, (B, C), of mixed inputs.
        """
        shifted = logits.float() + self.training_shift.to(logits.device)
        return functional.cross_entropy(shifted, targets, label_smoothing=self.label_smoothing)


def make_objective(
    name: LossName, counts: Sequence[float], classes: Sequence[str], *, tau: float = 1.0, label_smoothing: float = 0.0
) -> Objective:
    """Return the objective called `name`.

    Args:
        name: which loss.
        counts: images per class, (C,); of the real images, or as batches show them.
        classes: class ids, for messages.
        tau: strength of the logit adjustment.
        label_smoothing: in [0, 1).

    Raises:
        TrainingError: a class has no image, whose logarithm the loss would need.
    """
    return OBJECTIVES[name](LossSettings(name, tuple(counts), tuple(classes), tau, label_smoothing))


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What a loss is made of; see `make_objective`."""

    name: LossName
    counts: tuple[float, ...]
    classes: tuple[str, ...]
    tau: float
    label_smoothing: float

    @property
    def nothing(self) -> Tensor:
        """No shift, (C,)."""
        return torch.zeros(len(self.counts))

    @property
    def log_prior(self) -> Tensor:
        """Logarithm of each class's share of the images, (C,)."""
        for class_id, count in zip(self.classes, self.counts, strict=True):
            if count <= 0:
                raise TrainingError(
                    f"class {class_id!r} has no training image, which {self.name} cannot count: use "
                    "training.counts=effective with synthetic images of it, or training.loss=cross-entropy"
                )
        return torch.log(torch.tensor(self.counts, dtype=torch.float64) / sum(self.counts)).float()


def _cross_entropy(about: LossSettings) -> Objective:
    return Objective(about.nothing, about.nothing, about.label_smoothing)


def _balanced_softmax(about: LossSettings) -> Objective:
    """Add log counts to the logits in training (Ren et al. 2020, arXiv 2007.10740)."""
    return Objective(about.log_prior, about.nothing, about.label_smoothing)


def _logit_adjustment(about: LossSettings) -> Objective:
    """Train plainly, subtract tau times the log prior at test time (Menon et al. 2021, arXiv 2007.07314)."""
    return Objective(about.nothing, -about.tau * about.log_prior, about.label_smoothing)


OBJECTIVES: dict[LossName, Callable[[LossSettings], Objective]] = {
    "cross-entropy": _cross_entropy,
    "balanced-softmax": _balanced_softmax,
    "logit-adjustment": _logit_adjustment,
}
"""Every loss that `augcond.config.training.LossName` names."""
