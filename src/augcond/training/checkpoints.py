"""Checkpoints of a training under way: one safetensors file, replaced at once, never a pickle."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
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
    state = optimizer.state_dict()
    # Some optimisers, such as lamb, count their steps in the groups of parameters.
    groups = {place: _single(group) for place, group in enumerate(state["param_groups"])}
    for prefix, entries in (("optimizer", state["state"]), ("group", groups)):
        for place, values in entries.items():
            tensors |= {f"{prefix}.{place}.{name}": value for name, value in values.items() if _is_tensor(value)}
    about = {
        "fingerprint": fingerprint,
        "step": progressed.step,
        "history": progressed.history,
        "scaler": progressed.scaler,
        "seconds": progressed.seconds,
        "optimizer": _without_tensors(state["state"]),
        "groups": _without_tensors(groups),
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
    groups = optimizer.state_dict()["param_groups"]
    for place, values in about["groups"].items():
        groups[int(place)] |= values
    for name, tensor in _below("group.", tensors).items():
        place, _, entry = name.partition(".")
        groups[int(place)][entry] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    history = [(int(step), float(loss)) for step, loss in about["history"]]
    return Progressed(about["step"], history, about["scaler"], about["seconds"])


def _single(group: dict[str, Any]) -> dict[str, Any]:
    """Return the single values of a group of parameters: not the parameters, nor pairs such as betas."""
    return {n: value for n, value in group.items() if _is_tensor(value) or isinstance(value, int | float | str | None)}


def _without_tensors(entries: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        place: {name: value for name, value in values.items() if not _is_tensor(value)}
        for place, values in entries.items()
    }


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
