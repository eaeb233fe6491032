"""From a config to a verified dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from augcond.datasets.base import Dataset, DecodeSettings, Listing
from augcond.datasets.builtin import list_builtin
from augcond.datasets.class_names import names_for
from augcond.datasets.folder import list_folder
from augcond.datasets.listfile import list_from_file
from augcond.datasets.verification import verify
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig
    from augcond.datasets.verification import Progress


def load_dataset(
    config: DataConfig, *, cache: Path | None = None, workers: int | None = None, progress: Progress | None = None
) -> Dataset:
    """Return the verified dataset that `config` names.

    Args:
        config: where the images are and how to decode them.
        cache: see `verify`.
        workers: see `verify`.
        progress: see `verify`.

    Raises:
        DatasetError: there are no images, or too many that cannot be used, or class names that do not fit.
        ConfigError: a setting is wrong.
    """
    settings = DecodeSettings(background=config.background, max_pixels=config.max_pixels)
    return verify(
        list_images(config),
        settings,
        max_bad_share=config.max_bad_share,
        cache=cache,
        workers=workers,
        progress=progress,
    )


def list_images(config: DataConfig) -> Listing:
    """Return the images that `config` names, none of them opened.

    Raises:
        DatasetError: there are none, or class names do not fit.
    """
    if config.source == "builtin":
        listing = list_builtin()
        if config.class_names is None:
            return listing
        return replace(listing, class_names=names_for(listing.classes, config.class_names))
    if config.path is None:
        raise ConfigError(f"data.path: source {config.source!r} needs a path")
    if config.source == "list":
        return list_from_file(config.path, config.class_names)
    return list_folder(config.path, config.class_names)
