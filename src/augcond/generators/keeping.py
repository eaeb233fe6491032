"""Deep features that are kept from one step to the next: a network once whole, then its outer layers alone.

Source: DeepCache (arXiv 2312.00858). Which layers are left out is for each kind of network to say (`unet.py`,
`transformer.py`); when they are is decided here, by the number of the step alone, so that rows stay independent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.generators.denoising import Conditions

Call: TypeAlias = "Callable[[Any, Tensor, Tensor, Conditions], Tensor]"
"""What a network predicts, as `Predict` of `denoising.py`, with the network as its first argument."""


@dataclass(slots=True)
class Features:
    """What is kept of the layers that are left out, (B, ...)."""

    value: Tensor | None = None

    def take(self) -> Tensor:
        """Return what is kept."""
        if self.value is None:
            raise RuntimeError("a network without its deep layers was asked before the whole one")
        return self.value


@dataclass(frozen=True, slots=True)
class Twins:
    """Two networks made of one network's own layers, whose weights they share.

    Attributes:
        full: all of it; leaves the deep features in `deep`.
        shallow: its outer layers, among which it takes the deep features from `deep`.
        deep: where both find them.
    """

    full: Any
    shallow: Any
    deep: Features


class Keeping:
    """Predicts the steps of one loop, every `interval`th with the whole network.

    Also whole is a guided step after one without guidance: nothing is kept of its unconditional rows.

    Args:
        twins: of the network.
        interval: every so many steps everything is computed.
        call: asks one of the two.
    """

    def __init__(self, twins: Twins, interval: int, call: Call) -> None:
        self._twins = twins
        self._interval = interval
        self._call = call
        self._kept: Tensor | None = None
        self._uses = 0

    def __call__(self, sample: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Return what is predicted of noisy latents at a time step."""
        twins, rows = self._twins, len(sample)
        try:
            if self._kept is None or self._uses == self._interval or len(self._kept) < rows:
                prediction = self._call(twins.full, sample, timestep, conditions)
                self._kept, self._uses = twins.deep.value, 1
            else:
                # The conditional rows stand last.
                twins.deep.value = self._kept[-rows:]
                prediction = self._call(twins.shallow, sample, timestep, conditions)
                self._uses += 1
        finally:
            twins.deep.value = None
        return prediction


def twin_of(module: Any, **submodules: Any) -> Any:
    """Return a module of the same weights in which some submodules are others."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    for name, submodule in submodules.items():
        setattr(twin, name, submodule)
    return twin


def module_list(modules: list[Any]) -> Any:
    """Return modules as one that a network iterates over."""
    from torch import nn

    return nn.ModuleList(modules)
