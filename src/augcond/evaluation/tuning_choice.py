"""What a tuning chooses, and how sure its gain is: the statistics behind `tuning.json`.

**What is estimated.** The gain of what is chosen over real images alone, in mean accuracy per class, as `augcond
run tuned.yaml` will measure it on test images. It is read off real *training* images: each is judged by models that saw
neither it nor any image made from it. A class mean, because the folds of a long tail are long-tailed and a test set
seldom is.

**What is chosen.** With few real images the best of the candidates is as good as drawn by lot. So the config's own
settings are kept unless something leads them by more than one standard error of the difference over the real images;
of what does, real images alone among it, the best is chosen. (After the one-standard-error rule of Breiman, Friedman,
Olshen and Stone, "Classification and Regression Trees", 1984, section 3.4.3, which keeps the simplest tree; here it is
what the config asks for.) Where the config's own recipe cannot be tried, real images alone are kept in its place.

**The winner's curse.** The best of many looks better than it is. So where another candidate is chosen, one half of the
trainings and one half of the real images pick the best, and its gain is read off the other half of the trainings on the
other half of the images; every way round. Halves of the trainings alone would not do: all trainings are judged on the
same real images and saw the same generated ones, so what is luck there is luck in both halves. It is then the gain of
picking so, to which another candidate may lend a half. The config's own settings are not the best of many: their gain
is read off everything. That nothing leads them is a selection too, which is not paid for.

Earlier rounds pick too: the few that are left of 24 were the lucky ones on these very images. So the images have two
*sides*, drawn once, and each side has a *line*: the config's own settings and the candidates that it keeps itself,
round by round. Sides take turns at keeping, all that either keeps goes on, and what is picked from one side's line is
read off the other side. In the only round of a tuning nothing was picked before: there, `HALVINGS` random halvings take
the place of the sides.

**The interval.** It is for what will be measured once, by a few trainings on the full set, so it has three parts: the
real images that the gain is read off (their variance within classes); the trainings that it is read off; the trainings
of the run that will measure it. Folds share training images, so a mean over folds could vary more than that: how often
the interval holds what is measured `python -m benchmarks.tuning --coverage` simulates (docs/tuning.md).

A fold also has fewer real images than the run, by a share s, and generated ones gain more beside fewer. How much more
cannot be read off; at most, it is taken, in inverse proportion: what is estimated at g may be (1 - s) g beside all real
images, so the interval reaches that much further towards nothing. With five folds s is a fifth, in a class of two
images a half. What the interval cannot know is that a pilot has fewer images than the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from augcond.evaluation.intervals import Paired
from augcond.evaluation.results import LEVEL, REAL_ONLY, Spread
from augcond.evaluation.statistics import half_widths, moderated
from augcond.evaluation.tuning import Gain

HALVINGS = 16
"""Random halvings of the real images that picking and reading are averaged over."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Who classified which real image right, over the folds, for one set of candidates.

    Attributes:
        labels: of the judged images, (N,), from 0 to C - 1; at least two of each.
        folds: the fold that holds each out, (N,).
        real: of real images alone, bool, (T, N), by training.
        made: of each candidate, the same.
    """

    labels: np.ndarray
    folds: np.ndarray
    real: np.ndarray
    made: Mapping[str, np.ndarray]

    @property
    def left_out(self) -> float:
        """Share of a class's real images that a fold leaves out, the mean over the classes."""
        classes = np.unique(self.labels)
        return float(np.mean([1 / len(np.unique(self.folds[self.labels == label])) for label in classes]))

    @property
    def weights(self) -> np.ndarray:
        """What each image counts in the class mean, (N,)."""
        return self._weights(np.ones(len(self.labels), dtype=bool))

    def _weights(self, on: np.ndarray) -> np.ndarray:
        """Return what each image counts in the class mean over some of them, bool (N,); zero for the others."""
        counts = np.bincount(self.labels[on], minlength=int(self.labels.max()) + 1)
        return np.where(on, 1 / (len(counts) * np.maximum(1, counts)[self.labels]), 0.0)

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The two sides of the images, each bool (N,): the same for all rounds, since they follow from the labels."""
        half = next(_halves(self.labels, np.random.default_rng(0)))
        return half, ~half

    def differences(self, name: str) -> np.ndarray:
        """Return candidate minus real images alone, (T, N)."""
        return np.asarray(self.made[name].astype(float) - self.real)

    def score(self, name: str) -> float:
        """Return the gain of a candidate over all its trainings and images."""
        return float((self.differences(name).mean(axis=0) * self.weights).sum())

    def side_scores(self, name: str) -> tuple[float, float]:
        """Return the gain of a candidate on each side, over all its trainings."""
        gained = self.differences(name).mean(axis=0)
        one, other = (float(gained @ self._weights(side)) for side in self.sides)
        return one, other


Lines = tuple[Sequence[str], Sequence[str]]
"""Names of the candidates that each side has kept."""


_DIGITS = 9
"""That scores are compared to."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a round comes to.

    Attributes:
        chosen: a candidate, or real images alone.
        best: the same; where that is real images alone, the candidate that scored best.
        gain: an estimate for `best`.
        passed: what scored higher than `chosen` and was passed over; None where nothing did.
        default: what is kept unless another leads it.
    """

    chosen: str
    best: str
    gain: Gain
    passed: str | None
    default: str


def choice_of(folded: Folded, *, later: int, lines: Lines | None = None, default: str = REAL_ONLY) -> Choice:
    """Return what is chosen by all trainings and images, and an estimate of its gain that is free of picking.

    Args:
        folded: all candidates of a round.
        later: trainings of the run that will measure the gain, which the interval is for.
        lines: of the round's candidates; None where no round before has picked any.
        default: what is kept unless another leads it by more than one standard error; in all rounds and lines.
    """
    gained = {name: folded.differences(name).mean(axis=0) for name in folded.made}
    gained[REAL_ONLY] = np.zeros(len(folded.labels))
    # Equals are equal on every machine, in whatever order it adds up.
    scores = {name: round(float(values @ folded.weights), _DIGITS) for name, values in gained.items()}
    leading = [name for name in gained if _leads(gained[name] - gained[default], folded)]
    chosen = max(leading, key=lambda name: scores[name], default=default)
    highest = max(scores, key=lambda name: scores[name])
    best = chosen if chosen != REAL_ONLY else max(folded.made, key=lambda name: scores[name])
    # The default was not picked for what it scored.
    gain = own_gain(folded, best, later=later) if best == default else _fitted_gain(folded, best, later, lines)
    return Choice(chosen, best, gain, highest if scores[highest] > scores[chosen] else None, default)


def _leads(ahead: np.ndarray, folded: Folded) -> bool:
    """Return whether a lead on each image, (N,), is more than one standard error of its class mean."""
    lead = round(float(ahead @ folded.weights), _DIGITS)
    return lead > round(float(np.sqrt(_variance(ahead, folded.labels))), _DIGITS)


def _variance(per_image: np.ndarray, labels: np.ndarray) -> float:
    """Return the variance of a class mean of values, (N,), from the images: that within the classes."""
    classes = int(labels.max()) + 1
    _, images = Paired.of(per_image[None], labels, classes).under(np.full((1, classes), 1 / classes))
    return float(images.own)


def _fitted_gain(folded: Folded, best: str, later: int, lines: Lines | None) -> Gain:
    """Return the gain of what halves pick for their best, each read off the other half; see `choice_of`."""
    names = list(folded.made)
    differences = np.stack([folded.differences(name) for name in names])
    read = np.zeros(len(folded.labels))
    count = np.zeros(len(folded.labels))
    pairings = list(_pairings(folded.real.shape[0]))
    halves: Iterable[tuple[np.ndarray, Sequence[str]]] = (
        ((half, names) for half in _halves(folded.labels, np.random.default_rng(0)))
        if lines is None
        else zip(folded.sides, lines, strict=True)
    )
    for half, line in halves:
        places = np.array([names.index(name) for name in line])
        for picking, reading in pairings:
            weights = np.where(half, folded.weights, 0.0)
            picked = places[(differences[places][:, picking].mean(axis=1) @ weights).round(_DIGITS).argmax()]
            read[~half] += differences[picked][reading].mean(axis=0)[~half]
            count[~half] += 1
    return _gain(folded, read / count, differences, later, names.index(best))


def own_gain(folded: Folded, name: str, *, later: int) -> Gain:
    """Return the gain of one candidate by all its trainings and images, as if it had been the only one."""
    names = list(folded.made)
    differences = np.stack([folded.differences(each) for each in names])
    place = names.index(name)
    return _gain(folded, differences[place].mean(axis=0), differences, later, place)


ASSUMED_SPREAD = 0.022
"""Standard deviation of one training's paired difference, where there is only one: the median on the built-in world."""


