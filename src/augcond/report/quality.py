"""How generated images look to an image encoder: metrics per recipe, and the worst misses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from PIL.Image import Image
from torch import Tensor

from augcond.datasets.summary import SHOT_GROUPS
from augcond.evaluation import distribution as metrics
from augcond.evaluation.features import Extractor, extract_features
from augcond.evaluation.fidelity import Fidelity, class_fidelity, real_fidelity
from augcond.report.facts import RunFacts
from augcond.report.judge import Judge, held_out_images
from augcond.report.pictures import SourceImages
from augcond.report.rates import GroupRates, Rate, Rates
from augcond.report.sample import read_rows, real_positions, recipe_positions
from augcond.store.images import decode_stored

SHIFT_QUANTILE = 0.95
"""An image farther from its class's real images than this share of them is from the others counts as shifted."""
_PER_CLASS = 4
"""Real images per class that the class means are made of at least, where there are so many."""
_MOST_REAL = 20_000
_JUDGED = ("margin", "nearest", "shift")
_FEW = 50
"""A recipe with fewer images is still compared with so many real ones."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Features of some images: of real ones, or of those that one recipe made.

    Attributes:
        positions: rows of the plan, or places in the list of real images.
        labels: (N,) int64.
        features: (N, D) float32.
    """

    positions: tuple[int, ...]
    labels: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one sample; None where it is not defined, as for a sample that is too small.

    Attributes:
        name: the recipe, or what the reference is.
        images: size of the sample; of the reference, of a half.
        semantic_error: how many are nearest to another class's mean.
        domain_shift: how many are farther from their class's real images than 95 % of real ones are.
        frechet: see `augcond.evaluation.distribution.frechet_distance`.
        kernel: see `kernel_distance`.
        mmd: see `gaussian_mmd`, with the bandwidth of the real images.
        neighbourhoods: precision, recall, density, coverage.
        pairwise: see `mean_pairwise_distance`.
        vendi: see `vendi_score`.
    """

    name: str
    images: int
    semantic_error: Rate | None
    domain_shift: Rate | None
    frechet: float | None
    kernel: float | None
    mmd: float | None
    neighbourhoods: metrics.Neighbourhoods | None
    pairwise: float | None
    vendi: float | None


@dataclass(frozen=True, slots=True)
class Miss:
    """One generated image that misses its class or its style.

    Attributes:
        position: its row in the plan.
        score: margin by which it is nearer to another class, or distance to its nearest real image.
        looks_like: the class that it is nearer to; None for a miss of style.
    """

    position: int
    score: float
    looks_like: str | None


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of a run.

    Attributes:
        judge: whose features these are.
        judged_reference: what the misses of real images were counted on.
        real_images: size of the real sample that everything is compared with.
        threshold: distance above which an image counts as shifted; None where no class has two real images.
        reference: the real images themselves, half against half, each left out of what it is compared with.
        recipes: one entry per recipe with images.
        groups: misses per recipe and shot group.
        wrong_class: the worst semantic errors of each recipe, worst first.
        wrong_style: the worst domain shifts of each recipe, worst first.
        judged: key, class_id, recipe, nearest_class_id, margin, shift, misses_class, misses_style of every measured
            image.
    """

    judge: Judge
    judged_reference: str
    real_images: int
    threshold: float | None
    reference: Measures
    recipes: tuple[Measures, ...]
    groups: tuple[GroupRates, ...]
    wrong_class: tuple[Miss, ...]
    wrong_style: tuple[Miss, ...]
    judged: pa.Table


def measure_quality(
    facts: RunFacts, sources: SourceImages, judge: Judge, *, samples: int, worst: int = 6
) -> Quality | None:
    """Return what the features of a bounded, stratified sample say; None without generated or real images.

    Args:
        facts: the run.
        sources: opens the real images.
        judge: gives the features.
        samples: images per recipe.
        worst: how many misses of each kind and recipe to list.
    """
    extractor = judge.extract
    real = _real_sample(facts, sources, extractor, samples)
    made = {recipe: _recipe_sample(facts, recipe, extractor, samples) for recipe in facts.recipes}
    made = {recipe: sample for recipe, sample in made.items() if len(sample.positions)}
    if real is None or not made:
        return None
    seen = _unseen(facts, judge, samples) if judge.learned else None
    if seen is None:
        own, labels, on = real_fidelity(real.features, real.labels), real.labels, "training images, each left out"
        on += "; but the judge was trained on them" if judge.learned else ""
    else:
        features, labels, on = seen
        fits = torch.isin(labels, real.labels)
        labels = labels[fits]
        own = class_fidelity(features[fits], labels, real.features, real.labels)
    distances = own.shift[~own.shift.isnan()]
    threshold = float(distances.quantile(SHIFT_QUANTILE)) if len(distances) else None
    judged = {recipe: _judge(sample, real) for recipe, sample in made.items()}
    return Quality(
        judge=judge,
        judged_reference=on,
        real_images=len(real.positions),
        threshold=threshold,
        reference=_reference(real, Rates.of(own, labels, threshold), samples),
        recipes=tuple(_measures(recipe, sample, real, judged[recipe], threshold) for recipe, sample in made.items()),
        groups=tuple(_groups(facts, made, judged, threshold)),
        wrong_class=_wrong_class(facts, made, judged, worst),
        wrong_style=_wrong_style(made, judged, threshold, worst),
        judged=_table(facts, made, judged, threshold),
    )


