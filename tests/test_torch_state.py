"""What a caller has set in his process changes no number, and stays as he set it."""

import json
import os
from contextlib import ExitStack, contextmanager

import pytest
import torch

from augcond.pipeline import evaluate, generate, train
from augcond.torch_state import as_it_comes
from tests.training.toys import toy_run

STATES = {
    "no gradients, float64, another device": (
        lambda: torch.no_grad(),
        lambda: default_dtype(torch.float64),
        lambda: torch.device("meta"),
    ),
    "inference, bfloat16, autocast": (
        lambda: torch.inference_mode(),
        lambda: default_dtype(torch.bfloat16),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ),
}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def numbers(root):
    """Return the weights' bytes and the accuracies of a small run."""
    config = toy_run(root, training={"seeds": 1, "steps": 2})
    generate(config)
    train(config)
    results = evaluate(config)
    weights = {path.parent.parent.name: path.read_bytes() for path in root.glob("run/models/*/*/model.safetensors")}
    predictions = {path.name: path.read_bytes() for path in root.glob("run/predictions/**/*.parquet")}
    return weights, predictions, [arm.mean for arm in results.arms]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return numbers(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("state", STATES)
def test_the_callers_state_changes_no_number(plain, tmp_path, state):
    with ExitStack() as stack:
        for setting in STATES[state]:
            stack.enter_context(setting())
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        assert numbers(tmp_path) == plain
        assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))


def test_the_environment_of_accelerate_changes_no_number(plain, tmp_path, monkeypatch):
    # From c1a10ea on without an Accelerator; these are the variables that one follows.
    for name, value in {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "EAGER",
        "ACCELERATE_DOWNCAST_BF16": "1",
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    assert numbers(tmp_path) == plain


def test_the_state_comes_back_after_an_error():
    set_to = torch.get_float32_matmul_precision()
    with pytest.raises(json.JSONDecodeError), as_it_comes():
        assert torch.get_float32_matmul_precision() == "highest"
        torch.set_default_dtype(torch.float64)
        json.loads("")
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_float32_matmul_precision() == set_to
