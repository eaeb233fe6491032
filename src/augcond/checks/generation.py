"""The generator: its name, recipes, weights, and the space that its images take."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from augcond.checks.look import Look, Problem, raised, to_fetch, tried
from augcond.conditioning import check_conditioning
from augcond.config import GeneratorConfig, RunConfig
from augcond.errors import AugcondError, ConfigError, GeneratorError, RunError
from augcond.generators import NeededWeights, check_recipes, find_family
from augcond.generators.loading import WeightsOrigin, cached_file, find_pipeline, local_folder
from augcond.progress import format_bytes
from augcond.store import RunFolder
from augcond.store.images import ImageFormat


def check_names(look: Look) -> Iterator[Problem]:
    """The generator, and whether it and the recipes go together."""
    config = look.config
    if look.uses_generator:
        yield from raised("generator.name", tried(partial(find_family, config.generator.name)))
    if "generate" in look.work:
        yield from raised("conditioning", tried(partial(check_conditioning, config.conditioning)))
        yield from raised("conditioning", tried(partial(check_recipes, config.generator, config.conditioning)))
    if look.trains:
        yield from raised("training.arms", look.arms)


def check_weights(look: Look) -> Iterator[Problem]:
    """The generator's weights: there or to be fetched, of its kind, and no pickles."""
    config = look.config.generator
    family = tried(partial(find_family, config.name))
    if not look.uses_generator or isinstance(family, AugcondError):
        return
    needed = family.weights(config)
    for weights in needed:
        yield from _check_needed(weights, config)
    if "generate" in look.work and needed and config.model != "builtin":
        import torch

        if not torch.cuda.is_available():
            yield Problem("GPU", "no CUDA device on this machine: the weights are made for one")


def _check_needed(needed: NeededWeights, config: GeneratorConfig) -> Iterator[Problem]:
    key = needed.key.removesuffix(".model")
    origin = WeightsOrigin(needed.model, needed.revision, config.name, key)
    if needed.layout is not None:
        folder = tried(partial(find_pipeline, origin, needed.layout))
    elif not needed.file.endswith(".safetensors"):
        detail = f"{key}.weights: {needed.file!r} is not a safetensors file; pickled weights are not loaded"
        yield Problem("weights", detail, ConfigError)
        return
    else:
        folder = tried(partial(local_folder, origin, needed.model))
    yield from raised("weights", folder)
    if folder is None and cached_file(needed.model, needed.file, needed.revision) is None:
        yield to_fetch("weights", needed.model, GeneratorError)
    elif isinstance(folder, Path) and not (folder / needed.file).is_file():
        detail = f"{key}.weights: {needed.model} has no file {needed.file}; name one of its safetensors files"
        yield Problem("weights", detail, GeneratorError)


def check_room(look: Look) -> Iterator[Problem]:
    """Space for the images that the data tell to make."""
    if "generate" in look.work and not isinstance(look.amounts, AugcondError):
        yield from check_disk(look.config, sum(look.amounts) * len(look.config.conditioning.recipe_names))


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


def stored_bytes(config: RunConfig, images: int) -> tuple[float, float] | None:
    """Return the lowest and highest number of bytes that so many stored images take; None where that is not known."""
    generator = config.generator
    native = None if generator.model == "builtin" else find_family(generator.name).native_pixels
    edge = config.output.size or generator.size or native
    if not images or edge is None:
        return None
    low, high = BYTES_PER_PIXEL[ImageFormat.resolve(config.output, (edge, edge)).name]
    return images * edge**2 * low, images * edge**2 * high
