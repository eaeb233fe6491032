"""Losses for balanced and for long-tailed data: all are cross entropy of logits that are shifted by class counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from augcond.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

LossName = Literal["cross-entropy", "balanced-softmax", "logit-adjustment"]


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

    `balanced-softmax` adds log counts to the logits in training; `logit-adjustment` trains with plain cross entropy
    and subtracts tau times the log prior at test time.

    Args:
        name: which loss.
        counts: images per class, (C,); of the real images, or as batches show them.
        classes: class ids, for messages.
        tau: strength of the logit adjustment.
        label_smoothing: in [0, 1).

    Raises:
        TrainingError: a class has no image, whose logarithm the loss would need.

    Source: Balanced Softmax (Ren et al. 2020, arXiv 2007.10740); logit adjustment (Menon et al. 2021,
    arXiv 2007.07314).
    """
    nothing = torch.zeros(len(counts))
    if name == "cross-entropy":
        return Objective(nothing, nothing, label_smoothing)
    for class_id, count in zip(classes, counts, strict=True):
        if count <= 0:
            raise TrainingError(
                f"class {class_id!r} has no training image, which {name} cannot count: use training.counts=effective "
                "with synthetic images of it, or training.loss=cross-entropy"
            )
    log_prior = torch.log(torch.tensor(counts, dtype=torch.float64) / sum(counts)).float()
    if name == "balanced-softmax":
        return Objective(log_prior, nothing, label_smoothing)
    return Objective(nothing, -tau * log_prior, label_smoothing)