def _real_sample(facts: RunFacts, sources: SourceImages, extractor: Extractor, samples: int) -> Sample | None:
    listed = facts.folder.read_sources()
    keys, labels = list(listed), [label for label, _ in listed.values()]
    count = min(_MOST_REAL, max(samples, _PER_CLASS * len(facts.classes)))
    kept: list[int] = []

    def images() -> Iterator[Image]:
        for place in real_positions(labels, count):
            image = sources.open(keys[place])
            if image is not None:
                kept.append(place)
                yield image

    features = extract_features(images(), extractor)
    return Sample(tuple(kept), torch.tensor([labels[place] for place in kept]), features) if len(kept) > 1 else None


def _unseen(facts: RunFacts, judge: Judge, samples: int) -> tuple[Tensor, Tensor, str] | None:
    """Return features and labels of real images that a learned judge has not seen, and what they are; None without."""
    held_out = held_out_images(facts, max(samples, _PER_CLASS * len(facts.classes)))
    if held_out is None:
        return None
    kept: list[int] = []
    features = extract_features(held_out.images(kept), judge.extract)
    return (features, torch.tensor(kept), f"{held_out.on} images, which the judge has not seen") if kept else None


def _recipe_sample(facts: RunFacts, recipe: str, extractor: Extractor, samples: int) -> Sample:
    labels: list[int] = []
    positions: list[int] = []

    def images() -> Iterator[Image]:
        # Only features are kept: the encoded images of many recipes would fill the memory.
        for row in read_rows(facts, recipe_positions(facts, recipe, samples)):
            if row.image is not None:
                labels.append(row.label)
                positions.append(row.position)
                yield decode_stored(row.image)

    features = extract_features(images(), extractor)
    return Sample(tuple(positions), torch.tensor(labels, dtype=torch.int64), features)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Fidelity of those rows of a sample whose class has a real image; `rows` are their places in the sample."""

    rows: Tensor
    fidelity: Fidelity


def _judge(sample: Sample, real: Sample) -> _Judged:
    rows = torch.isin(sample.labels, real.labels).nonzero().flatten()
    return _Judged(rows, class_fidelity(sample.features[rows], sample.labels[rows], real.features, real.labels))


def _measures(name: str, sample: Sample, real: Sample, judged: _Judged, threshold: float | None) -> Measures:
    # Classes are judged by all real images, distributions compared between samples of at most one size.
    beside = real.features[: max(len(sample.positions), _FEW)]
    return Measures(
        name=name,
        images=len(sample.positions),
        semantic_error=(rates := Rates.of(judged.fidelity, sample.labels[judged.rows], threshold)).semantic_error,
        domain_shift=rates.domain_shift,
        frechet=_defined(metrics.frechet_distance, beside, sample.features),
        kernel=_defined(metrics.kernel_distance, beside, sample.features),
        mmd=_defined(metrics.gaussian_mmd, beside, sample.features),
        neighbourhoods=_neighbourhoods(beside, sample.features),
        pairwise=_defined(metrics.mean_pairwise_distance, sample.features, sample.labels),
        vendi=_defined(metrics.vendi_score, sample.features),
    )


def _reference(real: Sample, rates: Rates, samples: int) -> Measures:
    first, second = _halves(real.labels)
    one, other = real.features[first][:samples], real.features[second][:samples]
    return Measures(
        name="real images, half against half",
        images=min(len(one), len(other)),
        semantic_error=rates.semantic_error,
        domain_shift=rates.domain_shift,
        frechet=_defined(metrics.frechet_distance, one, other),
        kernel=_defined(metrics.kernel_distance, one, other),
        mmd=_defined(metrics.gaussian_mmd, one, other),
        neighbourhoods=_neighbourhoods(one, other),
        pairwise=_defined(metrics.mean_pairwise_distance, real.features, real.labels),
        vendi=_defined(metrics.vendi_score, real.features[:samples]),
    )


def _halves(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return every other image of each class, and the others."""
    array = labels.numpy()
    by_label = np.argsort(array, kind="stable")
    rank = np.empty(len(array), dtype=np.int64)
    rank[by_label] = np.arange(len(array)) - np.searchsorted(array[by_label], array[by_label])
    return torch.from_numpy(rank % 2 == 0), torch.from_numpy(rank % 2 == 1)


