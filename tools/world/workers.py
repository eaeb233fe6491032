"""Training in several processes at once.

Two processes of one thread are faster on two cores than one process of two threads, so every training script may also
be started as `torchrun --nproc-per-node 2 -m tools.world.<name> ...`; each process then takes its share of every batch.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import Tensor, distributed


def start_workers() -> None:
    """Join the other processes, if torchrun started this one."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")


def worker_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def worker_rank() -> int:
    """This process among them; 0 logs and saves."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def sum_over_workers(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor summed over the processes, in one exchange."""
    if worker_count() == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    return [part.view(like.shape) for part, like in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]


def gather_objects(mine: Any) -> list[Any]:
    """What every process holds, in every process."""
    if worker_count() == 1:
        return [mine]
    gathered: list[Any] = [None] * worker_count()
    distributed.all_gather_object(gathered, mine)
    return gathered
