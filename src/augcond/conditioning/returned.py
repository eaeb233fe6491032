"""What code of others gives back, compared with what is promised: views of generators, operations of recipes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from augcond.conditioning.base import Draws
from augcond.errors import ConfigError, GeneratorError

if TYPE_CHECKING:
    from torch import Size, Tensor

# PyTorch is imported by the functions that compute; see `recipes`.

_ROUNDING = 1e-3


def checked_operation(name: str, returned: object, shape: Size) -> tuple[Tensor, Draws]:
    """Return what an operation of one's own gave, float32, and what it drew.

    Args:
        name: of the recipe.
        returned: what it gave.
        shape: of one of its sources.

    Raises:
        ConfigError: it is not one view or one embedding of that shape, and `Draws`.
    """
    import torch

    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], torch.Tensor)):
        raise ConfigError(f"recipe {name}: its function gave a {type(returned).__name__}; expected (tensor, Draws)")
    made, draws = returned
    if made.shape != shape or not made.isfinite().all():
        raise ConfigError(
            f"recipe {name}: its function gave a tensor of shape {tuple(made.shape)}; expected finite numbers "
            f"of shape {tuple(shape)}"
        )
    if not isinstance(draws, Draws) or not all(map(_is_number, (draws.lam, draws.share, *draws.weights))):
        raise ConfigError(f"recipe {name}: its function drew {draws!r}; expected Draws of finite numbers or None")
    return made.detach().float(), draws


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))


def checked_view(view: object, size: int) -> Tensor:
    """Return a generator's view of an image, float32 (3, S, S).

    Raises:
        GeneratorError: it is not what the interface promises.
    """
    import torch

    if not isinstance(view, torch.Tensor):
        raise GeneratorError(
            f"the generator's view gave a {type(view).__name__}; expected a tensor (3, {size}, {size})"
        )
    kind = f"{str(view.dtype).removeprefix('torch.')} {tuple(view.shape)} on {view.device.type}"
    fits = tuple(view.shape) == (3, size, size) and view.is_floating_point() and view.device.type == "cpu"
    if not fits or not ((view >= 0) & (view <= 1 + _ROUNDING)).all():
        given = "values outside of [0, 1]" if fits else kind
        raise GeneratorError(
            f"the generator's view gave {given}; expected floating point (3, {size}, {size}) on the CPU, in [0, 1]"
        )
    return view.float()
