"""How long the units that are left will take, from counts and rates."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.evidence.units import Unit, images_keys

from augcond.amounts import images_to_make
from augcond.config import DataConfig, RunConfig
from augcond.datasets import Dataset, load_dataset
from augcond.datasets.splits import draw_split, source_images


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine does.

    Attributes:
        images: generated per second.
        step: seconds of one training step.
        overhead: seconds that a unit takes besides (loading, judging).
    """

    images: float
    step: float
    overhead: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        units: number of units.
        models: number of trainings.
        steps: optimiser steps of all of them.
        images: to generate; those that units share count once.
    """

    units: int
    models: int
    steps: int
    images: int

    def hours(self, rates: Rates) -> float:
        """Return how long it takes."""
        return (self.images / rates.images + self.steps * rates.step + self.units * rates.overhead) / 3600


def work_of(units: Iterable[Unit]) -> Work:
    """Return what `units` come to."""
    models = steps = images = count = 0
    made: dict[tuple[str, ...], list[int]] = {}
    for unit in units:
        count += 1
        trainings = len(unit.config.training.arms or ()) * len(unit.config.training.training_seeds)
        models += trainings
        steps += trainings * unit.config.training.steps
        if unit.synthetic:
            wanted = _amounts(unit)
            values = unit.config.model_dump(mode="json")
            # What classes that two kinds of prompts name alike have in common is not counted.
            prompts = json.dumps([values["prompt"], values["data"]["class_names"]])
            for key in images_keys(values):
                have = made.setdefault((key, prompts), [0] * len(wanted))
                images += sum(max(0, want - had) for want, had in zip(wanted, have, strict=True))
                have[:] = [max(want, had) for want, had in zip(wanted, have, strict=True)]
    return Work(count, models, steps, images)


@lru_cache(maxsize=4)
def _pool(data: str) -> Dataset:
    return load_dataset(DataConfig.model_validate_json(data))


def pool_of(config: RunConfig) -> Dataset:
    """Return all labelled images of a run, decoded once for all runs that differ in the split alone."""
    return _pool(config.data.model_copy(update={"split": None}).model_dump_json())


def _amounts(unit: Unit) -> list[int]:
    pool = pool_of(unit.config)
    sources = source_images(unit.config, pool, draw_split(unit.config, pool))
    return images_to_make(unit.config.plan, sources.classes, sources.counts())
