"""A run, a sweep and a tuning that have every kind of file that augcond writes, and others of their like."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import augcond.__main__ as program
from augcond.amounts import ChosenImages, rounds_content
from augcond.experiments.tuning import schedule, tune
from augcond.pipeline import train
from augcond.report import build as build_report
from augcond.report import sweep as sweep_report
from augcond.report import tuning as tuning_report
from augcond.sealed import write_json
from augcond.store import RunFolder, claims
from augcond.store.claims import Claim, Pace
from augcond.store.workers import Place, WorkerRecord
from augcond.torch import RunDataset
from tests.toy import Counted
from tests.training.toys import SIZE, write_colours

STEPS = 6
MODEL = "models/mixup/seed-0"
HERE, KEPT, OTHER = "here", "kept", "other"
"""Where commands find the folders, where they are kept as they were made, and those of other seeds and photos."""

TUNE = ("--budget", "24", "--candidates", "4", "--folds", "2")
SWEEP = ("--over", "plan.per_class=1", "--seeds", "1")


@contextmanager
def in_haste() -> Iterator[None]:
    """Have tunings try little, the dead found dead at once, and no figure drawn, which reads no file."""
    little = {"sets": 2, "proposed": 0, "trainings": 2, "calibrating": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "Effort", partial(schedule.Effort, **little))
        patch.setattr(tune, "AGREEING", -1.0)
        patch.setattr(claims, "PACE", Pace(beat=0.1, stale=0.5, poll=0.02))
        for module in (build_report, sweep_report):
            patch.setattr(module, "save_figure", _save_nothing)
        patch.setattr(tuning_report, "figure_files", lambda found: {"png": b"drawn", "svg": b"drawn"})
        yield


def _save_nothing(figure: object, folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.svg").write_text("<svg/>")
    return "<svg/>"


def ended(*argv: str) -> tuple[int, str, str]:
    """Return the exit code of a command, called as the program does in this process, its output and what it said."""
    out, err, path = io.StringIO(), io.StringIO(), list(sys.path)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["augcond", *argv])
        # As in a process of its own, in which nobody else listens.
        patch.setattr(logging.root, "handlers", [])
        try:
            code = program._run()
        finally:
            sys.path[:] = path
    return code, out.getvalue(), err.getvalue()


def done(*argv: str) -> None:
    """Call a command that has to succeed."""
    code, _, said = ended(*argv)
    assert code == 0, f"augcond {' '.join(argv)}: {said}"


def build(root: Path) -> None:
    """Write ROOT/kept and ROOT/other, made at ROOT/here."""
    with in_haste():
        for place, seed in ((OTHER, 1), (KEPT, 0)):
            _make(root, seed)
            (root / HERE).rename(root / place)


def _make(root: Path, seed: int) -> None:
    """Make all three, or of other seeds and photos the run alone."""
    photos, here = root / f"photos-{seed}", root / HERE
    here.mkdir()
    for part, count, drawn in (("train", [7 + seed, 6, 5], 0), ("validation", 3, 1), ("test", [4 + seed, 4, 4], 2)):
        write_colours(photos / part, count, seed=drawn)
    for name, more in configs(here, seed).items():
        (here / f"{name}.yaml").write_text(yaml.safe_dump(values_of(photos, here / name, seed) | more))
    _make_run(here, seed)
    if seed:
        return
    done("report", f"{here}/run")
    done("push", f"{here}/run", "me/toys", "--dry")
    RunDataset(here / "run", recipe="mixup")[0]
    _plant(RunFolder(here / "run"))
    done("sweep", f"{here}/sweep.yaml", *SWEEP)
    done("report", f"{here}/sweep")
    done("tune", f"{here}/tuning.yaml", *TUNE)
    done("generate", f"{here}/tuning/tuned.yaml")


def values_of(photos: Path, run: Path, seed: int) -> dict[str, Any]:
    """Return what the configs of all three have in common."""
    arms = [{"name": "real-only"}, {"name": "mixup", "recipe": "mixup"}]
    sizes = {
        "image_size": SIZE,
        "steps": STEPS,
        "batch_size": 8,
        "checkpoint_every": 1,
        "seeds": 1 + (run.name == "run"),
    }
    return {
        "data": {"path": str(photos / "train"), "validation": str(photos / "validation"), "test": str(photos / "test")},
        "run": str(run),
        "plan": {"per_class": 2, "seed": seed},
        "conditioning": {"recipe": ["image", "mixup"]},
        "generator": {"name": "fake", "model": "fail_every=5", "steps": 20 + seed},
        "engine": {"shard_size": 7, "batch_size": 7, "threads": 1},
        "training": {**sizes, "device": "cpu", "lr": 0.1 - 0.01 * seed, "arms": arms},
        "evaluation": {"many": 6, "few": 6},
    }


def configs(here: Path, seed: int) -> dict[str, Any]:
    """Return what the config of each has for its own."""
    return {
        "run": {
            "screening": {"by": "encoder"},
            "plan": {"per_class": 2, "seed": seed, "rounds": f"{here}/run/rounds.json"},
        },
        "sweep": {"conditioning": {"recipe": ["mixup"]}},
        "tuning": {"conditioning": {"recipe": ["mixup"]}},
    }


def _make_run(here: Path, seed: int) -> None:
    run = RunFolder(here / "run")
    run.create()
    write_json(run.rounds_path, rounds_content([{"a": ChosenImages(1 + seed, ("a/0.png", "a/1.png"))}]))
    config = f"{here}/run.yaml"
    done("generate", config)
    # Its second shard was made again.
    run.marker_path(1).rename(run.unfit_path(1))
    run.shard_path(1).write_bytes(b"")
    done("generate", config)
    (here / "keys.txt").write_text(f"{_some_key(run)}\n")
    done("reject", str(run.path), f"{here}/keys.txt")
    checkpoint = _interrupted_training(run)
    done("train", str(run.path))
    (run.path / MODEL / "checkpoint.safetensors").write_bytes(checkpoint)
    done("evaluate", str(run.path))
    done("evaluate", str(run.path), "--on", "validation")


def _some_key(run: RunFolder) -> str:
    return RunDataset(run, recipe="mixup", screening="all").keys[0]


def _interrupted_training(run: RunFolder) -> bytes:
    """Train until the second model has a checkpoint, and return it."""

    path = run.path / MODEL / "checkpoint.safetensors"

    def stop(done: int) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(run.read_config(), progress=Counted(stop))
    return path.read_bytes()


def _plant(run: RunFolder) -> None:
    """Write what only killed processes, other versions and trackers leave."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    place = Place.here()
    dead = WorkerRecord("dead", Place(place.host, place.boot, place.space, gone.pid, "1"), time.time())
    (run.locks / "dead.worker").write_bytes(dead.to_bytes())
    (run.locks / "00001.claim").write_bytes(Claim("00001", "dead", "0123").to_bytes())
    (run.locks / "part-1-of-1.lock").write_text("")
    (run.path / "tracking").mkdir()
    (run.path / "tracking" / "events").write_text("numbers")
    (run.path / "cache" / "mixup.arrow").write_text("mapped")
    shutil.copyfile(run.marker_path(0), run.unfit_path(0))
    shutil.copyfile(run.path / MODEL / "model.json", run.path / MODEL / "model.unfit.json")
