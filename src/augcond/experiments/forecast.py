"""The dry run: what a run will make and take, and what is missing, without making or decoding anything."""

from __future__ import annotations

import importlib.util
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from augcond.assets import WORLD
from augcond.config import AdapterConfig, PriorConfig
from augcond.config.data import BENCHMARK_NAMES
from augcond.datasets import Dataset, ImageRecord, StatReader
from augcond.datasets.benchmarks import get_benchmark
from augcond.datasets.benchmarks.imagenet_lt import official_counts
from augcond.datasets.loading import has_held_out, list_held_out, list_images
from augcond.datasets.splits import draw_split, source_images
from augcond.engine import BatchSize, Materials, generate_rows
from augcond.errors import AugcondError, GeneratorError
from augcond.experiments.rates import BYTES_SOURCE, Cost, generation_costs, native_pixels, stored_bytes, training_costs
from augcond.generators.adapters import DEFAULT_WEIGHTS
from augcond.planning import Plan, images_to_make
from augcond.progress import format_bytes
from augcond.store.images import ImageFormat
from augcond.training.arms import arms_of

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.datasets import Listing
    from augcond.datasets.base import HeldOut


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that the run needs and that is not there.

    Attributes:
        what: data, test images, weights, classifier weights, extra, GPU or disk.
        detail: what is wrong and what to do about it.
    """

    what: str
    detail: str


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
        missing: what is not there yet.
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
    missing: tuple[Missing, ...]

    @property
    def total(self) -> int:
        """Number of images to make."""
        return sum(self.images.values())


@dataclass(frozen=True, slots=True)
class _Counts:
    classes: int | None
    real: int | None
    per_recipe: int | None
    origin: str


def forecast(config: RunConfig) -> Forecast:
    """Return what a run of `config` will make and take, and what is missing. No image is decoded, nothing is fetched.

    Counts are of the images that are listed and there; a run counts only those that decode.

    Raises:
        ConfigError: the config's arms do not fit its recipes.
    """
    missing: list[Missing] = []
    arms = arms_of(config)
    counts = _counts(config, missing)
    images: dict[str, int] = {}
    if counts.per_recipe is not None:
        images = {recipe: counts.per_recipe for recipe in config.conditioning.recipe}
    held_out = _held_out(config, missing)
    generation = generation_costs(config.generator, images, config.conditioning.strength) if images else ()
    training = training_costs(config, arms, counts.real, images) if counts.real is not None and images else ()
    disk = _disk(config, sum(images.values()))
    _check_generator(config, missing)
    _check_classifier(config, missing)
    _check_machine(config, disk, missing)
    unrated = [stage for stage, costs in (("generation", generation), ("training", training)) if images and not costs]
    return Forecast(
        classes=counts.classes,
        real=counts.real,
        images=images,
        counted=counts.origin,
        held_out=held_out,
        costs=(*generation, *training),
        unrated=tuple(unrated),
        disk=disk,
        disk_source=BYTES_SOURCE,
        missing=tuple(missing),
    )


def _counts(config: RunConfig, missing: list[Missing]) -> _Counts:
    """Count the real images and those to make; from the official counts where the data are missing."""
    try:
        pool = _as_dataset(list_images(config.data), missing)
        sources = source_images(config, pool, draw_split(config, pool))
        amounts = images_to_make(sources, config.plan)
    except AugcondError as error:
        missing.append(Missing("data", str(error)))
        return _official(config)
    return _Counts(len(pool.classes), len(sources.images), sum(amounts), "data")


def _as_dataset(listing: Listing, missing: list[Missing]) -> Dataset:
    """Return the listed images that are there as if they had been decoded."""
    reader = listing.reader
    gone: list[str] = []
    if isinstance(reader, StatReader):
        gone = [key for key in listing.keys if reader.stat(key) is None]
    if gone:
        shown = ", ".join(gone[:3])
        missing.append(Missing("data", f"{len(gone):,} of {len(listing.keys):,} listed images, such as {shown}"))
    absent = set(gone)
    images = tuple(
        ImageRecord(key, label, 0, 0, "")
        for key, label in zip(listing.keys, listing.labels, strict=True)
        if key not in absent
    )
    return Dataset(listing.classes, listing.class_names, images, listing.rejected, reader)


def _official(config: RunConfig) -> _Counts:
    """Return what the official sizes of a benchmark tell of a run whose data are missing."""
    unknown = _Counts(None, None, None, "nothing")
    if config.data.source not in BENCHMARK_NAMES:
        return unknown
    classes = get_benchmark(config.data.source).classes
    split, plan = config.data.split, config.plan
    counts: list[int] | None = None
    if split is not None and split.name == "few-shot" and split.k is not None:
        counts = [split.k] * classes
    elif config.data.source == "imagenet-lt" and (split is None or split.name == "all"):
        held_out = 0 if split is None else split.validation_per_class
        counts = [count - held_out for count in official_counts()]
    real = None if counts is None else sum(counts)
    if plan.fill_to is not None:
        per_recipe = None if counts is None else sum(max(0, plan.fill_to - count) for count in counts)
    elif isinstance(plan.per_class, dict):
        per_recipe = sum(plan.per_class.values())
    else:
        per_recipe = (plan.per_class or 0) * classes
    return _Counts(classes, real, per_recipe, "official counts")


def _held_out(config: RunConfig, missing: list[Missing]) -> dict[str, int]:
    counts: dict[str, int] = {}
    both: tuple[HeldOut, ...] = ("validation", "test")
    for on in both:
        if not has_held_out(config.data, on):
            if on == "test":
                missing.append(Missing("test images", "data.test is not set: nothing to measure results on"))
            continue
        try:
            listing = list_held_out(config.data, on)
        except AugcondError as error:
            # A missing benchmark was reported with its training images.
            if not any(entry.what == "data" for entry in missing):
                missing.append(Missing(f"{on} images", str(error)))
            continue
        if listing is not None:
            counts[on] = len(listing.keys)
    return counts


def _disk(config: RunConfig, images: int) -> tuple[float, float] | None:
    pixels = native_pixels(config.generator)
    edge = config.output.size or pixels
    if not images or edge is None:
        return None
    image_format = ImageFormat.resolve(config.output, (edge, edge))
    return stored_bytes(images, edge, image_format.name)


def _check_generator(config: RunConfig, missing: list[Missing]) -> None:
    generator = config.generator
    if generator.name == "fake":
        return
    if generator.model == "builtin":
        if not (WORLD / "checkpoint" / "model_index.json").is_file():
            missing.append(Missing("weights", "the built-in checkpoint is not there: reinstall augcond"))
    else:
        _check_weights("generator.model", generator.model, generator.revision, "model_index.json", missing)
    if generator.name in DEFAULT_WEIGHTS:
        adapter = generator.adapter or AdapterConfig()
        weights = adapter.weights or DEFAULT_WEIGHTS[generator.name]
        _check_weights("generator.adapter.model", adapter.model, adapter.revision, weights, missing)
    if generator.name == "kandinsky-2.2":
        prior = generator.prior or PriorConfig()
        _check_weights("generator.prior.model", prior.model, prior.revision, "model_index.json", missing)


def _check_weights(key: str, model: str, revision: str | None, file: str, missing: list[Missing]) -> None:
    """Report where `file` is neither in the local folder `model` nor in the cache of the hub id `model`."""
    if Path(model).is_absolute():
        if not (Path(model) / file).is_file():
            missing.append(Missing("weights", f"{key}: no {file} in {model}"))
    elif not _is_cached(model, file, revision):
        missing.append(
            Missing(
                "weights", f"{model} is not in the local cache: fetched from the hub at first use (hf download {model})"
            )
        )


def _check_classifier(config: RunConfig, missing: list[Missing]) -> None:
    training = config.training
    if training.weights == "hub":
        from timm.models import get_pretrained_cfg

        found = get_pretrained_cfg(training.model)
        hub_id = found.hf_hub_id if found is not None else None
        if hub_id is None:
            missing.append(Missing("classifier weights", f"timm has no weights for training.model {training.model!r}"))
        elif not _is_cached(hub_id, "model.safetensors", training.revision):
            missing.append(
                Missing("classifier weights", f"{hub_id} is not in the local cache: fetched from the hub at first use")
            )
    elif training.weights is not None and not Path(training.weights).is_file():
        missing.append(Missing("classifier weights", f"training.weights: no file at {training.weights}"))


def _is_cached(repository: str, file: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(repository, file, revision=revision), str)
    except HFValidationError:
        return False


def _check_machine(config: RunConfig, disk: tuple[float, float] | None, missing: list[Missing]) -> None:
    if config.data.source in BENCHMARK_NAMES:
        absent = [name for name in get_benchmark(config.data.source).modules if importlib.util.find_spec(name) is None]
        missing += (Missing("extra", f"{name} is not installed: pip install 'augcond[benchmarks]'") for name in absent)
    if config.generator.name != "fake" and config.generator.model != "builtin":
        import torch

        if not torch.cuda.is_available():
            missing.append(Missing("GPU", "no CUDA device on this machine: the weights are made for one"))
    if disk is not None:
        folder = next(path for path in (config.run, *config.run.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if free < disk[1]:
            missing.append(
                Missing("disk", f"{format_bytes(free)} free at {folder}; the images take up to {format_bytes(disk[1])}")
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan will cost on this machine.

    Attributes:
        images: number of images.
        timed_images: number of images that were made to find out.
        seconds_per_image: in batches of the configured size, without loading.
        bytes_per_image: as stored, without provenance columns.
    """

    images: int
    timed_images: int
    seconds_per_image: float
    bytes_per_image: float

    @property
    def seconds(self) -> float:
        """Seconds for the whole plan with one process."""
        return self.images * self.seconds_per_image

    @property
    def bytes(self) -> float:
        """Bytes for the whole plan."""
        return self.images * self.bytes_per_image