def _gain(folded: Folded, per_image: np.ndarray, differences: np.ndarray, later: int, place: int) -> Gain:
    trainings = differences.shape[1]
    weights = folded.weights
    mean = float((per_image * weights).sum())
    images = _variance(per_image, folded.labels)
    if trainings > 1:
        between = (differences @ weights).var(axis=1, ddof=1)
        spreads = [Spread(trainings, float(value), 0.0, 0.0) for value in between]
        variance, freedom = moderated(spreads[place], [*spreads[:place], *spreads[place + 1 :]])
    else:
        variance, freedom = ASSUMED_SPREAD**2, 100
    reach = half_width_of(images, variance, freedom, trainings=trainings, later=later)
    less = folded.left_out * mean
    return Gain(mean, mean - max(0.0, less) - reach, mean - min(0.0, less) + reach)


def half_width_of(images: float, between: float, freedom: int, *, trainings: int, later: int) -> float:
    """Return how far the interval of an estimated gain reaches to both sides.

    Args:
        images: variance of the mean from the images that it is read off.
        between: variance of one training's gain.
        freedom: degrees of freedom that `between` was measured with.
        trainings: that the gain is read off.
        later: trainings of the run that will measure it.
    """
    scaled = np.array(between * (1 + trainings / later))
    return float(half_widths(scaled, freedom, np.array(0.0), np.array(images), trainings, LEVEL))


