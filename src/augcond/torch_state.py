"""PyTorch as it comes: what a caller has set in his process changes no number of a run, and is as before afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES = ("cpu", "cuda")


@contextmanager
def as_it_comes() -> Iterator[None]:
    """Give PyTorch its own defaults within the block: gradients, dtype, device, autocast, precision of products."""
    import torch

    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.device("cpu"))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(torch.set_float32_matmul_precision, precision)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        yield


def in_its_own_state(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a stage that is called from anybody's process: it runs in PyTorch's own state."""

    @wraps(call)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with as_it_comes():
            return call(*args, **kwargs)

    return within
