"""Checkpoints keep all that training goes on with."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from augcond.training.cards import Progressed, load_checkpoint, save_checkpoint
from augcond.training.loop import make_optimizer
from tests.training.toys import toy_settings


def test_a_checkpoint_keeps_what_an_optimiser_counts(tmp_path):
    module, config = nn.Linear(2, 2), toy_settings(optimizer="lookahead_adamw")
    first, again = make_optimizer(module, config), make_optimizer(module, config)
    for _ in range(3):
        module(torch.ones(1, 2)).sum().backward()
        first.step()
    save_checkpoint(tmp_path / "checkpoint.safetensors", module, first, Progressed(3, [], {}), "f")
    load_checkpoint(tmp_path / "checkpoint.safetensors", module, again, "f")
    assert [group["lookahead_step"] for group in again.param_groups] == [3, 3]


@pytest.mark.parametrize("about", ["null", "{}", "[]", '"f"'])
def test_a_checkpoint_that_says_nothing_is_passed_over(tmp_path, caplog, about):
    path = tmp_path / "checkpoint.safetensors"
    save_file({"x": torch.ones(1)}, path, metadata={"augcond": about})
    module = nn.Linear(2, 2)
    assert load_checkpoint(path, module, make_optimizer(module, toy_settings()), "f") is None
    assert "training starts anew" in caplog.text
