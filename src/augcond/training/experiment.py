"""What all arms of a run share: the split, the images, and the guards that they passed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from augcond.config_data import BENCHMARK_NAMES
from augcond.datasets import load_dataset
from augcond.datasets.held_out import load_held_out
from augcond.datasets.splits import read_split, save_split, subset
from augcond.errors import ConfigError, RunMismatchError
from augcond.store import RunFolder
from augcond.store.commit import write_atomically
from augcond.training.identity import EvaluationPart
from augcond.training.leaks import check_apart, check_sources
from augcond.training.published import draw_split, leaky_validation_keys
from augcond.training.synthetic import SyntheticRows, read_synthetic

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.datasets import Dataset
    from augcond.datasets.splits import Split


@dataclass(frozen=True, slots=True)
class Experiment:
    """A run that is ready to be trained on.

    Attributes:
        config: the run's.
        folder: the run's.
        pool: all labelled images.
        split: which of them are trained on.
        training: those images.
        rows: the synthetic images; None where the run was not generated.
    """

    config: RunConfig
    folder: RunFolder
    pool: Dataset
    split: Split
    training: Dataset
    rows: SyntheticRows | None

    @property
    def max_bytes(self) -> float:
        """So many bytes of decoded images are held in memory."""
        return self.config.training.max_memory_gb * 1e9


def split_path(folder: RunFolder) -> Path:
    """Return where a run keeps its split."""
    return folder.path / "split.json"


def settle_split(config: RunConfig, folder: RunFolder, pool: Dataset) -> Split:
    """Return the split of a run, the one that it was generated with, and save it where it is new.

    Raises:
        RunMismatchError: the run has another split than the config asks for.
        SplitError: there are too few images.
    """
    wanted = draw_split(config, pool)
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


def load_experiment(config: RunConfig) -> Experiment:
    """Return the run's images after every guard has passed them.

    Raises:
        LeakError: a synthetic image's source is no training image, or training images are held-out images too.
        RunMismatchError: the run has another split.
        RunError: the run is not generated to the end.
        DatasetError: the real images cannot be used.
    """
    folder = RunFolder(config.run)
    folder.create()
    pool = load_dataset(config.data, cache=folder.decoded_path)
    split = settle_split(config, folder, pool)
    training = subset(pool, split.train)
    rows = read_synthetic(folder) if folder.plan_path.exists() else None
    if rows is not None and "whole-train-sources" not in config.leaks:
        hashes = {key: sha256 for key, (_, sha256) in folder.read_sources().items()}
        check_sources(zip(rows.keys, rows.sources, strict=True), training, hashes)
    _check_held_out(config, pool, split, training)
    return Experiment(config, folder, pool, split, training, rows)


def _check_held_out(config: RunConfig, pool: Dataset, split: Split, training: Dataset) -> None:
    parts: tuple[EvaluationPart, ...] = ("test", "validation")
    for part in parts:
        try:
            held_out = _load(config, part, pool, split)
        except ConfigError:
            # This data has no such images: nothing to be kept apart. Who needs them says so.
            continue
        check_apart(training, held_out, part, official=config.data.source in BENCHMARK_NAMES)


def _load(config: RunConfig, part: EvaluationPart, pool: Dataset, split: Split) -> Dataset:
    # Test sets can have tens of thousands of images, and every command looks at them.
    cache = RunFolder(config.run).decoded_path.with_name(f"decoded-{part}.parquet")
    return load_held_out(config.data, part, pool, split, cache=cache)


def evaluation_images(experiment: Experiment, part: EvaluationPart = "test") -> Dataset:
    """Return the images that results are measured on: the test set, or what a leaky protocol takes for one.

    Args:
        experiment: the run.
        part: `test`; or `validation`, to choose on.

    Raises:
        ConfigError: the config names no such images.
        LeakError: some of them are training images.
    """
    config, pool = experiment.config, experiment.pool
    if "fixed-training-subset" in config.leaks:
        return subset(pool, leaky_validation_keys(config, pool))
    images = _load(config, part, pool, experiment.split)
    check_apart(experiment.training, images, part, official=config.data.source in BENCHMARK_NAMES)
    return images
