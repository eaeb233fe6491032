"""Measure one unit: generate, train, judge, and write its record."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarks.evidence.records import FORMAT, Record, pack_labels, read_record, record_path, write_record
from benchmarks.evidence.units import Unit, folder_name, images_keys

from augcond.checks import ensure_ready
from augcond.config import RunConfig
from augcond.config.loading import paths_in
from augcond.evaluation.evaluator import evaluate_models
from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import ArmResult, Results, SeedResult
from augcond.guest import as_guest
from augcond.pipeline import generate
from augcond.screening.screen import screened_out
from augcond.store.folder import RunFolder
from augcond.store.status import run_status
from augcond.training.arms import HeldOut, arms_of
from augcond.training.cards import ModelCard, read_cards
from augcond.training.experiment import load_experiment
from augcond.training.trainer import train_arms

logger = logging.getLogger("benchmarks.evidence")

_LIBRARIES = ("augcond", "torch", "torchvision", "diffusers", "transformers", "timm", "numpy")


class Measuring:
    """Measures units that have no record yet, and takes images from the runs of earlier ones.

    Args:
        results: the folder of the records.
        generator: what every record says of the generator's weights.
    """

    def __init__(self, results: Path, generator: dict[str, str]) -> None:
        self._results = results
        self._generator = generator
        self._made: dict[str, dict[Path, None]] = {}

    def is_done(self, unit: Unit) -> bool:
        """Return whether there is a record of this very unit; its images are remembered then."""
        record = read_record(self._results, unit.name)
        if record is None:
            return False
        if record["fingerprint"] != unit.fingerprint:
            logger.warning("%s was measured with other settings or weights: it is measured again", unit.name)
            # Other settings of the training alone: its images are the same.
            self._remember(unit, unit.config.run.with_name(folder_name(record["fingerprint"])), record["config"])
            return False
        self._remember(unit, unit.config.run, unit.config.model_dump(mode="json"))
        return True

    def measure(self, unit: Unit) -> Record:
        """Measure a unit, or go on with it, and write its record.

        Raises:
            AugcondError: as the stages do.
        """
        config = unit.config
        # A record of other settings decides nothing while its unit is measured again.
        record_path(self._results, unit.name).unlink(missing_ok=True)
        values = config.model_dump(mode="json")
        seconds: dict[str, float] = {}
        images = {"attempted": 0, "failed": 0}
        if unit.synthetic:
            started = time.perf_counter()
            generate(config, reuse=self.alike(unit, values))
            seconds["generate"] = round(time.perf_counter() - started, 1)
            status = run_status(RunFolder(config.run))
            images = {"attempted": status.attempted, "failed": status.failed}
        results, spent = trained_and_judged(config, unit.judged)
        seconds |= spent
        self._remember(unit, config.run, values)
        record = _record(unit, results) | {"generator": self._generator, "seconds": seconds, "images": images}
        write_record(self._results, unit.name, record)
        return record

    def alike(self, unit: Unit, values: dict[str, Any]) -> list[Path]:
        """Return the runs that may hold images of a unit: the product looks at each row before it takes it."""
        keys = images_keys(values)
        runs = dict.fromkeys(path for key in keys for path in self._made.get(key, ()))
        return [path for path in runs if path != unit.config.run]

    def _remember(self, unit: Unit, run: Path, values: dict[str, Any]) -> None:
        # A record whose run folder was deleted still counts; there is nothing to take from it.
        if unit.synthetic and RunFolder(run).plan_path.exists():
            for key in images_keys(values):
                self._made.setdefault(key, {})[run] = None


@as_guest
def trained_and_judged(config: RunConfig, judged: Sequence[HeldOut]) -> tuple[dict[HeldOut, Results], dict[str, float]]:
    """Train and judge a run as `augcond.pipeline` does, and return the results and the seconds of both.

    The real images are decoded once for all of it, which in small runs is a third of the work. That no other process is
    at the run is the caller's business.
    """
    started = time.perf_counter()
    ensure_ready(config, {"train", "evaluate"})
    experiment = load_experiment(config)
    if not experiment.folder.config_path.exists():
        experiment.folder.write_config(config)
    synthetic = any(arm.kind == "synthetic" for arm in arms_of(config))
    train_arms(experiment, dropped=screened_out(experiment) if synthetic else ())
    trained = time.perf_counter()
    results = {part: evaluate_models(experiment, on=part) for part in judged}
    seconds = {"train": trained - started, "evaluate": time.perf_counter() - trained}
    return results, {stage: round(value, 1) for stage, value in seconds.items()}


def without_folders(config: RunConfig) -> dict[str, Any]:
    """Return a config's values, its files by name alone: where they lie says nothing of what was measured."""
    values = config.model_dump(mode="json")
    for name, path in paths_in(config):
        *sections, key = name.split(".")
        section = values
        for each in sections:
            section = section[each]
        section[key] = path.name
    del values["run"]
    return values


def _record(unit: Unit, results: dict[HeldOut, Results]) -> Record:
    first = next(iter(results.values()))
    config = without_folders(unit.config)
    record: Record = {
        "format": FORMAT,
        "unit": unit.name,
        "fingerprint": unit.fingerprint,
        "leaks": list(first.leaks),
        "versions": {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "classes": list(first.classes),
        "config": config,
        "models": [model for arm in first.arms for model in _models(unit, arm.name, results)],
    }
    if "test" in results:
        judged = read_predictions(unit.config.run / results["test"].arms[0].seeds[0].predictions)
        keys = hashlib.sha256("\n".join(judged.keys).encode()).hexdigest()
        record["test"] = {"labels": pack_labels(judged.labels.tolist()), "keys_sha256": keys}
    return record


def _models(unit: Unit, name: str, results: dict[HeldOut, Results]) -> list[dict[str, Any]]:
    """Return what is recorded of an arm, one entry for each of its trainings."""
    arms: dict[HeldOut, ArmResult] = {part: found.arm(name) for part, found in results.items()}
    first = next(iter(arms.values()))
    cards = {card.seeds: card for card in read_cards(unit.config.run) if card.arm == name}
    found = []
    for place, seed in enumerate(first.seeds):
        judged = {part: arm.seeds[place] for part, arm in arms.items()}
        found.append(_model(unit, first, cards[seed.seeds], judged))
    return found


def _model(unit: Unit, arm: ArmResult, card: ModelCard, judged: dict[HeldOut, SeedResult]) -> dict[str, Any]:
    seed = next(iter(judged.values()))
    model: dict[str, Any] = {
        "arm": arm.name,
        "kind": arm.kind,
        "recipe": arm.recipe,
        "leaky": arm.leaky,
        "seeds": {"split": seed.seeds.split, "generation": seed.seeds.generation, "training": seed.seeds.training},
        "real_images": arm.real_images,
        "synthetic_images": arm.synthetic_images,
        "screened_out": arm.screened_out,
        "steps": arm.steps,
        "real_counts": list(seed.real_counts),
        "settings": card.training,
        "validation": None,
        "test": None,
    }
    for part, own in judged.items():
        metrics = own.metrics
        model[part] = {
            key: None if getattr(metrics, key) is None else round(getattr(metrics, key), 6)
            for key in ("overall", "class_mean", "many", "medium", "few", "calibration_error")
        }
        if part == "test":
            predictions = read_predictions(unit.config.run / own.predictions)
            model["predicted"] = pack_labels(predictions.predicted.tolist())
    return model
