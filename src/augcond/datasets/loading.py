"""From a config to a verified dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from augcond.config.data import BENCHMARK_NAMES, HuggingFaceConfig, WebDatasetConfig
from augcond.datasets.base import Dataset, DecodeSettings, Listing
from augcond.datasets.benchmarks import get_benchmark, list_benchmark
from augcond.datasets.builtin import list_builtin
from augcond.datasets.class_names import names_for
from augcond.datasets.folder import list_folder
from augcond.datasets.listfile import list_from_file
from augcond.datasets.verification import verify
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.base import EvaluationPart
    from augcond.datasets.benchmarks import Part
    from augcond.progress import Progress


def load_dataset(config: DataConfig, *, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """Return the verified dataset that `config` names.

    Args:
        config: where the images are and how to decode them.
        cache: see `verify`.
        progress: see `verify`.

    Raises:
        DatasetError: there are no images, or too many that cannot be used, or class names that do not fit.
        ConfigError: a setting is wrong.
    """
    return verify(
        list_images(config),
        DecodeSettings.of(config),
        max_bad_share=config.max_bad_share,
        cache=cache,
        progress=progress,
    )


def list_images(config: DataConfig) -> Listing:
    """Return the images that `config` names to learn from, none of them opened.

    Raises:
        DatasetError: there are none, or class names do not fit.
    """
    listing = _own_part(config, "train")
    if listing is not None:
        return listing
    if config.path is None:
        raise ConfigError(f"data.path: source {config.source!r} needs a path")
    if config.source == "webdataset":
        from augcond.datasets.webdataset import list_webdataset

        return list_webdataset(config.path, config.webdataset or WebDatasetConfig(), config.class_names)
    if config.source == "list":
        return list_from_file(config.path, config.class_names)
    return list_folder(config.path, config.class_names)


def list_held_out(config: DataConfig, part: EvaluationPart) -> Listing | None:
    """Return the validation or test images that `config` names or that its source brings; None where there are none.

    Raises:
        DatasetError: they cannot be listed, or class names do not fit.
    """
    path = config.validation if part == "validation" else config.test
    if path is not None:
        return list_images(config.model_copy(update={"path": path}))
    return _own_part(config, part)


def has_held_out(config: DataConfig, part: EvaluationPart) -> bool:
    """Tell whether `config` names validation or test images, or its source brings them; nothing is read."""
    if (config.validation if part == "validation" else config.test) is not None:
        return True
    if config.source in BENCHMARK_NAMES:
        return part in get_benchmark(config.source).parts
    if config.huggingface is not None:
        return getattr(config.huggingface, part) is not None
    return config.source == "builtin"


def _own_part(config: DataConfig, part: Part) -> Listing | None:
    """Return a part that the source has of its own; None where it has no parts, or not this one."""
    if config.source == "huggingface":
        from augcond.datasets.huggingface import list_huggingface

        section = config.huggingface or HuggingFaceConfig()
        split = getattr(section, part)
        return None if split is None else list_huggingface(config.path, section, split, config.class_names)
    listing: Listing | None = None
    if config.source == "builtin":
        listing = list_builtin("pool" if part == "train" else part)
    elif config.source in BENCHMARK_NAMES and config.path is not None:
        listing = list_benchmark(config.source, config.path, part)
    if listing is None or config.class_names is None:
        return listing
    return replace(listing, class_names=names_for(listing.classes, config.class_names))
