"""Measure one unit: generate, train, judge, and write its record."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarks.evidence.records import FORMAT, Record, pack_labels, read_record, record_path, write_record
from benchmarks.evidence.units import Unit, folder_name, images_key

from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import ArmResult, Results
from augcond.pipeline import evaluate, generate, train
from augcond.store.folder import RunFolder
from augcond.store.status import run_status
from augcond.training.arms import HeldOut
from augcond.training.cards import read_cards

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
        self._made: dict[str, list[Path]] = {}

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
            generate(config, reuse=[path for path in self._made.get(images_key(values), []) if path != config.run])
            seconds["generate"] = round(time.perf_counter() - started, 1)
            status = run_status(RunFolder(config.run))
            images = {"attempted": status.attempted, "failed": status.failed}
        started = time.perf_counter()
        train(config)
        seconds["train"] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
        results = {part: evaluate(config, on=part) for part in unit.judged}
        seconds["evaluate"] = round(time.perf_counter() - started, 1)
        self._remember(unit, config.run, values)
        record = _record(unit, results) | {"generator": self._generator, "seconds": seconds, "images": images}
        write_record(self._results, unit.name, record)
        return record

    def _remember(self, unit: Unit, run: Path, values: dict[str, Any]) -> None:
        known = self._made.setdefault(images_key(values), [])
        # A record whose run folder was deleted still counts; there is nothing to take from it.
        if unit.synthetic and run not in known and RunFolder(run).plan_path.exists():
            known.append(run)


def _record(unit: Unit, results: dict[HeldOut, Results]) -> Record:
    first = next(iter(results.values()))
    config = unit.config.model_dump(mode="json", exclude={"run"})
    # Where this machine keeps its files says nothing about what was measured.
    for key in ("path", "validation", "test", "class_names"):
        if config["data"].get(key):
            config["data"][key] = Path(config["data"][key]).name
    record: Record = {
        "format": FORMAT,
        "unit": unit.name,
        "fingerprint": unit.fingerprint,
        "leaks": list(first.leaks),
        "versions": {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "classes": list(first.classes),
        "config": config,
        "models": [_model(unit, arm.name, results) for arm in first.arms],
    }
    if "test" in results:
        judged = read_predictions(unit.config.run / results["test"].arms[0].seeds[0].predictions)
        keys = hashlib.sha256("\n".join(judged.keys).encode()).hexdigest()
        record["test"] = {"labels": pack_labels(judged.labels.tolist()), "keys_sha256": keys}
    return record


def _model(unit: Unit, name: str, results: dict[HeldOut, Results]) -> dict[str, Any]:
    arms: dict[HeldOut, ArmResult] = {part: found.arm(name) for part, found in results.items()}
    arm = next(iter(arms.values()))
    (seed,) = arm.seeds
    (card,) = [card for card in read_cards(unit.config.run) if card.arm == name]
    model: dict[str, Any] = {
        "arm": name,
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
    for part, judged in arms.items():
        metrics = judged.mean
        model[part] = {
            key: None if getattr(metrics, key) is None else round(getattr(metrics, key), 6)
            for key in ("overall", "class_mean", "many", "medium", "few", "calibration_error")
        }
        if part == "test":
            predictions = read_predictions(unit.config.run / judged.seeds[0].predictions)
            model["predicted"] = pack_labels(predictions.predicted.tolist())
    return model
