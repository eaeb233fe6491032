"""The training loop. What a step draws depends on seed and step alone, so training can stop and go on anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from augcond.conditioning.streams import seeded, stream_seed
from augcond.errors import ConfigError, TrainingError
from augcond.training.cards import Progressed, load_checkpoint, save_checkpoint
from augcond.training.devices import Precision, find_rank

if TYPE_CHECKING:
    from pathlib import Path

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
        on_loss: called with the number of steps done and the loss, as often as losses are kept.
    """

    module: nn.Module
    inputs: Inputs
    objective: Objective
    config: TrainingConfig
    seed: int
    fingerprint: str = ""
    checkpoint: Path | None = None
    on_step: OnStep = field(default=lambda done, module: None)
    on_loss: Callable[[int, float], None] = field(default=lambda done, loss: None)


def check_optimizer(config: TrainingConfig) -> None:
    """Raise what `fit` would raise of these settings, before there is a network to train.

    Raises:
        ConfigError: see `fit`.
    """
    Precision(config.precision, find_rank(config).device)
    make_optimizer(nn.Linear(1, 1), config)


def fit(task: Task) -> Progressed:
    """Train `task.module`, from its checkpoint where there is one, and return the losses and the time it took.

    Raises:
        ConfigError: the optimiser is unknown, or the precision is not one of the device.
        TrainingError: the loss became infinite or not a number.
    """
    started = time.perf_counter()
    config, rank = task.config, find_rank(task.config)
    precision = Precision(config.precision, rank.device)
    optimizer = make_optimizer(task.module, config)
    schedule = _schedule(optimizer, config)
    task.module.to(rank.device)
    done = Progressed(0, [], {})
    if task.checkpoint is not None:
        done = load_checkpoint(task.checkpoint, task.module, optimizer, task.fingerprint) or done
    if done.scaler:
        precision.scaler.load_state_dict(done.scaler)
    module = rank.together(task.module)
    history = done.history

    def progressed(step: int) -> Progressed:
        return Progressed(step, history, precision.scaler.state_dict(), done.seconds + time.perf_counter() - started)

    every = max(1, config.steps // _HISTORY)
    module.train()
    with closing(task.inputs):
        for step in range(done.step, config.steps):
            schedule.step_update(step)
            inputs, targets = task.inputs(step, rank)
            logits = _forward(module, inputs, precision, f"network-{step}-{rank.number}", task.seed)
            loss = task.objective.loss(logits, targets)
            precision.step(loss, module, optimizer, config.clip_norm)
            if (step + 1) % every == 0 or step + 1 == config.steps:
                history.append((step + 1, _finite(rank.mean(loss.detach()), step, config)))
                task.on_loss(*history[-1])
            task.on_step(step + 1, task.module)
            due = (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps
            if due and task.checkpoint is not None and rank.number == 0:
                save_checkpoint(task.checkpoint, task.module, optimizer, progressed(step + 1), task.fingerprint)
    rank.wait()
    task.module.eval()
    return progressed(config.steps)


def _forward(module: nn.Module, inputs: Tensor, precision: Precision, purpose: str, seed: int) -> Tensor:
    if inputs.device.type == "cuda":
        torch.cuda.manual_seed(stream_seed(seed, purpose))
    # Dropout and stochastic depth draw from the global generator.
    with seeded(seed, purpose), precision.autocast():
        logits: Tensor = module(inputs)
    return logits


def _finite(loss: Tensor, step: int, config: TrainingConfig) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at step {step + 1}: lower training.lr (now {config.lr}), warm up "
            "(training.warmup_steps), or clip gradients (training.clip_norm)"
        )
    return value


def make_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """Return timm's optimiser called `config.optimizer`; `config.decay` says what its weight decay acts on.

    Raises:
        ConfigError: timm has no such optimiser, or it refuses the settings or needs second derivatives.
    """
    from timm.optim import create_optimizer_v2

    try:
        optimizer: Optimizer = create_optimizer_v2(
            module,
            opt=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            filter_bias_and_bn=config.decay == "weights",
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
