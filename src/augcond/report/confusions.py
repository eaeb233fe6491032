"""What each arm takes for what: confusions, how they differ from the first arm's, and the test images behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from augcond.datasets import DecodeSettings, decode
from augcond.datasets.loading import list_held_out
from augcond.errors import AugcondError, CorruptRunError, ImageError
from augcond.evaluation.predictions import read_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from augcond.config import RunConfig
    from augcond.evaluation.metrics import Predictions
    from augcond.evaluation.results import ArmResult, Results, SeedResult
    from augcond.report.facts import RunFacts
    from augcond.report.pictures import Thumbnails
    from augcond.store import RunFolder

MOST_CLASSES = 30
"""Up to so many classes have a matrix on the page; beyond, the cells that matter most are listed."""
_MOST_PAIRS, _TOLD = 60, 15
_PER_CELL, _MOST_IMAGES = 6, 300


@dataclass(frozen=True, slots=True)
class Pair:
    """Test images of one class taken for another, as means over the seeds.

    Attributes:
        true: label.
        predicted: label.
        images: of each arm, in the order of the results.
    """

    true: int
    predicted: int
    images: tuple[float, ...]

    @property
    def changes(self) -> tuple[float, ...]:
        """What each later arm has more than the first."""
        return tuple(count - self.images[0] for count in self.images[1:])


@dataclass(frozen=True, slots=True)
class Confusions:
    """What the page shows of errors.

    Attributes:
        told: the pairs that are confused most, or that change most, for the table.
        whole: whether the page has the whole matrix.
        data: plain values for the page's script.
        problem: why test images cannot be shown; empty where they can.
        images: how many test images are shown.
    """

    told: tuple[Pair, ...]
    whole: bool
    data: dict[str, object]
    problem: str
    images: int


def mean_matrix(arm: ArmResult) -> dict[tuple[int, int], float]:
    """Return the number of test images by (true, predicted) label, as a mean over the seeds; zeros are left out."""
    found: dict[tuple[int, int], float] = {}
    for seed in arm.seeds:
        for true, predicted, images in seed.confusion:
            found[true, predicted] = found.get((true, predicted), 0.0) + images / len(arm.seeds)
    return found


def view_confusions(facts: RunFacts, results: Results, thumbnails: Thumbnails) -> Confusions:
    """Return what the page shows of errors, and write the pictures of test images that are behind them.

    Args:
        facts: the run.
        results: with the predictions beside them.
        thumbnails: write pictures.
    """
    matrices = [mean_matrix(arm) for arm in results.arms]
    pairs = _pairs(matrices)
    whole = len(results.classes) <= MOST_CLASSES
    listed = pairs if whole else pairs[:_MOST_PAIRS]
    shown, problem = _test_images(facts, results, listed, thumbnails)
    kept = {(pair.true, pair.predicted) for pair in listed}
    data: dict[str, object] = {
        "arms": [arm.name for arm in results.arms],
        "seeds": [len(arm.seeds) for arm in results.arms],
        "classes": list(results.class_names),
        "whole": whole,
        "cells": [
            [[t, p, round(images, 2)] for (t, p), images in sorted(matrix.items()) if whole or (t, p) in kept]
            for matrix in matrices
        ],
        "images": shown,
    }
    return Confusions(tuple(pairs[:_TOLD]), whole, data, problem, len(shown))


def _pairs(matrices: Sequence[dict[tuple[int, int], float]]) -> list[Pair]:
    """Return all errors, those that matter most first: many images, or many more or fewer than the first arm has."""
    cells = {cell for matrix in matrices for cell in matrix if cell[0] != cell[1]}
    pairs = [Pair(true, said, tuple(matrix.get((true, said), 0.0) for matrix in matrices)) for true, said in cells]
    return sorted(pairs, key=lambda pair: (-max(pair.images), pair.true, pair.predicted))


def _test_images(
    facts: RunFacts, results: Results, pairs: Sequence[Pair], thumbnails: Thumbnails
) -> tuple[list[dict[str, object]], str]:
    try:
        said, keys, labels = _said(facts, results)
        opener = open_held_out(facts.config)
    except (AugcondError, ValueError) as error:
        return [], str(error)
    chosen = _chosen(said, labels, pairs)
    shown: list[dict[str, object]] = []
    for place in chosen:
        name = thumbnails.held_out(keys[place], opener)
        if name is not None:
            answers = [[int(seed[place]) for seed in arm] for arm in said]
            shown.append({"image": name, "key": keys[place], "label": int(labels[place]), "said": answers})
    return shown, "" if shown or not chosen else "they can no longer be read"


def _said(facts: RunFacts, results: Results) -> tuple[list[list[np.ndarray]], tuple[str, ...], np.ndarray]:
    """Return what every model says of each test image, by arm and seed, with keys and true labels."""
    said: list[list[np.ndarray]] = []
    first = None
    for arm in results.arms:
        models = []
        for seed in arm.seeds:
            found = predictions_of(facts.folder, seed)
            first = first or found
            if found.keys != first.keys:
                raise ValueError("models were judged on different test images")
            models.append(found.predicted)
        said.append(models)
    if first is None:
        raise ValueError("nothing was judged")
    return said, first.keys, first.labels


def predictions_of(folder: RunFolder, seed: SeedResult) -> Predictions:
    """Return what a model of the run in `folder` says of the test images.

    Raises:
        CorruptRunError: they are not what was written, or lie outside of the run.
    """
    path = folder.path / seed.predictions
    # The name is the results', which may be a stranger's.
    if not path.resolve().is_relative_to(folder.path.resolve()):
        raise CorruptRunError(f"{folder.results_path()} names predictions outside of the run: {seed.predictions}")
    return read_predictions(path, seed.predictions_sha256)


def _chosen(said: list[list[np.ndarray]], labels: np.ndarray, pairs: Sequence[Pair]) -> list[int]:
    """Return the places of the test images to show: of every pair those that most models take for it."""
    votes = [model for arm in said for model in arm]
    chosen: dict[int, None] = {}
    for pair in pairs:
        mine = np.flatnonzero(labels == pair.true)
        counts = np.sum([model[mine] == pair.predicted for model in votes], axis=0)
        for place in mine[np.argsort(-counts, kind="stable")][:_PER_CELL]:
            if counts[mine == place][0]:
                chosen.setdefault(int(place))
        if len(chosen) >= _MOST_IMAGES:
            break
    return list(chosen)[:_MOST_IMAGES]


def open_held_out(config: RunConfig) -> Callable[[str], Image | None]:
    """Return what opens a test image by its key; it returns None for one that is not there or cannot be read.

    Raises:
        DatasetError: there are no test images where the report is made.
        ValueError: the config names none.
    """
    listing = list_held_out(config.data, "test")
    if listing is None:
        raise ValueError("the config names no test images")
    known, reader, settings = frozenset(listing.keys), listing.reader, DecodeSettings.of(config.data)

    def opened(key: str) -> Image | None:
        if key not in known:
            return None
        try:
            return decode(reader.read(key), settings)
        except (ImageError, OSError):
            return None

    return opened
