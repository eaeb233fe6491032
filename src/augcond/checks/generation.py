"""The generator: its name, recipes, weights, and the space that its images take."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from augcond.checks.look import Look, Problem, raised, to_fetch, tried
from augcond.conditioning import check_conditioning
from augcond.config import AdapterConfig, GeneratorConfig, PriorConfig, RunConfig
from augcond.errors import AugcondError, ConfigError, GeneratorError, RunError
from augcond.generators import check_recipes
from augcond.generators.adapters import DEFAULT_WEIGHTS
from augcond.generators.catalog import CATALOG
from augcond.generators.loading import PipelineFormat, WeightsOrigin, cached_file, find_pipeline, local_folder
from augcond.generators.registry import target_of
from augcond.progress import format_bytes
from augcond.store import RunFolder
from augcond.store.images import ImageFormat


def check_names(look: Look) -> Iterator[Problem]:
    """The generator, and whether it and the recipes go together."""
    config = look.config
    if look.uses_generator:
        yield from raised("generator.name", tried(partial(target_of, config.generator.name)))
    if "generate" in look.work:
        yield from raised("conditioning", tried(partial(check_conditioning, config.conditioning)))
        yield from raised("conditioning", tried(partial(check_recipes, config.generator, config.conditioning)))
    if look.trains:
        yield from raised("training.arms", look.arms)


def check_weights(look: Look) -> Iterator[Problem]:
    """The generator's weights: there or to be fetched, of its kind, and no pickles."""
    config = look.config.generator
    if not look.uses_generator or isinstance(tried(partial(target_of, config.name)), AugcondError):
        return
    for origin, layout in _pipelines(config):
        found = tried(partial(find_pipeline, origin, layout))
        yield from raised("weights", found)
        if found is None:
            yield from _from_hub(origin, "model_index.json")
    if config.name in DEFAULT_WEIGHTS:
        yield from _check_adapter(config)
    if "generate" in look.work and config.model != "builtin" and config.name != "fake":
        import torch

        if not torch.cuda.is_available():
            yield Problem("GPU", "no CUDA device on this machine: the weights are made for one")


def _pipelines(config: GeneratorConfig) -> list[tuple[WeightsOrigin, PipelineFormat]]:
    """Return which checkpoints one of augcond's generators loads, and what they must hold."""
    if config.name not in CATALOG or not CATALOG[config.name].model:
        return []
    module = importlib.import_module(target_of(config.name).partition(":")[0])
    found = [(WeightsOrigin(config.model, config.revision, config.name), module.LAYOUT)]
    if config.name == "kandinsky-2.2":
        prior = config.prior or PriorConfig()
        origin = WeightsOrigin(prior.model, prior.revision, config.name, "generator.prior")
        found.append((origin, module.PRIOR_LAYOUT))
    return found


def _check_adapter(config: GeneratorConfig) -> Iterator[Problem]:
    adapter = config.adapter or AdapterConfig()
    weights = adapter.weights or DEFAULT_WEIGHTS[config.name]
    origin = WeightsOrigin(adapter.model, adapter.revision, config.name, "generator.adapter")
    if not weights.endswith(".safetensors"):
        detail = f"generator.adapter.weights: {weights!r} is not a safetensors file; pickled weights are not loaded"
        yield Problem("weights", detail, ConfigError)
        return
    folder = tried(partial(local_folder, origin, AdapterConfig().model))
    yield from raised("weights", folder)
    if folder is None:
        yield from _from_hub(origin, weights)
    elif isinstance(folder, Path) and not (folder / weights).is_file():
        detail = f"generator.adapter.weights: {adapter.model} has no file {weights}; name one of its safetensors files"
        yield Problem("weights", detail, GeneratorError)


def _from_hub(origin: WeightsOrigin, file: str) -> Iterator[Problem]:
    """Yield that a checkpoint of the hub is not in the local cache."""
    if cached_file(origin.model, file, origin.revision) is None:
        yield to_fetch("weights", origin.model, GeneratorError)


def check_room(look: Look) -> Iterator[Problem]:
    """Space for the images that the data tell to make."""
    if "generate" in look.work and not isinstance(look.amounts, AugcondError):
        yield from check_disk(look.config, sum(look.amounts) * len(look.config.conditioning.recipe))


def check_disk(config: RunConfig, images: int) -> Iterator[Problem]:
    """Yield that so many images need more space than there is beside what the run takes already."""
    size = stored_bytes(config, images)
    if size is None:
        return
    folder = next(path for path in (config.run, *config.run.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    room = free + sum(path.stat().st_size for path in RunFolder(config.run).shards.glob("*.parquet"))
    if room < size[1]:
        low, high = map(format_bytes, size)
        detail = f"{format_bytes(free)} free at {folder}; the images take {low} to {high}"
        yield Problem("disk", detail, RunError if room < size[0] else None)


BYTES_PER_PIXEL = {"webp": (0.10, 0.32), "jpeg": (0.16, 0.36), "png": (1.1, 1.8)}
"""Lowest and highest, at quality 90."""

BYTES_SOURCE = (
    "measured: scikit-learn's two sample photographs, cropped and resized to 256 to 768 pixels, at quality 90; "
    "generated images and other qualities differ"
)

NATIVE_PIXELS = {"stable-unclip": 768, "stable-diffusion": 512, "ip-adapter": 512}
"""Edge length of what the published weights of a generator make."""


def stored_bytes(config: RunConfig, images: int) -> tuple[float, float] | None:
    """Return the lowest and highest number of bytes that so many stored images take; None where that is not known."""
    generator = config.generator
    native = None if generator.model == "builtin" else NATIVE_PIXELS.get(generator.name)
    edge = config.output.size or generator.size or native
    if not images or edge is None:
        return None
    low, high = BYTES_PER_PIXEL[ImageFormat.resolve(config.output, (edge, edge)).name]
    return images * edge**2 * low, images * edge**2 * high
