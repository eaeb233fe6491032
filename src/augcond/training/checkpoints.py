"""Checkpoints of a training under way: one safetensors file, replaced at once, never a pickle."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from augcond.store.commit import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

logger = logging.getLogger(__name__)

LossHistory = list[tuple[int, float]]
"""(step, loss) now and then."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a training is.

    Attributes:
        step: number of steps done.
        history: the losses so far.
        scaler: state of the gradient scaler in mixed precision; empty without.
        seconds: time that its steps took, those before an interruption included.
    """

    step: int
    history: LossHistory
    scaler: dict[str, Any]
    seconds: float = field(default=0.0, compare=False)


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: Optimizer, progressed: Progressed, fingerprint: str
) -> None:
    """Write weights, optimiser state and progress to `path`, so that a crash leaves the old file or the new one."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    plain: dict[str, dict[str, Any]] = {}
    for place, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{place}.{name}"] = value
            else:
                plain.setdefault(str(place), {})[name] = value
    about = {
        "fingerprint": fingerprint,
        "step": progressed.step,
        "history": progressed.history,
        "scaler": progressed.scaler,
        "seconds": progressed.seconds,
        "optimizer": plain,
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(whole, metadata={"augcond": json.dumps(about)}))


def load_checkpoint(path: Path, module: nn.Module, optimizer: Optimizer, fingerprint: str) -> Progressed | None:
    """Put what `path` holds into `module` and `optimizer`; return None where there is no checkpoint of this training.

    Args:
        path: the file; need not exist.
        module: gets the weights.
        optimizer: gets its state.
        fingerprint: of the training; a checkpoint of another is passed over.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["augcond"])
            about["seconds"] = float(about["seconds"])  # which older versions did not keep
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("the checkpoint %s is damaged (%s): training starts anew", path, error)
        return None
    if about["fingerprint"] != fingerprint:
        logger.info("the checkpoint %s is of another training: training starts anew", path)
        return None
    module.load_state_dict(_below("module.", tensors))
    state: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in about["optimizer"].items()}
    for name, tensor in _below("optimizer.", tensors).items():
        place, _, entry = name.partition(".")
        state.setdefault(int(place), {})[entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history = [(int(step), float(loss)) for step, loss in about["history"]]
    return Progressed(about["step"], history, about["scaler"], about["seconds"])


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
