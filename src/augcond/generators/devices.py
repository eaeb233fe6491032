"""On which device and in which number format a generator runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import nn

    from augcond.config import GeneratorConfig


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"generator.device: {name!r} cannot be used here ({reason}); auto, cuda, mps, cpu") from error
    return device


def resolve_dtype(
    config: GeneratorConfig, device: torch.device, half: Literal["float16", "bfloat16"] = "float16"
) -> torch.dtype:
    """Return the dtype that `config.dtype` stands for; `auto` is `half` on CUDA and float32 elsewhere."""
    import torch

    automatic = half if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, automatic if config.dtype == "auto" else config.dtype)
    return dtype


def place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a frozen model to where and how it will run."""
    import torch

    # Not module.to, by which diffusers' models warn of modules to be kept in float32 even where there are none.
    torch.nn.Module.to(module, device, dtype).requires_grad_(False)


@contextmanager
def upcast(*modules: nn.Module) -> Iterator[None]:
    """Hold `modules` in float32 for a while; lossless, since every float16 and bfloat16 is a float32."""
    import torch

    before = [next(module.parameters()).dtype for module in modules]
    try:
        _cast(modules, [torch.float32] * len(modules))
        yield
    finally:
        _cast(modules, before)


def _cast(modules: Sequence[nn.Module], dtypes: Sequence[torch.dtype]) -> None:
    import torch

    # Weights made in inference mode would be of no use outside it.
    with torch.inference_mode(mode=False):
        for module, dtype in zip(modules, dtypes, strict=True):
            place(module, next(module.parameters()).device, dtype)


@contextmanager
def out_of_memory_errors() -> Iterator[None]:
    """Raise every device's way of running out of memory as `torch.OutOfMemoryError`, which only CUDA does itself."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except MemoryError as error:
        raise torch.OutOfMemoryError(str(error) or "out of memory") from error
    except RuntimeError as error:
        if any(words in str(error) for words in _OUT_OF_MEMORY):
            raise torch.OutOfMemoryError(str(error)) from error
        raise
