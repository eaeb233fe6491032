"""Folds over the real training images, and the generated images that each may use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augcond.conditioning.streams import numpy_stream, row_seed

FOLDS = "tuning-folds"
"""The purpose that folds are drawn for."""


def draw_folds(labels: np.ndarray, folds: int, training: int) -> np.ndarray:
    """Return the fold that holds each image out, (N,), from 0 on; -1 for the only image of its class.

    Args:
        labels: of the images, (N,), whose order is part of the draw.
        folds: how many.
        training: which cross-validation it is.
    """
    found = np.full(len(labels), -1)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            rng = numpy_stream(row_seed(training, FOLDS, int(label)), FOLDS)
            # A class that is smaller than there are folds starts anywhere, or the last folds would be the smallest.
            found[rng.permutation(members)] = (np.arange(len(members)) + rng.integers(folds)) % folds
    return found


def most_folds(labels: np.ndarray, wanted: int) -> int:
    """Return how many folds these images allow, at most `wanted`; fewer than two where no class has two images."""
    return min(wanted, int(np.bincount(labels).max(initial=0)))


def clean_rows(sources: Sequence[Sequence[str]], held_out: frozenset[str]) -> np.ndarray:
    """Return which generated images were made from none of the held-out ones, bool (M,).

    Args:
        sources: keys of all sources of each; of mixed images all of them.
        held_out: keys of the real images that a fold holds out.
    """
    return np.array([held_out.isdisjoint(keys) for keys in sources], dtype=bool)


def common_counts(
    sets: Sequence[tuple[np.ndarray, Sequence[Sequence[str]]]], held_out: frozenset[str], classes: int
) -> np.ndarray:
    """Return how many images of each class every set of images has in a fold, (C,): as many as the poorest.

    Args:
        sets: labels and sources of the images of each set.
        held_out: see `clean_rows`.
        classes: number of classes.
    """
    counts = [np.bincount(labels[clean_rows(sources, held_out)], minlength=classes) for labels, sources in sets]
    return np.asarray(np.min(counts, axis=0))


def first_clean(
    labels: np.ndarray, sources: Sequence[Sequence[str]], held_out: frozenset[str], counts: np.ndarray
) -> np.ndarray:
    """Return the positions of the first `counts[c]` clean images of each class c, in their order."""
    clean = clean_rows(sources, held_out)
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts):
        chosen[np.flatnonzero(clean & (labels == label))[:count]] = True
    return np.flatnonzero(chosen)
