"""Muon for the matrices and convolutions inside a network, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tools.world.workers import sum_over_workers, worker_count, worker_rank
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer, two kinds of groups.

    Hidden matrices get orthogonalised momentum (Muon, Jordan et al. 2024; a convolution counts as the matrix
    (out, in * height * width)); embeddings, norms, biases, first and last layers get AdamW.

    Args:
        hidden: parameters of two or more dimensions for Muon.
        others: parameters for AdamW.
        muon_rate, adam_rate: peak learning rates.
        weight_decay: decoupled, for both.
    """

    def __init__(
        self,
        hidden: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        muon_rate: float = 0.02,
        adam_rate: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        groups = [
            {"params": list(hidden), "lr": muon_rate, "muon": True},
            {"params": list(others), "lr": adam_rate, "muon": False},
        ]
        super().__init__(groups, {"weight_decay": weight_decay, "momentum": 0.95, "betas": (0.9, 0.98)})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = self._muon(parameters, group) if group["muon"] else [self._adam(p, group) for p in parameters]
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])

    def _muon(self, parameters: list[nn.Parameter], group: dict) -> list[Tensor]:
        """Orthogonalise the momenta; processes that train together do a share each and exchange the results."""
        updates = []
        for number, parameter in enumerate(parameters):
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            if number % worker_count() == worker_rank():
                direction = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                updates.append((orthogonalise(direction) * scale).flatten())
            else:
                updates.append(torch.zeros(parameter.numel()))
        return [update.reshape(p.shape) for update, p in zip(sum_over_workers(updates), parameters, strict=True)]

    def _adam(self, parameter: nn.Parameter, group: dict) -> Tensor:
        state = self.state[parameter]
        if not state:
            state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
        low, high = group["betas"]
        state["step"] += 1
        state["first"].lerp_(parameter.grad, 1 - low)
        state["second"].mul_(high).addcmul_(parameter.grad, parameter.grad, value=1 - high)
        first = state["first"] / (1 - low ** state["step"])
        second = state["second"] / (1 - high ** state["step"])
        return first / (second.sqrt() + 1e-8)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values move to about 1 (quintic Newton-Schulz)."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    current = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = current @ current.T
        current = torch.addmm(current, torch.addmm(gram, gram, gram, beta=b, alpha=c), current, beta=a)
    return current.T if tall else current
