"""Whether the GPUs of this machine train together; this module is also what each of the processes runs that try it."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from augcond.config import TrainingConfig
from augcond.experiments.doctor.findings import Finding, Subject
from augcond.training.devices import find_rank

_PATIENCE = 180.0
"""Seconds; broken links between GPUs hang."""


def look_at_training(subject: Subject) -> Finding:
    """Whether one process per GPU can take the mean of what all have, as a step of training does."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return Finding("not possible here", f"{count or 'no'} GPU{'' if count == 1 else 's'}: nothing trains together")
    problem = mean_over(count)
    if problem:
        advice = (
            "train on one GPU, or set NCCL_DEBUG=INFO and try again; NCCL_P2P_DISABLE=1 helps where links are broken"
        )
        return Finding("failed", f"{count} GPUs: {problem}", advice, {"processes": count})
    return Finding("ok", f"{count} GPUs take means of each other's numbers", measured={"processes": count})


def mean_over(processes: int) -> str:
    """Return what went wrong where so many processes take a mean; empty where nothing did."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", __name__]
    started = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *launcher],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        _, said = started.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer in {_PATIENCE:.0f} s"
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait()
    lines = [line for line in said.decode(errors="replace").splitlines() if "Error" in line]
    return "" if started.returncode == 0 else (lines[0] if lines else f"exit code {started.returncode}").strip()[:300]


def _take_part() -> int:
    """Take a mean with the others; return whether it is wrong."""
    rank = find_rank(TrainingConfig(batch_size=int(os.environ["WORLD_SIZE"])))
    own = torch.full((2**20,), float(rank.number), device=rank.device)
    return int(not torch.equal(rank.mean(own), torch.full_like(own, (rank.count - 1) / 2)))


if __name__ == "__main__":
    sys.exit(_take_part())
