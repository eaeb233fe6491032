"""Folds over the real training images, and the generated images that each may use.

**One generation serves every fold.** A fold may use no image that a held-out one went into. Were sources drawn from all
real images, each recipe and each class would keep another share of its images: of two sources and three folds four in
nine, in a class of two images none. A fold would train on other amounts, class by class, than the run does, and images
that help would look as if they did harm. So folds are drawn once, and where each image's sources come from is laid out
by *blocks*, the images of a class that the same fold holds out: a fold uses as many images of each class as any other
fold, of any recipe.

An image is made of one block where that is large, else of two, so that what mixes two images finds two different ones
in a class of few. Of a class that has one image left, a mix is of that one with itself, as in a run with one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from augcond.amounts import ChosenImages, Round
from augcond.conditioning.streams import numpy_stream, row_seed

FOLDS = "tuning-folds"
"""The purpose that folds are drawn for."""

ALONE = 4
"""Images of a block from which nothing is gained by a second one: there are six pairs in it."""


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


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of each class, and how images are made of them: in *turns* of one image that begins with each block.

    Attributes:
        count: blocks of each class, (C,); its only image, which no fold holds out, is one.
        smallest: images of its smallest block, (C,).
    """

    count: np.ndarray
    smallest: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, folds: np.ndarray, classes: int) -> Blocks:
        """Return the blocks of some real images.

        Args:
            labels: of the images, (N,).
            folds: of each, from `draw_folds`.
            classes: number of classes.
        """
        sizes = [np.unique(folds[labels == label], return_counts=True)[1] for label in range(classes)]
        return cls(np.array([len(each) for each in sizes]), np.array([min(each, default=0) for each in sizes]))

    @property
    def paired(self) -> np.ndarray:
        """Which classes have images made of two blocks, bool (C,): of small ones, and never of all there are."""
        return np.asarray((self.count > 2) & (self.smallest < ALONE))

    @property
    def pools(self) -> np.ndarray:
        """How many real images the fewest are that an image of a class is made from, (C,)."""
        return np.asarray(self.smallest * np.where(self.paired, 2, 1))

    @property
    def served(self) -> np.ndarray:
        """How many images of a turn each fold uses, (C,): those without the block that it holds out."""
        return np.asarray(np.maximum(1, self.count - np.where(self.paired, 2, 1)))

    def turns(self, amounts: Sequence[int]) -> np.ndarray:
        """Return how many turns of each class come closest to what a fold is to use of it, (C,); at least one of any.

        Args:
            amounts: images that a fold is to use of each class, (C,).
        """
        asked = np.asarray(amounts)
        nearest = np.round(asked / self.served).astype(np.int64)
        return np.where(asked > 0, np.maximum(1, nearest), 0)

    def used(self, amounts: Sequence[int]) -> np.ndarray:
        """Return how many images of each class a fold uses, (C,); see `turns`."""
        return np.asarray(self.turns(amounts) * self.served)

    def made(self, amounts: Sequence[int]) -> np.ndarray:
        """Return how many images of each class a set has then, (C,); see `turns`."""
        return np.asarray(self.turns(amounts) * self.count)


def block_rounds(
    keys: Sequence[str], labels: np.ndarray, folds: np.ndarray, classes: Sequence[str], turns: Sequence[np.ndarray]
) -> list[Round]:
    """Return what is made of which sources, as rounds of a plan: those of a smaller set come first.

    An image of two blocks is of one and of that which comes some places later, the first after the last; turn after
    turn it is another place, so that any two blocks meet.

    Args:
        keys: of the real images.
        labels: of the same.
        folds: of each, from `draw_folds`.
        classes: ids.
        turns: of each class, (C,), of ever larger sets; see `Blocks`.
    """
    paired = Blocks.of(labels, folds, len(classes)).paired
    members = [
        [np.flatnonzero((labels == label) & (folds == fold)) for fold in np.unique(folds[labels == label])]
        for label in range(len(classes))
    ]
    most = max(map(len, members))
    found: list[Round] = []
    before = np.zeros(len(classes), dtype=np.int64)
    for now in turns:
        for apart in range(most // 2 + 1):
            for place in range(most):
                chosen: dict[str, ChosenImages] = {}
                for label, blocks in enumerate(members):
                    more = _turns_apart(apart, len(blocks), range(before[label], now[label]), bool(paired[label]))
                    if more and place < len(blocks):
                        own = np.union1d(blocks[place], blocks[(place + apart) % len(blocks)]).tolist()
                        chosen[classes[label]] = ChosenImages(more, tuple(keys[each] for each in own))
                if chosen:
                    found.append(chosen)
        before = now
    return found


def _turns_apart(apart: int, blocks: int, turns: range, paired: bool) -> int:
    """Return how many of these turns of a class take blocks that lie so many places apart: 0 for one block alone."""
    if not paired:
        return len(turns) if apart == 0 else 0
    return sum(1 + turn % (blocks // 2) == apart for turn in turns)
