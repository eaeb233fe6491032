"""Mixing by parts: a box of pixels, a run of features, a box or a run of tokens.

Pure functions of one row. What was drawn is an argument, in [0, 1) and so independent of the size of what is cut: each
row of a batch can have draws of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Box:
    """Rows [top, bottom) and columns [left, right) of an image or of a grid of tokens."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of pixels, or of tokens, inside."""
        return (self.bottom - self.top) * (self.right - self.left)


def cutmix_box(lam: float, centre: tuple[float, float], height: int, width: int) -> Box:
    """Return the box of area share 1 - lam around `centre`, of the image's aspect ratio, clipped at the border.

    Args:
        lam: share that the box leaves, in [0, 1]; because of the clipping, the effective share is at least about it.
        centre: from top and from left, each in [0, 1).
        height: of what is cut, in pixels or tokens.
        width: likewise.

    Source: CutMix (Yun et al. 2019), arXiv 1905.04899, equation 2. Edges are rounded to the nearest pixel, where the
    published code rounds down and so cuts too little.
    """
    edge = math.sqrt(1.0 - lam)
    top, bottom = _clipped(centre[0], round(edge * height), height)
    left, right = _clipped(centre[1], round(edge * width), width)
    return Box(top, bottom, left, right)


def _clipped(centre: float, edge: int, size: int) -> tuple[int, int]:
    start = math.floor(centre * size) - edge // 2
    return max(start, 0), min(start + edge, size)


def cutmix(first: Tensor, second: Tensor, box: Box) -> tuple[Tensor, float]:
    """Return `first` with the pixels in `box` replaced by those of `second`, and the share of `first` that is left.

    Args:
        first: image, (..., H, W); not changed.
        second: image of the same shape.
        box: lies within the image.

    Returns:
        The image, (..., H, W), and the effective share, 1 - box area / (H W), in [0, 1].
    """
    mixed = first.clone()
    inside = (..., slice(box.top, box.bottom), slice(box.left, box.right))
    mixed[inside] = second[inside]
    return mixed, 1.0 - box.area / (first.shape[-2] * first.shape[-1])


def run_mask(lam: float, start: float, length: int) -> Tensor:
    """Return where a run replaces: (length,) bool with round((1 - lam) length) consecutive True, which wrap around.

    Args:
        lam: share that the run leaves, in [0, 1].
        start: where the run starts, in [0, 1).
        length: number of features or tokens.
    """
    count = round((1.0 - lam) * length)
    first = math.floor(start * length)
    return (torch.arange(length) - first) % length < count


def grid_edge(tokens: int) -> int | None:
    """Return g >= 2 where `tokens` are a grid of g g, or a class token and such a grid, else None.

    No number is both. One token, with or without a class token, is no grid: a box on one cell would replace all or
    nothing.
    """
    for cells in (tokens, tokens - 1):
        edge = math.isqrt(cells)
        if edge >= 2 and edge * edge == cells:
            return edge
    return None


def grid_mask(lam: float, centre: tuple[float, float], tokens: int) -> Tensor:
    """Return where a box replaces tokens, (tokens,) bool, of a grid row by row, behind a class token where one is.

    The class token, which speaks for the whole image, goes with the source of most of the grid, and stays at a tie.

    Args:
        lam: share that the box leaves, in [0, 1].
        centre: from top and from left, each in [0, 1).
        tokens: how many, of which `grid_edge` knows the grid.
    """
    edge = grid_edge(tokens)
    if edge is None:
        raise ValueError(f"{tokens} tokens are no grid, with or without a class token")
    box = cutmix_box(lam, centre, edge, edge)
    grid = torch.zeros(edge, edge, dtype=torch.bool)
    grid[box.top : box.bottom, box.left : box.right] = True
    class_token = torch.full((tokens - edge * edge,), 2 * box.area > edge * edge)
    return torch.cat([class_token, grid.flatten()])


def embed_cutmix(first: Tensor, second: Tensor, replaced: Tensor) -> tuple[Tensor, float]:
    """Return `first` with some features or tokens replaced by those of `second`, and the share of `first` that is left.

    Args:
        first: embedding, (D,) or tokens (T, D); not changed.
        second: embedding of another image of the same class, of the same shape.
        replaced: bool, (D,) or (T,), from `run_mask` or `grid_mask`.

    Returns:
        The embedding, of the same shape, and the effective share, in [0, 1].

    Source: CutMix on embeddings, arXiv 2502.04475, section 3.
    """
    if replaced.shape != first.shape[:1]:
        raise ValueError(f"{first.shape[0]} features or tokens take as long a mask (got {tuple(replaced.shape)})")
    where = replaced.reshape(-1, *[1] * (first.dim() - 1))
    return torch.where(where, second, first), 1.0 - int(replaced.sum()) / len(replaced)