def estimate_cost(plan: Plan, materials: Materials, batch_size: int) -> Estimate:
    """Make the first batch of the plan twice, time the second, and scale it up to the whole plan.

    Raises:
        GeneratorError: none of these images could be made.
    """
    rows = [row for _, row in zip(range(batch_size), plan.rows(), strict=False)]
    generate_rows(rows, materials, BatchSize(batch_size))
    started = time.perf_counter()
    made = generate_rows(rows, materials, BatchSize(batch_size))
    seconds = time.perf_counter() - started
    sizes = [len(row.image) for row in made if row.image is not None]
    if not sizes:
        raise GeneratorError(f"none of the first {len(rows)} images could be made: {made[0].error}")
    return Estimate(len(plan), len(rows), seconds / len(rows), sum(sizes) / len(sizes))


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
    """

    classes: tuple[ClassPlan, ...]
    recipes: tuple[str, ...]
    total: int
    seconds: float | None
    bytes: float | None
    timed_images: int


def summarize_plan(plan: Plan, dataset: Dataset, estimate: Estimate | None) -> PlanSummary:
    """Return counts per class and, where an estimate was made, time and disk."""
    planned = np.bincount(plan.table["label"].to_numpy(), minlength=len(dataset.classes)).tolist()
    classes = zip(dataset.classes, dataset.class_names, dataset.counts(), planned, strict=True)
    return PlanSummary(
        classes=tuple(ClassPlan(*values) for values in classes),
        recipes=tuple(plan.table["recipe"].unique().to_pylist()),
        total=len(plan),
        seconds=estimate.seconds if estimate else None,
        bytes=estimate.bytes if estimate else None,
        timed_images=estimate.timed_images if estimate else 0,
    )
