"""From a config to a verified dataset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from augcond import registry
from augcond.datasets.base import Dataset, DatasetReader, DecodeSettings, Listing
from augcond.datasets.class_names import names_for
from augcond.datasets.splits import subset
from augcond.datasets.suspicions import comparable, lonely
from augcond.datasets.verification import verify
from augcond.errors import ConfigError, DatasetError
from augcond.files import user_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.base import HeldOut, Role
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
        cache=_caches(config, "train", cache),
        progress=progress,
    )


def _caches(config: DataConfig, role: Role, own: Path | None) -> tuple[Path, ...]:
    """Return where it is kept what decoding found: in the run, if there is one, and in the user's cache.

    There commands find it that have no run, and runs that begin.
    """
    path = {"train": config.path, "validation": config.validation, "test": config.test}[role]
    place = json.dumps([config.source, None if path is None else str(path.resolve()), role])
    name = hashlib.sha256(place.encode()).hexdigest()[:32]
    return *([] if own is None else [own]), user_cache() / "decoded" / f"{name}.parquet"


def register_reader(name: str, target: str) -> None:
    """Make a data set reader of your own known under `name`.

    Args:
        name: what configs call it, as `data.source`.
        target: `module:object` of a `DatasetReader`, or of a callable that takes a `DataConfig` and returns a
            `Listing`; imported on first use.

    Raises:
        ConfigError: the name is taken by another target, or `target` is not `module:object`.
    """
    registry.datasets.register(name, target)


class _PlainReader(DatasetReader):
    """A callable that lists images to learn from; held-out ones are those that a path names."""

    def __init__(self, list_all: Callable[[DataConfig], Listing]) -> None:
        self._list_all = list_all

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        return self._list_all(config)


def find_reader(name: str) -> DatasetReader:
    """Return the data set reader that `data.source` names.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    found = registry.datasets.load(name)
    if isinstance(found, DatasetReader):
        return found
    if isinstance(found, type) or not callable(found):
        raise ConfigError(f"data.source: {name!r} is neither a DatasetReader nor a function that lists images")
    return _PlainReader(found)


def list_images(config: DataConfig) -> Listing:
    """Return the images that `config` names to learn from, none of them opened.

    Raises:
        DatasetError: there are none, or class names do not fit.
    """
    listing = _list_role(config, "train")
    return replace(listing, warnings=(*listing.warnings, *lonely(listing.classes, listing.labels)))


def list_held_out(config: DataConfig, on: HeldOut) -> Listing | None:
    """Return the validation or test images that `config` names or that its source brings; None where there are none.

    Raises:
        DatasetError: they cannot be listed, or class names do not fit.
    """
    path = config.validation if on == "validation" else config.test
    if path is not None:
        return _list_role(config.model_copy(update={"path": path}), "train")
    return _list_role(config, on) if has_held_out(config, on) else None


def has_held_out(config: DataConfig, on: HeldOut) -> bool:
    """Tell whether `config` names validation or test images, or its source brings them; nothing is read."""
    if (config.validation if on == "validation" else config.test) is not None:
        return True
    return on in find_reader(config.source).held_out(config)


def _list_role(config: DataConfig, role: Role) -> Listing:
    listing = find_reader(config.source).list_images(config, role)
    if config.class_names is None:
        return listing
    names = names_for(listing.classes, config.class_names, several=config.several_names)
    return replace(listing, class_names=names, several_names=config.several_names)


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
    caches = _caches(config, on, cache)
    loaded = verify(listing, DecodeSettings.of(config), max_bad_share=config.max_bad_share, cache=caches)
    return _with_classes(loaded, dataset, on)


def no_held_out(config: DataConfig, on: HeldOut) -> ConfigError:
    """Return the error that says how to name images to judge on."""
    if on not in find_reader(config.source).takes:
        return ConfigError(f"{config.source} has no {on} images of its own: set data.split.validation_per_class")
    hint = " (or data.split.validation_per_class, the number to hold out)" if on == "validation" else ""
    return ConfigError(f"data.{on} is not set: name a {config.source} of real images that are not trained on{hint}")


def check_classes(held_out: Sequence[str], classes: Sequence[str], on: HeldOut) -> None:
    """Check that images to judge on are of the classes that are trained on.

    Raises:
        DatasetError: one is not.
    """
    known = set(map(comparable, classes))
    unknown = [class_id for class_id in held_out if comparable(class_id) not in known]
    if unknown:
        raise DatasetError(
            f"data.{on} has {len(unknown)} classes that the training data lacks, such as {unknown[0]!r}: "
            "both need the same class names"
        )


def classes_with_files(dataset: Dataset) -> list[str]:
    """Return the ids of the classes that hold anything, be it readable or not."""
    held = {image.label for image in dataset.images} | {file.label for file in dataset.rejected}
    return [class_id for label, class_id in enumerate(dataset.classes) if label in held]


def _with_classes(loaded: Dataset, dataset: Dataset, on: HeldOut) -> Dataset:
    """Return `loaded` with labels into the classes of `dataset`."""
    check_classes(classes_with_files(loaded), dataset.classes, on)
    known = {comparable(class_id): label for label, class_id in enumerate(dataset.classes)}
    # An exact name goes before one of another form, where a data set has both.
    known |= {class_id: label for label, class_id in enumerate(dataset.classes)}
    places = [known.get(class_id, known.get(comparable(class_id), -1)) for class_id in loaded.classes]
    images = tuple(replace(image, label=places[image.label]) for image in loaded.images)
    rejected = tuple(
        replace(file, label=places[file.label]) if 0 <= file.label < len(loaded.classes) else file
        for file in loaded.rejected
    )
    return replace(loaded, classes=dataset.classes, class_names=dataset.class_names, images=images, rejected=rejected)
