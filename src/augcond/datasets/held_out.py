"""Real images beside the training images: for validation (to choose on) and for test (to measure on)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from augcond.config.data import BENCHMARK_NAMES
from augcond.datasets.base import DecodeSettings
from augcond.datasets.loading import list_held_out
from augcond.datasets.splits import subset
from augcond.datasets.verification import verify
from augcond.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.base import Dataset, EvaluationPart
    from augcond.datasets.splits import Split


def load_held_out(
    config: DataConfig, part: EvaluationPart, dataset: Dataset, split: Split, *, cache: Path | None = None
) -> Dataset:
    """Return the validation or test images, with the classes of `dataset`.

    Validation images come from `data.validation`, from the split, or from the source itself, such as the built-in world
    or a benchmark; test images from `data.test` or from the source.

    Args:
        config: the `data` section.
        part: which images.
        dataset: all images that the split was drawn from.
        split: names validation images where the config names none.
        cache: see `verify`.

    Raises:
        ConfigError: the config names no such images.
        DatasetError: they cannot be used, or have a class that `dataset` lacks.
    """
    if part == "validation" and config.validation is None and split.validation:
        return subset(dataset, split.validation)
    listing = list_held_out(config, part)
    if listing is None:
        hint = " (or data.split.validation_per_class, the number to hold out)" if part == "validation" else ""
        if config.source in BENCHMARK_NAMES:
            raise ConfigError(f"{config.source} has no {part} images of its own: set data.split.validation_per_class")
        raise ConfigError(
            f"data.{part} is not set: name a {config.source} of real images that are not trained on{hint}"
        )
    loaded = verify(listing, DecodeSettings.of(config), max_bad_share=config.max_bad_share, cache=cache)
    return _with_classes(loaded, dataset, f"data.{part}")


def _with_classes(loaded: Dataset, dataset: Dataset, where: str) -> Dataset:
    """Return `loaded` with labels into the classes of `dataset`."""
    places = {class_id: label for label, class_id in enumerate(dataset.classes)}
    unknown = [class_id for class_id in loaded.classes if class_id not in places]
    if unknown:
        raise DatasetError(
            f"{where} has {len(unknown)} classes that the training data lacks, such as {unknown[0]!r}: "
            "both need the same class names"
        )
    images = tuple(replace(image, label=places[loaded.classes[image.label]]) for image in loaded.images)
    rejected = tuple(
        replace(file, label=places[loaded.classes[file.label]]) if 0 <= file.label < len(loaded.classes) else file
        for file in loaded.rejected
    )
    return replace(loaded, classes=dataset.classes, class_names=dataset.class_names, images=images, rejected=rejected)
