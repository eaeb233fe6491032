"""How many images each class gets, and of which sources where rounds have chosen them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from augcond.conditioning import recipes_of
from augcond.config import ConditioningConfig, PlanConfig
from augcond.datasets import Dataset
from augcond.errors import CorruptRunError, PlanError
from augcond.sealed import read_json

MEND_ROUNDS = "delete it, and its rounds are chosen anew"


@dataclass(frozen=True, slots=True)
class ChosenImages:
    """What one round adds for one class.

    Attributes:
        count: number of images, of each recipe.
        sources: keys of the training images that they are made from.
    """

    count: int
    sources: tuple[str, ...]


Round = Mapping[str, ChosenImages]
"""What one round adds, by class id."""


def read_rounds(config: PlanConfig) -> tuple[Round, ...]:
    """Return the rounds that a plan has beyond what it makes of every class; none where it names no file of them.

    Raises:
        PlanError: the file cannot be read, or does not say how many of what.
    """
    if config.rounds is None:
        return ()
    try:
        content = read_json(config.rounds, MEND_ROUNDS).content
        return tuple(
            {name: ChosenImages(int(about["count"]), tuple(about["sources"])) for name, about in chosen.items()}
            for chosen in content["rounds"]
        )
    except FileNotFoundError as error:
        raise PlanError(
            f"plan.rounds: no file at {config.rounds}: put it back, or leave the key out and choose rounds anew"
        ) from error
    except CorruptRunError as error:
        raise PlanError(f"plan.rounds: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"plan.rounds: {config.rounds} holds no rounds: {error}; {MEND_ROUNDS}") from error


def rounds_content(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return what a file of rounds says, as `read_rounds` reads it."""
    return {"rounds": [{name: asdict(chosen) for name, chosen in one.items()} for one in rounds]}


def images_to_make(config: PlanConfig, classes: Sequence[str], counts: Sequence[int]) -> list[int]:
    """Return how many images each class is to have of each recipe, in label order; what is oversampled comes on top.

    Args:
        config: how many are asked for.
        classes: class ids.
        counts: real training images of each class.

    Raises:
        PlanError: `per_class` or a round names a class that there is not.
    """
    amounts = of_every_class(config, classes, counts)
    for number, one in enumerate(read_rounds(config), start=1):
        for name, chosen in one.items():
            if name not in classes:
                raise PlanError(f"plan.rounds: round {number} names the class {name!r}, which the data does not have")
            amounts[classes.index(name)] += chosen.count
    return amounts


def of_every_class(config: PlanConfig, classes: Sequence[str], counts: Sequence[int]) -> list[int]:
    """Return `images_to_make` without what rounds add."""
    if config.fill_to is not None:
        return [max(0, config.fill_to - count) for count in counts]
    if isinstance(config.per_class, dict):
        for name in config.per_class:
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PlanError(f"plan.per_class names the class {name!r}, which the data does not have{hint}")
        return [config.per_class.get(name, 0) for name in classes]
    return [config.per_class or 0] * len(classes)


def checked_amounts(dataset: Dataset, config: PlanConfig, conditioning: ConditioningConfig) -> list[int]:
    """Return how many images of each recipe the classes of a dataset get, each of which has what they are made of.

    `images_to_make`, as many times as is oversampled.

    Raises:
        PlanError: a class that is to get images has no real image to be conditioned on.
    """
    counts = dataset.counts()
    amounts = images_to_make(config, dataset.classes, counts)
    if any(recipe.source_count(conditioning) for recipe in recipes_of(conditioning)):
        for class_id, amount, count in zip(dataset.classes, amounts, counts, strict=True):
            if amount and not count:
                raise PlanError(
                    f"class {class_id!r} has no readable image to be conditioned on: add one, leave the class out with "
                    "plan.per_class, or use the recipe 'text' alone"
                )
    return [config.oversample * amount for amount in amounts]


def chosen_sources(images: ChosenImages, dataset: Dataset, label: int) -> np.ndarray:
    """Return the positions of the sources of a round, sorted by key.

    Raises:
        PlanError: one is no training image of the class, or there is none.
    """
    places = {image.key: place for place, image in enumerate(dataset.images) if image.label == label}
    unknown = [key for key in images.sources if key not in places]
    if unknown or not images.sources:
        said = f"{unknown[0]!r} is no training image" if unknown else "there are no sources"
        raise PlanError(f"plan.rounds: {said} of the class {dataset.classes[label]!r}")
    return np.array([places[key] for key in sorted(images.sources)], dtype=np.int64)
