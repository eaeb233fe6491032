"""What a run will make and take, and what is missing: the dry run, and the plan with a few images timed.

The dry run makes, decodes and fetches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, get_args

import numpy as np

from augcond.amounts import images_to_make
from augcond.checks import EVERYTHING, Look, Problem, check_run
from augcond.checks.generation import BYTES_SOURCE, check_disk, stored_bytes
from augcond.datasets import Dataset
from augcond.datasets.base import HeldOut
from augcond.datasets.benchmarks import BENCHMARK_NAMES, get_benchmark
from augcond.datasets.benchmarks.imagenet_lt import official_counts
from augcond.datasets.decoding import available_cores
from augcond.engine import BatchSize, Materials
from augcond.engine.feeding import Feeding
from augcond.engine.rows import Making
from augcond.engine.work import torch_threads
from augcond.errors import AugcondError, GeneratorError
from augcond.experiments.rates import Cost, generation_costs, training_costs
from augcond.experiments.sweep import cells_of, point_name, refuse_run
from augcond.guest import as_guest
from augcond.planning import Plan

if TYPE_CHECKING:
    from augcond.config import EngineConfig, RunConfig
    from augcond.experiments.axes import Axis
    from augcond.store.shards import ShardRow


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will make and take.

    Attributes:
        classes: number of classes; None where the data are missing and nothing else tells it.
        real: number of real training images of the split; None likewise.
        images: number of images to make by recipe; empty where it cannot be told.
        counted: what the numbers are from: `data`, or `official counts` where the data are missing.
        held_out: number of validation and test images, by on.
        costs: GPU hours by published rates.
        unrated: stages for whose model no rate is published.
        disk: lowest and highest size of the images in bytes; None where it cannot be told.
        disk_source: where the bytes per pixel are from.
        missing: what is wrong or not there yet.
    """

    classes: int | None
    real: int | None
    images: dict[str, int]
    counted: str
    held_out: dict[str, int]
    costs: tuple[Cost, ...]
    unrated: tuple[str, ...]
    disk: tuple[float, float] | None
    disk_source: str
    missing: tuple[Problem, ...]

    @property
    def total(self) -> int:
        """Number of images to make."""
        return sum(self.images.values())


def forecast(config: RunConfig) -> Forecast:
    """Return what a run of `config` will make and take, and what is missing. No image is decoded, nothing is fetched.

    Counts are of the images that are listed and there; a run counts only those that decode.
    """
    look = Look(config, EVERYTHING)
    missing = check_run(look)
    counts = _counted(look)
    images: dict[str, int] = {}
    if counts.amount is not None:
        images = {recipe: counts.amount for recipe in config.conditioning.recipe_names}
    if counts.origin != "data":
        missing += check_disk(config, sum(images.values()))
    costs: dict[str, tuple[Cost, ...]] = {"generation": (), "training": ()}
    if images:
        costs["generation"] = generation_costs(config.generator, config.conditioning, images)
        if counts.real is not None:
            costs["training"] = training_costs(config, look.arms_or_none, counts.real, images)
    held_out = {on: look.held_out(on) for on in reversed(get_args(HeldOut))}
    return Forecast(
        classes=counts.classes,
        real=counts.real,
        images=images,
        counted=counts.origin,
        held_out={on: len(found.images) for on, found in held_out.items() if isinstance(found, Dataset)},
        costs=(*costs["generation"], *costs["training"]),
        unrated=tuple(stage for stage, found in costs.items() if images and not found),
        disk=stored_bytes(config, sum(images.values())),
        disk_source=BYTES_SOURCE,
        missing=tuple(missing),
    )


@dataclass(frozen=True, slots=True)
class SweepForecast:
    """What the runs of a sweep will make and take, of those that make images.

    Attributes:
        name: which values of the axes they have; their folder is called by it.
        seeds: how many runs are alike but for their seeds.
        each: what one of them will make and take.
    """

    name: str
    seeds: int
    each: Forecast


