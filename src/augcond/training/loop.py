"""The training loop. What a step draws depends on seed and step alone, so training can stop and go on anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from augcond.conditioning.streams import seeded, stream_seed
from augcond.errors import ConfigError, TrainingError
from augcond.training.batches import Process
from augcond.training.cards import Progressed, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator
    from torch.optim import Optimizer

    from augcond.config import TrainingConfig
    from augcond.training.batches import Inputs
    from augcond.training.losses import Objective

OnStep = Callable[[int, nn.Module], None]
"""Called after each step with the number of steps done and the network."""

_HISTORY = 50
"""So many losses are kept of a training."""


@dataclass(frozen=True, slots=True)
class Task:
    """One training.

    Attributes:
        module: what is trained; changed in place.
        inputs: gives the batches.
        objective: what is minimised.
        config: optimiser, schedule, steps, precision.
        seed: seed of the training.
        fingerprint: names this training; checkpoints of another are passed over.
        checkpoint: where to keep checkpoints; None keeps none.
        on_step: see `OnStep`.
    """

    module: nn.Module
    inputs: Inputs
    objective: Objective
    config: TrainingConfig
    seed: int
    fingerprint: str = ""
    checkpoint: Path | None = None
    on_step: OnStep = field(default=lambda done, module: None)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Return the devices to train on.

    Raises:
        ConfigError: the batch cannot be shared out evenly over the processes.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != config.precision:
        # Accelerate keeps its first precision for the whole process; another run may want another.
        AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(mixed_precision=config.precision, cpu=config.device == "cpu")
    if config.batch_size % accelerator.num_processes:
        raise ConfigError(
            f"training.batch_size: {config.batch_size} images cannot be shared out over "
            f"{accelerator.num_processes} processes"
        )
    return accelerator


def _training_accelerator(config: TrainingConfig) -> Accelerator:
    accelerator = make_accelerator(config)
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        # PyTorch would only say so in a warning, and train in full precision.
        raise ConfigError("training.precision: there is no training in fp16 on a CPU: use bf16, or no")
    return accelerator


def check_optimizer(config: TrainingConfig) -> None:
    """Raise what `fit` would raise of these settings, before there is a network to train.

    Raises:
        ConfigError: see `fit`.
    """
    _training_accelerator(config)
    make_optimizer(nn.Linear(1, 1), config)


def fit(task: Task) -> Progressed:
    """Train `task.module`, from its checkpoint where there is one, and return the losses and the time it took.

    Raises:
        ConfigError: the optimiser is unknown, or the precision is not one of the device.
        TrainingError: the loss became infinite or not a number.
    """
    started = time.perf_counter()
    accelerator = _training_accelerator(task.config)
    optimizer = make_optimizer(task.module, task.config)
    schedule = _schedule(optimizer, task.config)
    task.module.to(accelerator.device)
    done = Progressed(0, [], {})
    if task.checkpoint is not None:
        done = load_checkpoint(task.checkpoint, task.module, optimizer, task.fingerprint) or done
    if done.scaler and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(done.scaler)
    prepared, stepper = accelerator.prepare(task.module, optimizer)
    process = Process(accelerator.process_index, accelerator.num_processes)
    history = done.history

    def progressed(step: int) -> Progressed:
        return Progressed(step, history, {}, done.seconds + time.perf_counter() - started)

    every = max(1, task.config.steps // _HISTORY)
    prepared.train()
    for step in range(done.step, task.config.steps):
        schedule.step_update(step)
        inputs, targets = task.inputs(step, process, accelerator.device)
        loss = _step(_Devices(accelerator, prepared, stepper), task, step, (inputs, targets))
        if (step + 1) % every == 0 or step + 1 == task.config.steps:
            history.append((step + 1, _finite(accelerator.reduce(loss, "mean"), step, task.config)))
        task.on_step(step + 1, task.module)
        last = step + 1 == task.config.steps
        if task.checkpoint is not None and (step + 1) % task.config.checkpoint_every == 0 and not last:
            _keep(accelerator, task, optimizer, progressed(step + 1))
    accelerator.wait_for_everyone()
    task.module.eval()
    return progressed(task.config.steps)


@dataclass(frozen=True, slots=True)
class _Devices:
    accelerator: Accelerator
    module: Any
    optimizer: Any


def _step(devices: _Devices, task: Task, step: int, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Take one optimiser step and return the loss, detached."""
    accelerator = devices.accelerator
    if accelerator.device.type == "cuda":
        torch.cuda.manual_seed(stream_seed(task.seed, f"network-{step}-{accelerator.process_index}"))
    # Dropout and stochastic depth draw from the global generator.
    with seeded(task.seed, f"network-{step}-{accelerator.process_index}"), accelerator.autocast():
        logits = devices.module(batch[0])
    loss = task.objective.loss(logits, batch[1])
    accelerator.backward(loss)
    if task.config.clip_norm is not None:
        accelerator.clip_grad_norm_(devices.module.parameters(), task.config.clip_norm)
    devices.optimizer.step()
    devices.optimizer.zero_grad(set_to_none=True)
    detached: Tensor = loss.detach()
    return detached


def _keep(accelerator: Accelerator, task: Task, optimizer: Optimizer, progressed: Progressed) -> None:
    if accelerator.is_main_process and task.checkpoint is not None:
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
        progressed = replace(progressed, scaler=scaler)
        save_checkpoint(task.checkpoint, task.module, optimizer, progressed, task.fingerprint)


def _finite(loss: Tensor, step: int, config: TrainingConfig) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at step {step + 1}: lower training.lr (now {config.lr}), warm up "
            "(training.warmup_steps), or clip gradients (training.clip_norm)"
        )
    return value


def make_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """Return timm's optimiser called `config.optimizer`; biases and norms get no weight decay.

    Raises:
        ConfigError: timm has no such optimiser, or it refuses the settings or needs second derivatives.
    """
    from timm.optim import create_optimizer_v2

    try:
        optimizer: Optimizer = create_optimizer_v2(
            module, opt=config.optimizer, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum
        )
    except (ValueError, AssertionError, KeyError) as error:
        raise ConfigError(f"training.optimizer {config.optimizer!r}: {error}") from error
    if getattr(optimizer, "is_second_order", False):
        raise ConfigError(f"training.optimizer {config.optimizer!r} needs second derivatives: use one that does not")
    return optimizer


def _schedule(optimizer: Optimizer, config: TrainingConfig) -> Any:
    from timm.scheduler import CosineLRScheduler, StepLRScheduler

    warmup: dict[str, Any] = {
        "warmup_t": config.warmup_steps,
        "warmup_lr_init": config.lr / (config.warmup_steps + 1),
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if config.schedule == "cosine":
        return CosineLRScheduler(optimizer, t_initial=config.steps - config.warmup_steps, **warmup)
    return StepLRScheduler(optimizer, decay_t=config.steps + 1, **warmup)
