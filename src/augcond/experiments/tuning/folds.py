"""Folds over the real training images, and the generated images that each may use.

**One generation serves every fold.** A fold may use no image that a held-out one went into. Were sources drawn from all
real images, most mixes would have a held-out source: of two sources and three folds five in nine, and in a class of two
or three images all of them. A fold would train on other amounts, class by class, than the run does, and images that
help would look as if they did harm. So folds are drawn once, and the sources of each image are of one *block*: the
images of a class that the same fold holds out. A fold then uses whole blocks, as many images of each class as of any
other recipe. Of a class that has one image left, a mix is of that one with itself, as in a run with one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augcond.amounts import ChosenImages, Round
from augcond.conditioning.streams import numpy_stream, row_seed

FOLDS = "tuning-folds"
"""The purpose that folds are drawn for."""


def draw_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold that holds each image out, (N,), from 0 on; -1 for the only image of its class.

    Args:
        labels: of the images, (N,), whose order is part of the draw.
        folds: how many.
        seed: of the draw.
    """
    found = np.full(len(labels), -1)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            rng = numpy_stream(row_seed(seed, FOLDS, int(label)), FOLDS)
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


def even_clean(
    labels: np.ndarray, sources: Sequence[Sequence[str]], held_out: frozenset[str], counts: np.ndarray
) -> np.ndarray:
    """Return the positions of `counts[c]` clean images of each class c, in their order: every so many, of all blocks.

    Args:
        labels: of the images of a set, (M,).
        sources: of each.
        held_out: see `clean_rows`.
        counts: how many, (C,), or all that are clean.
    """
    clean = clean_rows(sources, held_out)
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts):
        own = np.flatnonzero(clean & (labels == label))
        taken = min(count, len(own))
        chosen[own[np.arange(taken) * len(own) // max(1, taken)]] = True
    return np.flatnonzero(chosen)


def blocks_of(labels: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Return how many blocks each class has, (C,); its only image, which no fold holds out, is one.

    Args:
        labels: of the real images, (N,).
        folds: of each, from `draw_folds`.
        classes: number of classes.
    """
    return np.array([len(np.unique(folds[labels == label])) for label in range(classes)])


def block_counts(blocks: np.ndarray, amounts: Sequence[int]) -> np.ndarray:
    """Return how many images of each class are made of each of its blocks, (C,).

    A class of B blocks has B - 1 in each fold that holds one out.

    Args:
        blocks: see `blocks_of`.
        amounts: images that a fold is to use of each class, (C,); it gets as many as whole blocks come closest to.
    """
    asked = np.asarray(amounts)
    each = np.round(asked / np.maximum(1, blocks - 1)).astype(np.int64)
    return np.where(asked > 0, np.maximum(1, each), 0)


def used_of_blocks(blocks: np.ndarray, amounts: Sequence[int]) -> np.ndarray:
    """Return how many images of each class a fold uses, (C,); see `block_counts`."""
    return np.asarray(block_counts(blocks, amounts) * np.maximum(1, blocks - 1))


def made_of_blocks(blocks: np.ndarray, amounts: Sequence[int]) -> int:
    """Return how many images a set has then; see `block_counts`."""
    return int((block_counts(blocks, amounts) * blocks).sum())


def block_rounds(
    keys: Sequence[str], labels: np.ndarray, folds: np.ndarray, classes: Sequence[str], counts: Sequence[np.ndarray]
) -> list[Round]:
    """Return what is made of which sources, as rounds of a plan: those of a smaller set come first.

    Args:
        keys: of the real images.
        labels: of the same.
        folds: of each, from `draw_folds`.
        classes: ids.
        counts: images of each block of each class, (C,), of ever larger sets.
    """
    found: list[Round] = []
    before = np.zeros(len(classes), dtype=np.int64)
    for now in counts:
        for fold in np.unique(folds):
            chosen: dict[str, ChosenImages] = {}
            for label, more in enumerate((now - before).tolist()):
                own = np.flatnonzero((labels == label) & (folds == fold)).tolist()
                if own and more:
                    chosen[classes[label]] = ChosenImages(more, tuple(keys[place] for place in own))
            if chosen:
                found.append(chosen)
        before = now
    return found
