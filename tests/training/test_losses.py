"""Losses against hand-worked numbers."""

import math
from typing import get_args

import pytest
import torch

from augcond.config.training import LossName
from augcond.errors import TrainingError
from augcond.training.losses import OBJECTIVES, make_objective

CLASSES = ("head", "tail")


def test_every_loss_that_a_config_may_name_is_there():
    assert set(OBJECTIVES) == set(get_args(LossName))


def test_balanced_softmax_by_hand():
    # Counts 90 and 10, logits 0 and 0: the tail's probability is 10 / 100, the loss of a tail image -log 0.1.
    objective = make_objective("balanced-softmax", [90, 10], CLASSES)
    logits = torch.zeros(1, 2)
    assert objective.loss(logits, torch.tensor([1])).item() == pytest.approx(-math.log(0.1), rel=1e-5)
    assert objective.loss(logits, torch.tensor([0])).item() == pytest.approx(-math.log(0.9), rel=1e-5)
    # Logits log 2 and log 3: 90 * 2 against 10 * 3, so 180 / 210 and 30 / 210.
    logits = torch.tensor([[math.log(2), math.log(3)]])
    assert objective.loss(logits, torch.tensor([1])).item() == pytest.approx(-math.log(30 / 210), rel=1e-5)
    assert not objective.test_shift.any()


def test_logit_adjustment_trains_plainly_and_shifts_at_test_time():
    objective = make_objective("logit-adjustment", [90, 10], CLASSES, tau=2.0)
    logits = torch.zeros(1, 2)
    assert objective.loss(logits, torch.tensor([1])).item() == pytest.approx(math.log(2))
    expected = torch.tensor([[-2 * math.log(0.9), -2 * math.log(0.1)]])
    assert torch.allclose(logits + objective.test_shift, expected)


def test_cross_entropy_and_mixed_labels():
    objective = make_objective("cross-entropy", [90, 0], CLASSES, label_smoothing=0.1)
    hard = objective.loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    soft = objective.loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert (
        hard
        == soft
        == torch.nn.functional.cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), label_smoothing=0.1)
    )


@pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjustment"])
def test_a_class_without_images_has_no_logarithm(name):
    with pytest.raises(TrainingError, match="class 'tail' has no training image"):
        make_objective(name, [90, 0], CLASSES)