def _pairings(trainings: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (those to pick on, those to read off): all halves of the trainings; the only one for both where it is."""
    if trainings == 1:
        yield [0], [0]
        return
    for picking in itertools.combinations(range(trainings), trainings // 2):
        yield list(picking), [number for number in range(trainings) if number not in picking]


def _halves(labels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield random halves of the images, bool (N,), each class halved; both of two halves, one after the other."""
    for _ in range(HALVINGS):
        half = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            # Of an odd number the extra one goes to either side.
            half[members[: (len(members) + int(rng.integers(2))) // 2]] = True
        yield half
        yield ~half


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the rank correlation of two lists of scores; ties share their mean rank; 0 where one is constant."""
    first, second = (_ranks(np.asarray(values, dtype=float)) for values in (one, other))
    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def sentence_of(choice: Choice) -> str:
    """Return what a tuning comes to, for people."""
    gain = choice.gain
    if choice.chosen == REAL_ONLY:
        return (
            f"None of these is shown to help: the best, {choice.best}, is estimated at {gain.text} points over real "
            "images alone. More real images would."
        )
    if gain.low > 0:
        decided = "a gain"
    elif gain.high < 0:
        decided = "a loss"
    elif gain.mean > 0:
        decided = "which may be nothing: the images are too few to decide it"
    else:
        decided = "which is not shown to help or to harm: the images are too few to decide it"
    told = f"{choice.chosen}: an estimated {gain.text} points over real images alone, {decided}."
    if choice.passed is None:
        return told
    led = "real images alone" if choice.default == REAL_ONLY else "the config's own settings"
    return f"{told} {choice.passed} scored higher, but does not lead {led} by more than one standard error."
