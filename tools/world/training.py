"""One training loop for every model of the world: seeded by step, logged, and resumable after kill -9."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tools.world.workers import sum_over_workers, worker_count, worker_rank
from torch import Generator, Tensor, nn

BUILD_FOLDER = Path("../world-build")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how fast a model is trained.

    Attributes:
        total_images: pictures seen when the schedule ends.
        batch_size: pictures a step.
        warmup: steps until the optimizer's learning rates are reached; then they fall as a cosine to `final_share`.
        ema_decay: decay of the moving average of the weights.
        seed: step n draws from a generator seeded by (seed, n), so a resumed run repeats an uninterrupted one.
        save_seconds: time between checkpoints.
    """

    total_images: int
    batch_size: int
    warmup: int = 100
    final_share: float = 0.02
    ema_decay: float = 0.998
    seed: int = 0
    save_seconds: float = 180
    log_steps: int = 50

    @property
    def local_batch(self) -> int:
        """Pictures a step in this process."""
        return self.batch_size // worker_count()

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.total_images // self.batch_size

    def rate_at(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2


class MovingAverage:
    """Exponential moving average of a model's floating-point state, with a warm-up of the decay."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, share)
            else:
                self.shadow[name].copy_(value)


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a training changes, and a checkpoint keeps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage


def step_generator(seed: int, step: int) -> Generator:
    """The generator of one training step in this process."""
    return torch.Generator().manual_seed((seed * 8 + worker_rank()) * 10_000_019 + step)


def train(
    plan: TrainingPlan,
    folder: Path,
    model: nn.Module,
    losses_of: Callable[[int, Generator], dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Tensor]:
    """Train `model` until the plan is done, from the folder's last checkpoint if there is one.

    Args:
        plan: length and schedule.
        folder: gets `log.jsonl` and `checkpoint.pt`.
        model: holds every trained parameter; trained in place.
        losses_of: given the step and its generator, draws `plan.local_batch` pictures and returns the named losses;
            their sum is minimised.
        optimizer: over the model's parameters, at the peak rate (each group keeps its own).

    Returns:
        The moving average of the weights, a state dict.
    """
    folder.mkdir(parents=True, exist_ok=True)
    average = MovingAverage(model, plan.ema_decay)
    trained = _Trained(model, optimizer, average)
    peaks = [group["lr"] for group in optimizer.param_groups]
    step, seconds = _resume(folder, trained)
    started = saved = time.monotonic() - seconds
    saved += seconds
    sums: dict[str, float] = {}
    summed = 0
    while step < plan.steps:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * plan.rate_at(step)
        losses = losses_of(step, step_generator(plan.seed, step))
        torch.stack(list(losses.values())).sum().backward()
        if worker_count() > 1:
            _average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model, step)
        step += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        summed += 1
        if step % plan.log_steps == 0 or step == plan.steps:
            record = {"step": step, "images": step * plan.batch_size, "seconds": round(time.monotonic() - started, 1)}
            _log(folder, record | {name: round(value / summed, 5) for name, value in sums.items()})
            sums, summed = {}, 0
        if time.monotonic() - saved > plan.save_seconds or step == plan.steps:
            _save(folder, trained, plan, step, time.monotonic() - started)
            saved = time.monotonic()
    return average.shadow


def load_average(folder: Path) -> dict[str, Tensor]:
    """The moving average of the weights in a training folder's last checkpoint."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)["average"]


def checkpoint_record(folder: Path) -> dict[str, float]:
    """Steps, pictures and seconds that a folder's last checkpoint has seen, and the losses logged last before."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    before = [record for record in read_log(folder) if record["step"] <= state["step"]]
    seen = {"images": state["step"] * state["plan"]["batch_size"], "seconds": round(state["seconds"], 1)}
    return before[-1] | {"step": state["step"]} | seen


def read_log(folder: Path) -> Iterator[dict[str, float]]:
    """The records of a training folder, oldest first."""
    for line in (folder / "log.jsonl").read_text().splitlines():
        yield json.loads(line)


def _average_gradients(model: nn.Module) -> None:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    for gradient, total in zip(gradients, sum_over_workers(gradients), strict=True):
        gradient.copy_(total / worker_count())


def _log(folder: Path, record: dict[str, float]) -> None:
    if worker_rank():
        return
    with (folder / "log.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    logger.info("%s", json.dumps(record))


def _save(folder: Path, trained: _Trained, plan: TrainingPlan, step: int, seconds: float) -> None:
    if worker_rank():
        return
    state = {
        "model": trained.model.state_dict(),
        "optimizer": trained.optimizer.state_dict(),
        "average": trained.average.shadow,
        "step": step,
        "seconds": seconds,
        "plan": asdict(plan),
    }
    temporary = folder / "checkpoint.tmp"
    torch.save(state, temporary)
    temporary.replace(folder / "checkpoint.pt")  # a kill leaves the old checkpoint or the new one, never half


def _resume(folder: Path, trained: _Trained) -> tuple[int, float]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    trained.model.load_state_dict(state["model"])
    trained.optimizer.load_state_dict(state["optimizer"])
    trained.average.shadow = state["average"]
    logger.info("resumed at step %d", state["step"])
    return state["step"], state["seconds"]