def forecast_sweep(config: RunConfig, axes: Sequence[Axis], seeds: int, trainings: int = 1) -> list[SweepForecast]:
    """Return what a sweep will make and take; see `cells_of` for its arguments, and `forecast`.

    Raises:
        ConfigError: as `cells_of` does.
        RunError: `config.run` holds a run.
    """
    refuse_run(config.run)
    points: dict[str, list[RunConfig]] = {}
    for cell in cells_of(config, axes, seeds, trainings):
        if any(arm.recipe for arm in cell.config.training.arms or ()):
            points.setdefault(point_name(cell.point), []).append(cell.config)
    return [SweepForecast(name, len(runs), forecast(runs[0])) for name, runs in points.items()]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Classes, real training images, and images to make of each recipe; None where they cannot be told."""

    classes: int | None
    real: int | None
    amount: int | None
    origin: str


def _counted(look: Look) -> _Counts:
    """Return the counts of the data, or where they are missing the official ones of a benchmark."""
    real, amounts = look.real, look.amounts
    if not isinstance(real, AugcondError) and not isinstance(amounts, AugcondError):
        return _Counts(len(real.pool.classes), len(real.sources.images), sum(amounts), "data")
    data, plan = look.config.data, look.config.plan
    if data.source not in BENCHMARK_NAMES:
        return _Counts(None, None, None, "nothing")
    classes = get_benchmark(data.source).classes
    counts: list[int] | None = None
    if data.split is not None and data.split.name == "few-shot" and data.split.k is not None:
        counts = [data.split.k] * classes
    elif data.source == "imagenet-lt" and (data.split is None or data.split.name == "all"):
        held_out = 0 if data.split is None else data.split.validation_per_class
        counts = [count - held_out for count in official_counts()]
    known = counts is not None if plan.fill_to is not None else isinstance(plan.per_class, int)
    # A number for every class, or to fill up to, asks for no class by name.
    asked = sum(images_to_make(plan, [""] * classes, counts or [0] * classes)) if known else None
    amount = None if asked is None else plan.oversample * asked
    return _Counts(classes, None if counts is None else sum(counts), amount, "official counts")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan will cost on this machine.

    Attributes:
        images: number of images.
        timed_images: number of images that were made to find out.
        seconds_per_image: in batches of the configured size, without loading.
        bytes_per_image: as stored, without provenance columns.
        shard_size: number of images of a shard.
        batch_size: of a batch.
    """

    images: int
    timed_images: int
    seconds_per_image: float
    bytes_per_image: float
    shard_size: int
    batch_size: int

    @property
    def seconds(self) -> float:
        """Seconds for the whole plan with one process."""
        return self.images * self.seconds_per_image

    @property
    def bytes(self) -> float:
        """Bytes for the whole plan."""
        return self.images * self.bytes_per_image

    @property
    def shard_seconds(self) -> float:
        """Seconds that a shard takes, which is what is lost at most when a job is stopped."""
        return self.shard_size * self.seconds_per_image

    @property
    def better_shard_size(self) -> int | None:
        """Number of images, in whole batches, that take no more than `LONGEST_SHARD`; None where a shard does not."""
        if self.shard_seconds <= LONGEST_SHARD:
            return None
        batches = int(LONGEST_SHARD / self.seconds_per_image) // self.batch_size
        better = max(1, batches) * self.batch_size
        return better if better < self.shard_size else None


LONGEST_SHARD = 300.0
"""Seconds; where a shard takes longer, a smaller one is proposed."""


@as_guest
def estimate_cost(plan: Plan, materials: Materials, engine: EngineConfig) -> Estimate:
    """Make the first two batches of the plan as `generate` does, time the second, and scale it up to the whole plan.

    While the second is made, the first one's images are encoded. The rows of the second were readied while the first
    was made, which takes longer than others do: so the time is at least what the processors had to do.

    Raises:
        GeneratorError: none of these images could be made.
    """
    size = engine.batch_size
    rows = list(islice(plan.rows(), 2 * size))
    if len(rows) < 2 * size:
        rows = 2 * rows[:size]  # the only batch, or the only one that is whole
    size = len(rows) // 2
    made: list[ShardRow] = []
    with Feeding(materials, engine.feeding_threads, engine.max_memory_gb) as feeding, torch_threads(engine.threads):
        processor, ahead, batches = time.process_time(), feeding.ahead(rows), BatchSize(size)
        makings = [Making(size, feeding, ahead, batches, made.extend, lambda failed: False) for _ in range(2)]
        for making in makings:
            started = time.perf_counter()
            while not making.complete:
                making.step()
        for making in makings:
            making.settle(leave=0)
        seconds = (time.perf_counter() - started) / size
        processor = (time.process_time() - processor) / len(rows)
    sizes = [len(row.image) for row in made if row.image is not None]
    if not sizes:
        raise GeneratorError(f"none of the first {size} images could be made: {made[0].error}")
    return Estimate(
        images=len(plan),
        timed_images=size,
        seconds_per_image=max(seconds, processor / available_cores()),
        bytes_per_image=sum(sizes) / len(sizes),
        shard_size=min(len(plan), engine.shard_size),
        batch_size=engine.batch_size,
    )


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """Real and planned images of one class."""

    class_id: str
    class_name: str
    real: int
    planned: int


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What `augcond plan` shows.

    Attributes:
        classes: counts per class, in label order.
        recipes: the recipes of the plan.
        total: rows of the plan.
        seconds: estimated, with one process; None without timing.
        bytes: estimated size of the images; None without timing.
        timed_images: number of images made for the estimate.
        shard_size: number of images of a shard.
        shard_seconds: estimated, that a shard takes: what a job that is stopped loses at most; None without timing.
        better_shard_size: one that takes five minutes, where `shard_size` takes longer; else None.
        warnings: what looks wrong, each with what to do.
    """

    classes: tuple[ClassPlan, ...]
    recipes: tuple[str, ...]
    total: int
    seconds: float | None
    bytes: float | None
    timed_images: int
    shard_size: int | None
    shard_seconds: float | None
    better_shard_size: int | None
    warnings: tuple[str, ...] = ()


def summarize_plan(
    plan: Plan, dataset: Dataset, estimate: Estimate | None, warnings: Sequence[str] = ()
) -> PlanSummary:
    """Return counts per class, `warnings` and, where an estimate was made, time and disk."""
    planned = np.bincount(plan.table["label"].to_numpy(), minlength=len(dataset.classes)).tolist()
    classes = zip(dataset.classes, dataset.class_names, dataset.counts(), planned, strict=True)
    return PlanSummary(
        classes=tuple(ClassPlan(*values) for values in classes),
        recipes=tuple(plan.table["recipe"].unique().to_pylist()),
        total=len(plan),
        seconds=estimate.seconds if estimate else None,
        bytes=estimate.bytes if estimate else None,
        timed_images=estimate.timed_images if estimate else 0,
        shard_size=estimate.shard_size if estimate else None,
        shard_seconds=estimate.shard_seconds if estimate else None,
        better_shard_size=estimate.better_shard_size if estimate else None,
        warnings=(*dataset.warnings, *warnings),
    )
