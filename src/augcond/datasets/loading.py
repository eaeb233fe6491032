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
from augcond.datasets.splits import subset
from augcond.datasets.verification import verify
from augcond.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.base import Dataset, HeldOut
    from augcond.datasets.benchmarks import Role
    from augcond.datasets.splits import Split
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
    listing = _own_role(config, "train")
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


def list_held_out(config: DataConfig, on: HeldOut) -> Listing | None:
    """Return the validation or test images that `config` names or that its source brings; None where there are none.

    Raises:
        DatasetError: they cannot be listed, or class names do not fit.
    """
    path = config.validation if on == "validation" else config.test
    if path is not None:
        return list_images(config.model_copy(update={"path": path}))
    return _own_role(config, on)


def has_held_out(config: DataConfig, on: HeldOut) -> bool:
    """Tell whether `config` names validation or test images, or its source brings them; nothing is read."""
    if (config.validation if on == "validation" else config.test) is not None:
        return True
    if config.source in BENCHMARK_NAMES:
        return on in get_benchmark(config.source).roles
    if config.huggingface is not None:
        return getattr(config.huggingface, on) is not None
    return config.source == "builtin"


def _own_role(config: DataConfig, role: Role) -> Listing | None:
    """Return the images that the source has of its own for a role; None where it has none."""
    if config.source == "huggingface":
        from augcond.datasets.huggingface import list_huggingface

        section = config.huggingface or HuggingFaceConfig()
        split = getattr(section, role)
        return None if split is None else list_huggingface(config.path, section, split, config.class_names)
    listing: Listing | None = None
    if config.source == "builtin":
        listing = list_builtin("pool" if role == "train" else role)
    elif config.source in BENCHMARK_NAMES and config.path is not None:
        listing = list_benchmark(config.source, config.path, role)
    if listing is None or config.class_names is None:
        return listing
    return replace(listing, class_names=names_for(listing.classes, config.class_names))


def load_held_out(
    config: DataConfig, on: HeldOut, dataset: Dataset, split: Split, *, cache: Path | None = None
) -> Dataset:
    """Return the validation or test images, with the classes of `dataset`.

    Validation images come from `data.validation`, from the split, or from the source itself, such as the built-in world
    or a benchmark; test images from `data.test` or from the source.

    Args:
        config: the `data` section.
        on: which images.
        dataset: all images that the split was drawn from.
        split: names validation images where the config names none.
        cache: see `verify`.

    Raises:
        ConfigError: the config names no such images.
        DatasetError: they cannot be used, or have a class that `dataset` lacks.
    """
    if on == "validation" and config.validation is None and split.validation:
        return subset(dataset, split.validation)
    listing = list_held_out(config, on)
    if listing is None:
        raise no_held_out(config, on)
    loaded = verify(listing, DecodeSettings.of(config), max_bad_share=config.max_bad_share, cache=cache)
    return _with_classes(loaded, dataset, on)


def no_held_out(config: DataConfig, on: HeldOut) -> ConfigError:
    """Return the error that says how to name images to judge on."""
    if config.source in BENCHMARK_NAMES:
        return ConfigError(f"{config.source} has no {on} images of its own: set data.split.validation_per_class")
    hint = " (or data.split.validation_per_class, the number to hold out)" if on == "validation" else ""
    return ConfigError(f"data.{on} is not set: name a {config.source} of real images that are not trained on{hint}")


def check_classes(held_out: Sequence[str], classes: Sequence[str], on: HeldOut) -> None:
    """Check that images to judge on are of the classes that are trained on.

    Raises:
        DatasetError: one is not.
    """
    known = set(classes)
    unknown = [class_id for class_id in held_out if class_id not in known]
    if unknown:
        raise DatasetError(
            f"data.{on} has {len(unknown)} classes that the training data lacks, such as {unknown[0]!r}: "
            "both need the same class names"
        )


def _with_classes(loaded: Dataset, dataset: Dataset, on: HeldOut) -> Dataset:
    """Return `loaded` with labels into the classes of `dataset`."""
    check_classes(loaded.classes, dataset.classes, on)
    places = {class_id: label for label, class_id in enumerate(dataset.classes)}
    images = tuple(replace(image, label=places[loaded.classes[image.label]]) for image in loaded.images)
    rejected = tuple(
        replace(file, label=places[loaded.classes[file.label]]) if 0 <= file.label < len(loaded.classes) else file
        for file in loaded.rejected
    )
    return replace(loaded, classes=dataset.classes, class_names=dataset.class_names, images=images, rejected=rejected)