def _defined(metric: Callable[..., float], *features: Tensor) -> float | None:
    """Return the metric, or None where it is not defined: too few samples, or all of them equal."""
    try:
        return metric(*features)
    except ValueError:
        return None


def _neighbourhoods(real: Tensor, generated: Tensor) -> metrics.Neighbourhoods | None:
    try:
        return metrics.neighbourhoods(real, generated)
    except ValueError:
        return None


def _groups(
    facts: RunFacts, made: dict[str, Sample], judged: dict[str, _Judged], threshold: float | None
) -> Iterator[GroupRates]:
    for recipe, found in judged.items():
        labels = made[recipe].labels[found.rows]
        for group in SHOT_GROUPS:
            members = torch.tensor([entry.label for entry in facts.classes if entry.shot_group == group])
            if not len(members):
                continue
            inside = torch.isin(labels, members)
            own = Fidelity(found.fidelity.margin[inside], found.fidelity.nearest[inside], found.fidelity.shift[inside])
            rates = Rates.of(own, labels[inside], threshold)
            yield GroupRates(recipe, group, rates.semantic_error, rates.domain_shift)


def _table(facts: RunFacts, made: dict[str, Sample], judged: dict[str, _Judged], threshold: float | None) -> pa.Table:
    """Return one row per measured image, in plan order."""
    rows = sorted(
        (made[recipe].positions[row], margin, nearest, shift)
        for recipe, found in judged.items()
        for row, margin, nearest, shift in zip(
            found.rows.tolist(), *(getattr(found.fidelity, name).tolist() for name in _JUDGED), strict=True
        )
    )
    plan = facts.plan.plan.table.select(["key", "label", "recipe"]).take(pa.array([row[0] for row in rows], pa.int64()))
    labels = plan["label"].to_pylist()
    classes = facts.plan.classes
    return pa.table(
        {
            "key": plan["key"].combine_chunks(),
            "class_id": pa.array([classes[label] for label in labels], pa.string()),
            "recipe": plan["recipe"].combine_chunks().cast(pa.string()),
            "nearest_class_id": pa.array([classes[int(row[2])] for row in rows], pa.string()),
            "margin": pa.array([row[1] for row in rows], pa.float64()),
            "shift": pa.array([row[3] for row in rows], pa.float64()),
            "misses_class": pa.array(
                [int(row[2]) != label for row, label in zip(rows, labels, strict=True)], pa.bool_()
            ),
            "misses_style": pa.array([threshold is not None and row[3] > threshold for row in rows], pa.bool_()),
        }
    )


def _wrong_class(facts: RunFacts, made: dict[str, Sample], judged: dict[str, _Judged], worst: int) -> tuple[Miss, ...]:
    misses: list[Miss] = []
    for recipe, found in judged.items():
        own = [
            Miss(made[recipe].positions[row], margin, facts.classes[nearest].class_name)
            for row, margin, nearest in zip(
                found.rows.tolist(), found.fidelity.margin.tolist(), found.fidelity.nearest.tolist(), strict=True
            )
            if margin > 0
        ]
        misses += _worst(own, worst)
    return tuple(misses)


def _wrong_style(
    made: dict[str, Sample], judged: dict[str, _Judged], threshold: float | None, worst: int
) -> tuple[Miss, ...]:
    misses: list[Miss] = []
    for recipe, found in judged.items():
        shifts = zip(found.rows.tolist(), found.fidelity.shift.tolist(), strict=True)
        own = [
            Miss(made[recipe].positions[row], shift, None)
            for row, shift in shifts
            if threshold is not None and shift > threshold
        ]
        misses += _worst(own, worst)
    return tuple(misses)


def _worst(misses: Sequence[Miss], count: int) -> list[Miss]:
    return sorted(misses, key=lambda miss: (-miss.score, miss.position))[:count]
