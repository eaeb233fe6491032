"""Dropout of the features of an embedding, or of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from augcond.conditioning.streams import DROPOUT, numpy_stream

if TYPE_CHECKING:
    from torch import Tensor


def dropout_mask(seed: int, length: int, p: float) -> Tensor:
    """Return which features stay, (length,) bool, each with probability 1 - p, from the row's dropout stream.

    A longer mask starts with the shorter one. So the published dropout, which masks the 2 D entries of [embedding,
    noise level], has `dropout_mask(seed, 2 * D, p)`, whose first D entries are what the recipe dropped.

    Args:
        seed: the row's seed.
        length: number of features; T D for tokens (T, D), in the order of memory, or T to drop tokens as a whole.
        p: probability that a feature, or a token, is dropped, in [0, 1].
    """
    return torch.from_numpy(numpy_stream(seed, DROPOUT).random(length) >= p)


def dropout(embedding: Tensor, kept: Tensor, scale: float = 1.0) -> Tensor:
    """Return `embedding` with 0 where a feature, or a token, is not kept.

    Args:
        embedding: (D,) or tokens (T, D).
        kept: bool, of as many entries as the embedding, or of T to drop tokens as a whole.
        scale: factor on what stays; 1 as published, 1 / (1 - p) to keep the expected value.

    Source: arXiv 2502.04475, section 3, without rescaling.
    """
    where = kept.reshape(embedding.shape if len(kept) == embedding.numel() else (-1, 1))
    return torch.where(where, embedding * scale, 0.0)
