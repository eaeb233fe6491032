"""The generator: its name, recipes, weights, and the space that its images take."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from augcond.checks.look import Look, Problem, raised, to_fetch, tried
from augcond.conditioning import check_conditioning
from augcond.errors import AugcondError, ConfigError, GeneratorError, RunError
from augcond.generators import check_options, check_recipes, find_family
from augcond.generators.loading import WeightsOrigin, cached_file, find_pipeline, local_folder
from augcond.progress import format_bytes
from augcond.store import RunFolder
from augcond.store.images import ImageFormat

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import GeneratorConfig, RunConfig
    from augcond.generators import NeededWeights


_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def check_place(look: Look) -> Iterator[Problem]:
    """The run folder: not that of a sweep, which commands would take a run in it for."""
    place = look.config.run
    if RunFolder(place).sweep_path.is_file():
        yield Problem("run", f"{place} holds a sweep: name another folder, as with --set run={place}-run", RunError)


def check_names(look: Look) -> Iterator[Problem]:
    """The generator, and whether it and the recipes go together."""
    config = look.config
    if look.uses_generator:
        yield from raised("generator.name", tried(partial(check_options, config.generator)))
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
        found = tried(partial(_find, weights, config.name))
        yield from raised("weights", found)
        if found is None and cached_file(weights.model, weights.file, weights.revision) is None:
            yield to_fetch("weights", weights.model, GeneratorError)
    if "generate" in look.work and needed and config.model != "builtin":
        import torch

        if not torch.cuda.is_available():
            yield Problem("GPU", "no CUDA device on this machine: the weights are made for one")


def _find(weights: NeededWeights, name: str) -> Path | None:
    """Return the folder of weights, None where they are on the hub.

    Raises:
        ConfigError: they are pickles, or named wrongly.
        GeneratorError: they are not there, or of another kind.
    """
    key = weights.key.removesuffix(".model")
    origin = WeightsOrigin(weights.model, weights.revision, name, key)
    if weights.layout is not None:
        return find_pipeline(origin, weights.layout)
    if weights.file.endswith(_PICKLED):
        raise ConfigError(f"{key}.weights: {weights.file!r} is not a safetensors file; pickled weights are not loaded")
    folder = local_folder(origin, weights.example)
    if folder is not None and not (folder / weights.file).is_file():
        raise GeneratorError(f"{key}.weights: {weights.model} has no file {weights.file}; name one that it has")
    return folder


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


def native_pixels(config: GeneratorConfig) -> int | None:
    """Return the edge length at which a generator makes images; None where only loading it tells."""
    if config.size is not None or config.model == "builtin":
        return config.size
    return find_family(config.name).native_pixels


def stored_bytes(config: RunConfig, images: int) -> tuple[float, float] | None:
    """Return the lowest and highest number of bytes that so many stored images take; None where that is not known."""
    edge = config.output.size or native_pixels(config.generator)
    if not images or edge is None:
        return None
    low, high = BYTES_PER_PIXEL[ImageFormat.resolve(config.output, (edge, edge)).name]
    return images * edge**2 * low, images * edge**2 * high
