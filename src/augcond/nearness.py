"""Which images and classes are near each other in the encoder's space, and which images a source is mixed with.

What is chosen here is written into the plan, and counts there. Rows whose further sources are near the first, or of
another class, choose them in streams of their own: not every image is then used equally often, and rows of different
recipes no longer have their sources alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from augcond.conditioning.streams import ACROSS, NEIGHBOURS, numpy_stream
from augcond.datasets import Dataset
from augcond.errors import PlanError

_DECIMALS = 5
"""Similarities that are equal so far are ties, so that the last bits of another machine choose nothing."""

_AT_ONCE = 1024
"""Images that are compared with all others at once."""


@dataclass(frozen=True, slots=True)
class SourceFeatures:
    """What the image encoder says of the training images of a run.

    Attributes:
        keys: of the images.
        labels: int64, (N,).
        features: their embeddings, averaged over tokens, float32, (N, D).
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    features: np.ndarray

    def of(self, keys: tuple[str, ...]) -> SourceFeatures:
        """Return those of `keys`, in their order.

        Raises:
            KeyError: one is not among them.
        """
        places = {key: place for place, key in enumerate(self.keys)}
        chosen = np.array([places[key] for key in keys], dtype=np.int64)
        return SourceFeatures(keys, self.labels[chosen], self.features[chosen])


def nearest(features: np.ndarray, labels: np.ndarray, count: int, *, across: bool = False) -> list[np.ndarray]:
    """Return, per image, the places of the `count` most similar others of its class, most similar first.

    Similar is what has a large cosine; of equally similar ones the first comes first.

    Args:
        features: (N, D).
        labels: int64, (N,).
        count: at most so many of each; fewer where a class has fewer.
        across: those of all other classes, in place of those of its own.
    """
    unit = _unit(features)
    found: list[np.ndarray] = []
    for start in range(0, len(unit), _AT_ONCE):
        places = np.arange(start, min(start + _AT_ONCE, len(unit)))
        similarity = np.round(unit[places] @ unit.T, _DECIMALS)
        same = labels[places, None] == labels[None]
        allowed = ~same if across else same & (places[:, None] != np.arange(len(unit))[None])
        similarity[~allowed] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        held = np.minimum(allowed.sum(axis=1), count)
        found += [row[:number] for row, number in zip(order, held, strict=True)]
    return found


def similar_classes(means: np.ndarray, counts: np.ndarray) -> list[int | None]:
    """Return, per class, the label of the most similar other one; None where either has no image.

    Args:
        means: of the features of each class, (C, D).
        counts: images of each class, (C,).
    """
    unit = _unit(means)
    similarity = np.round(unit @ unit.T, _DECIMALS)
    np.fill_diagonal(similarity, -np.inf)
    similarity[:, counts == 0] = -np.inf
    best = similarity.argmax(axis=1)
    return [
        int(other) if counts[label] and np.isfinite(similarity[label, other]) else None
        for label, other in enumerate(best)
    ]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Chooses the further sources of rows.

    Attributes:
        classes: ids.
        labels: of each image of the data set, int64, (N,).
        ranks: place of each image among all, sorted by key: the listing's order plays no part, (N,).
        neighbours: how many of the nearest a source is mixed with; None for any.
        features: of the images, in the data set's order; None where any are taken.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    ranks: np.ndarray
    neighbours: int | None
    features: np.ndarray | None

    @classmethod
    def of(cls, dataset: Dataset, neighbours: int | None, features: SourceFeatures | None) -> Self:
        """Return what chooses among the images of `dataset`."""
        keys = tuple(image.key for image in dataset.images)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        ranks = np.empty(len(keys), np.int64)
        ranks[order] = np.arange(len(keys))
        known = features.of(keys).features if features is not None and neighbours is not None else None
        labels = np.array([image.label for image in dataset.images], dtype=np.int64)
        return cls(dataset.classes, labels, ranks, neighbours, known)

    def within(self, sources: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Return `sources` whose further ones are some of the nearest to the first, of its class.

        Args:
            sources: positions of images, (R, takes); unchanged where there are no features to choose by.
            seeds: of the rows, (R,).

        Returns:
            (R, takes): the first as they were; of the others, `takes` - 1 of the `neighbours` nearest in an order that
            each row draws, or the nearest `takes` - 1 where that is more; repeated where a class has fewer.
        """
        if self.features is None or sources.shape[1] < 2 or not len(sources):
            return sources
        further = sources.shape[1] - 1
        near = self._nearest(max(self.neighbours or 1, further), across=False)
        chosen = sources.copy()
        for row, seed in enumerate(seeds):
            found = near[sources[row, 0]]
            if len(found):  # else its only image, which is mixed with itself
                drawn = found[numpy_stream(int(seed), NEIGHBOURS).permutation(len(found))]
                chosen[row, 1:] = np.resize(drawn, further)
        return chosen

    def across(self, sources: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Return `sources` whose second ones are of other classes.

        Any class equally often, and any image of it; or one of the `neighbours` nearest images of all other classes.

        Args:
            sources: positions of images, (R, takes), of at least two.
            seeds: of the rows, (R,).

        Raises:
            PlanError: a class has no other one to be mixed with.
        """
        held = np.unique(self.labels)
        if len(held) < 2 and len(sources):
            raise PlanError(
                "recipes of two classes need a second class with images: add one, or take recipes that are not -across"
            )
        chosen = sources.copy()
        near = None if self.features is None else self._nearest(self.neighbours or 1, across=True)
        by_rank = np.argsort(self.ranks)
        members = {label: by_rank[self.labels[by_rank] == label] for label in held}
        for row, seed in enumerate(seeds):
            first, stream = sources[row, 0], numpy_stream(int(seed), ACROSS)
            if near is not None:
                candidates = near[first]
            else:
                others = held[held != self.labels[first]]
                candidates = members[others[stream.integers(len(others))]]
            chosen[row, 1] = candidates[stream.integers(len(candidates))]
        return chosen

    def _nearest(self, count: int, *, across: bool) -> list[np.ndarray]:
        """Return `nearest` of each image, by its position in the data set."""
        if self.features is None:
            raise ValueError("nearest images are told by features")
        by_rank = np.argsort(self.ranks)
        found = nearest(self.features[by_rank], self.labels[by_rank], count, across=across)
        return [by_rank[found[rank]] for rank in self.ranks]


def _unit(features: np.ndarray) -> np.ndarray:
    exact = features.astype(np.float64)
    unit: np.ndarray = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    return unit
