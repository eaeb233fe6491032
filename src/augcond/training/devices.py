"""Where a training runs and in which precision: Accelerate finds devices and processes, PyTorch does the rest.

Of Accelerate only `PartialState` is used. What an `Accelerator` adds to it (precision, accumulation of gradients,
compilation) holds for the whole process and follows variables of the environment, so it would change weights without a
trace, and two trainings of different precision could not follow each other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from augcond.config import TrainingConfig

logger = logging.getLogger(__name__)

_PATIENCE = timedelta(seconds=30)
"""Until processes that no launcher looks after must have met."""

_TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_TORCH_DEVICE")
"""What launchers, and shells that they left, say of the processes that train together."""

_OTHERS = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_SAGEMAKER", "ACCELERATE_USE_MEGATRON_LM")
"""Other ways to train than ours, that Accelerate would import libraries for."""

_MIXED = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Rank:
    """One of the processes that train together, each with a device of its own.

    Attributes:
        number: which it is, from 0.
        count: how many they are.
        device: its own.
    """

    number: int
    count: int
    device: torch.device

    def wait(self) -> None:
        """Return once all of them are here."""
        from accelerate import PartialState

        PartialState().wait_for_everyone()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of `value` over all of them."""
        from accelerate.utils import reduce

        mean: Tensor = reduce(value, "mean")
        return mean

    def together(self, module: nn.Module) -> nn.Module:
        """Return `module`, which is on this device, with gradients that are the mean of those of all of them."""
        if self.count == 1:
            return module
        devices = None if self.device.type == "cpu" else [self.device]
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)


def find_rank(config: TrainingConfig) -> Rank:
    """Return which process this is, and its device.

    Raises:
        ConfigError: the batch cannot be shared out evenly over the processes, these were started for other devices, or
            the environment tells of processes that there are not.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = config.device == "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU")
    try:
        with _meeting(cpu=cpu), _without_others():
            state = PartialState(cpu=cpu)
    except (ImportError, RuntimeError, ValueError, NotImplementedError) as error:
        told = ", ".join(name for name in _TOLD if name in os.environ)
        raise ConfigError(
            f"processes cannot train together as the environment says ({told or 'no variable of a launcher is set'}): "
            f"{str(error).splitlines()[0]}. Unset these variables to train in one process, or start processes with "
            "augcond train RUN --processes N"
        ) from error
    if config.batch_size % state.num_processes:
        raise ConfigError(
            f"training.batch_size: {config.batch_size} images cannot be shared out over {state.num_processes} processes"
        )
    if cpu and state.device.type != "cpu" and state.num_processes > 1:
        raise ConfigError(
            f"training.device: cpu, but the {state.num_processes} processes were started for {state.device.type}: "
            "use accelerate launch --cpu, or auto"
        )
    return Rank(state.process_index, state.num_processes, torch.device("cpu") if cpu else state.device)


@contextmanager
def _without_others() -> Iterator[None]:
    """Have Accelerate look for processes and devices alone, whatever other way to train its variables ask for."""
    from accelerate import PartialState

    before = {name: os.environ.pop(name) for name in _OTHERS if name in os.environ}
    if before and not PartialState._shared_state:
        logger.warning(
            "%s: not followed, since augcond trains with PyTorch's own DistributedDataParallel", ", ".join(before)
        )
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def _meeting(*, cpu: bool) -> Iterator[None]:
    """Meet the processes that WORLD_SIZE tells of, where no launcher sees to that: PyTorch waits for them for long.

    Some clusters set the variable for every shell.

    Raises:
        ConfigError: they do not come.
    """
    about = os.environ
    count = about.get("WORLD_SIZE", "1")
    # Without LOCAL_RANK, Accelerate takes no notice of it on GPUs.
    alone = count == "1" or not (cpu or "LOCAL_RANK" in about)
    if alone or "TORCHELASTIC_RUN_ID" in about or torch.distributed.is_initialized():
        yield
        return
    said = f"WORLD_SIZE={count} in the environment says that {count} processes train together"
    mend = (
        "start them with augcond train RUN --processes N, torchrun or accelerate launch; or unset WORLD_SIZE, RANK and "
        "LOCAL_RANK to train in one process"
    )
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not about.get(name)]
    if missing:
        raise ConfigError(f"{said}, and {', '.join(missing)} is not set: {mend}")
    place = f"{about['MASTER_ADDR']}:{about['MASTER_PORT']}"
    logger.warning("%s: waiting for the others at %s", said, place)
    try:
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            about["MASTER_ADDR"],
            int(about["MASTER_PORT"]),
            int(count),
            is_master=about["RANK"] == "0",
            timeout=_PATIENCE,
            multi_tenant=True,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{said}, and the others did not come to {place} within {_PATIENCE.seconds} s "
            f"({str(error).splitlines()[0]}): {mend}"
        ) from error
    # Kept until the group is there, which meets at the same place.
    yield
    del store


class Precision:
    """Mixed precision, or full precision, of one training.

    Args:
        name: `no`, `bf16` or `fp16`.
        device: where it runs.

    Raises:
        ConfigError: the device does not train in this precision.

    Attributes:
        scaler: keeps small gradients from vanishing in fp16; does nothing otherwise.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            # PyTorch would only say so in a warning, and train in full precision.
            raise ConfigError("training.precision: there is no training in fp16 on a CPU: use bf16, or no")
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("training.precision: this GPU has no bf16: use fp16, or no")
        self._device = device.type
        self._dtype = _MIXED.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype is not None)

    def step(self, loss: Tensor, module: nn.Module, optimizer: Optimizer, clip_norm: float | None) -> None:
        """Take one step of `module` down the gradient of `loss`, cut to a norm of at most `clip_norm`."""
        scaled: Any = self.scaler.scale(loss)
        scaled.backward()
        if clip_norm is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
