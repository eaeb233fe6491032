"""Orders in which images are drawn: shuffled rounds, which nothing but their seed decides."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from augcond.conditioning.streams import numpy_stream


class Order(Protocol):
    """An endless sequence of positions."""

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return the positions from place `start` to the one before `stop`."""
        ...


@dataclass(frozen=True, slots=True)
class Rounds:
    """An endless sequence of shuffled rounds through `count` things."""

    count: int
    seed: int
    purpose: str

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """See `Order`."""
        if start == stop:
            return np.zeros(0, np.int64)
        first, last = start // self.count, (stop - 1) // self.count
        rounds = [_round(self.count, self.seed, f"{self.purpose}-{number}") for number in range(first, last + 1)]
        return np.concatenate(rounds)[start - first * self.count : stop - first * self.count]


@dataclass(frozen=True, slots=True)
class BalancedRounds:
    """An endless sequence of shuffled rounds through the classes; each class gives its images in rounds of its own."""

    members: tuple[np.ndarray, ...]
    seed: int
    purpose: str

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """See `Order`."""
        if start == stop:
            return np.zeros(0, np.int64)
        classes = len(self.members)
        first, last = start // classes, (stop - 1) // classes + 1
        # In round r every class gives its r-th image.
        given = np.stack(
            [
                own[Rounds(len(own), self.seed, f"{self.purpose}-class-{number}")(first, last)]
                for number, own in enumerate(self.members)
            ]
        )
        orders = [_round(classes, self.seed, f"{self.purpose}-classes-{number}") for number in range(first, last)]
        drawn = np.concatenate([given[order, place] for place, order in enumerate(orders)])
        return drawn[start - first * classes : stop - first * classes]


@dataclass(frozen=True, slots=True)
class Tilted:
    """Synthetic images that are drawn the less often, the more real ones their class has.

    Attributes:
        labels: of the synthetic images.
        real: number of real images of each class.
        tilt: a class of n real images is drawn n^-tilt as often as one of one.
    """

    labels: tuple[int, ...]
    real: tuple[int, ...]
    tilt: float

    def order(self, seed: int, purpose: str) -> Order:
        """Return the order in which they are drawn: in rounds in which each class has as many places as it is due."""
        members = members_of(self.labels)
        weights = class_weights(self.real, self.tilt)
        each = np.array([weights[self.labels[int(own[0])]] for own in members])
        # The class that is drawn most often has each of its images once a round.
        due = each / each.max() * np.array([len(own) for own in members])
        return _TiltedRounds(members, due, seed, purpose)


@dataclass(frozen=True, slots=True)
class _TiltedRounds:
    """An endless sequence of shuffled rounds; in each, a class has some places, and fills them in rounds of its own.

    A class that is due less than a place a round, or one and a half, has what it is due over several of them.
    """

    members: tuple[np.ndarray, ...]
    due: np.ndarray
    seed: int
    purpose: str

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """See `Order`."""
        if start == stop:
            return np.zeros(0, np.int64)
        first = self._round_of(start)
        last = self._round_of(stop - 1)
        drawn = []
        for number in range(first, last + 1):
            places = zip(self._before(number).tolist(), self._before(number + 1).tolist(), strict=True)
            filled = [
                own[Rounds(len(own), self.seed, f"{self.purpose}-class-{which}")(*of)]
                for which, (own, of) in enumerate(zip(self.members, places, strict=True))
            ]
            together = np.concatenate(filled)
            drawn.append(together[_round(len(together), self.seed, f"{self.purpose}-places-{number}")])
        skipped = int(self._before(first).sum())
        return np.concatenate(drawn)[start - skipped : stop - skipped]

    def _before(self, number: int) -> np.ndarray:
        """Return how many places each class has in the rounds before one, (C,)."""
        # Whole numbers are not to be missed by a rounding error.
        return np.floor(number * self.due + 1e-9).astype(np.int64)

    def _round_of(self, place: int) -> int:
        """Return the round in which a place is; each has one at least."""
        return bisect_right(range(place + 2), place, key=lambda number: int(self._before(number).sum())) - 1


def class_weights(real: Sequence[int], tilt: float) -> np.ndarray:
    """Return how often a synthetic image of each class is drawn, beside one of a class with one real image, (C,).

    Args:
        real: number of real images of each class; none counts as one.
        tilt: 0 draws all equally often.
    """
    weights: np.ndarray = np.maximum(np.asarray(real, float), 1.0) ** -tilt
    return weights


def members_of(labels: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return the positions of the images of each class that has any."""
    array = np.asarray(labels, dtype=np.int64)
    return tuple(np.flatnonzero(array == label) for label in np.unique(array))


@lru_cache(maxsize=64)
def _round(count: int, seed: int, purpose: str) -> np.ndarray:
    return numpy_stream(seed, purpose).permutation(count)


def effective_counts(
    real: Sequence[int], synthetic: Sequence[float], share: float, *, balanced: bool = False
) -> list[float]:
    """Return the class distribution that batches show, scaled to the number of real images.

    Args:
        real: real images per class.
        synthetic: synthetic images per class.
        share: share of synthetic images in a batch.
        balanced: real images are drawn class by class.
    """
    total = sum(real)
    counts = np.asarray(real, float)
    shown = (1 - share) * (total * (counts > 0) / np.count_nonzero(counts) if balanced else counts)
    if share:
        shown = shown + share * np.asarray(synthetic, float) * total / sum(synthetic)
    return [float(value) for value in shown]
