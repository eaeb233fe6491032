"""On which device and in which number format a generator runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import nn

    from augcond.config import GeneratorConfig


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def on_cpu(config: GeneratorConfig) -> GeneratorConfig:
    """Return the config of the same generator on what every machine has, as it is."""
    return config.model_copy(update={"device": "cpu", "memory": None, "compile": False})


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


class Offloading:
    """Networks of which one at a time is on the device, while it is called; the others wait in the CPU's memory.

    What is computed is the same. Each change of the network moves weights: a batch moves each of them once.

    Args:
        device: where they run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._here: nn.Module | None = None

    def add(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Have a network in `dtype` wait, and come when it is called, with what it is called with."""
        import torch
        from accelerate.hooks import ModelHook, add_hook_to_module
        from accelerate.utils import send_to_device

        class Coming(ModelHook):  # type: ignore[misc]  # accelerate has no types
            execution_device = self.device

            def pre_forward(_, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
                self._bring(module)
                return send_to_device(args, self.device), send_to_device(kwargs, self.device)

        place(network, torch.device("cpu"), dtype)
        add_hook_to_module(network, Coming())

    def _bring(self, network: nn.Module) -> None:
        import torch

        if network is self._here:
            return
        # Weights moved in inference mode would be of no use outside it.
        with torch.inference_mode(mode=False):
            if self._here is not None:
                torch.nn.Module.to(self._here, "cpu")
            torch.nn.Module.to(network, self.device)
        self._here = network


def execution_device(network: Any) -> Any:
    """Return where a network runs when it is called."""
    return getattr(getattr(network, "_hf_hook", None), "execution_device", None) or network.device


def check_memory(config: GeneratorConfig) -> None:
    """Refuse `memory: offload` where it would cost time and save nothing.

    Raises:
        ConfigError: there is no device with memory of its own.
    """
    if config.memory is None:
        return
    device = resolve_device(config.device)
    if device.type in ("cpu", "mps"):
        raise ConfigError(
            f"generator.memory: offload lets networks wait in the CPU's memory, which is all that {device.type} has; "
            "leave it out"
        )


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
