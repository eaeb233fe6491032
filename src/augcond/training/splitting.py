"""The split of a run: drawn once, saved as RUN/split.json, and what generation is conditioned on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from augcond.datasets.splits import make_split, read_split, save_split, subset
from augcond.errors import RunMismatchError
from augcond.store.commit import write_atomically
from augcond.training.published import leaky_split_config

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import RunConfig
    from augcond.datasets import Dataset
    from augcond.datasets.splits import Split
    from augcond.store import RunFolder


def draw_split(config: RunConfig, pool: Dataset) -> Split:
    """Return the run's split of `pool`; with the leak `fixed-training-subset` that of seed 0, whatever the config's.

    Raises:
        SplitError: a class has too few images.
    """
    if "fixed-training-subset" in config.leaks:
        return make_split(pool, leaky_split_config(config))
    return make_split(pool, config.data.split)


def source_images(config: RunConfig, pool: Dataset, split: Split) -> Dataset:
    """Return the images that generation may be conditioned on: the split's; with `whole-train-sources` all of them."""
    return pool if "whole-train-sources" in config.leaks else subset(pool, split.train)


def split_path(folder: RunFolder) -> Path:
    """Return where a run keeps its split."""
    return folder.path / "split.json"


def settle_split(folder: RunFolder, wanted: Split) -> Split:
    """Return the split of a run, the one that it was generated with, and save it where it is new.

    Raises:
        RunMismatchError: the run has another split than `wanted`.
    """
    path = split_path(folder)
    if path.exists():
        existing = read_split(path)
        if existing != wanted:
            raise RunMismatchError(
                f"{folder.path} was made with another split ({existing.kind}, seed {existing.seed}, "
                f"{len(existing.train)} training images) than this config asks for ({wanted.kind}, seed {wanted.seed}, "
                f"{len(wanted.train)}){_first_difference(existing, wanted)}: name another folder as `run`"
            )
        return existing
    write_atomically(path, save_split(wanted).encode())
    return wanted


def _first_difference(existing: Split, wanted: Split) -> str:
    """Return which training image is gone or new, where the split is drawn alike and the images changed."""
    before, now = set(existing.train), set(wanted.train)
    if gone := sorted(before - now):
        return f"; training image {gone[0]!r} is gone or unreadable"
    if new := sorted(now - before):
        return f"; training image {new[0]!r} is new"
    return ""
