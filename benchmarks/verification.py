"""What it costs that files are compared with what was recorded when they were written.

    python -m benchmarks.verification        # prints JSON and writes benchmarks/results/verification.json

The share of the wall time of `generate`, with a generator that waits 40 ms an image, and of the start of a training
(until its first step) that goes into hashing and sealing, each within one run; sources are JPEGs of 500 x 375, made
images are of 256 x 256. A start costs something however few images there are, so that of 120 GB of shards, which are
mapped from a file, is extrapolated from what the bytes between a small and a large run cost. The page cache holds the
shards here: on a machine whose memory does not, hashing reads them from the disk once more.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.writing import write_result
from PIL import Image

from augcond import files, registry, sealed
from augcond.config import GeneratorConfig, RunConfig, parse_config
from augcond.generators.base import Generator
from augcond.pipeline import generate
from augcond.store import RunFolder, commit
from augcond.testing.fake import FakeGenerator
from augcond.training.arm_images import RunImages
from augcond.training.arms import arms_of
from augcond.training.devices import find_rank
from augcond.training.experiment import load_experiment
from augcond.training.models import prepare_training

PHOTOS, DELAY, EDGE = 40, 0.04, 256
CLASSES = 5
PER_CLASS = {"small": 64, "large": 640}
FULL_BYTES = 120e9


class Noisy(FakeGenerator):
    """Images with as many bytes as photographs have: the fake generator's patterns are small files."""

    def __init__(self, delay: float) -> None:
        super().__init__(image_size=(EDGE, EDGE))
        self._each = delay

    def generate(self, conditioning: Any, seeds: Any) -> Any:
        """Return the patterns under noise, after the time that a generator on a GPU takes."""
        made = super().generate(conditioning, seeds)
        time.sleep(self._each * len(seeds))
        for image, seed in zip(made.images.numpy(), seeds, strict=True):
            noise = np.random.default_rng(seed).normal(0, 12, image.shape)
            image[:] = np.clip(image + noise, 0, 255).astype(np.uint8)
        return made


def load(config: GeneratorConfig) -> Generator:
    """Return the generator of this benchmark; its model is how long it waits."""
    return Noisy(float(config.model))


class Spent:
    """Sums the seconds that threads spend in some functions; a call inside another counts once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = threading.local()

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "busy", False):
                return function(*args, **kwargs)
            self._inside.busy = True
            started = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside.busy = False
                with self._lock:
                    self.seconds += self._clock() - started

        return timed


@contextmanager
def verification_timed() -> Iterator[Spent]:
    """Time every hash of a file, every seal, and every hash of a photo that is read."""
    spent = Spent(time.thread_time)
    places = [(files, "file_sha256"), (commit, "file_sha256"), (sealed, "seal"), (sealed, "fits"), (hashlib, "sha256")]
    before = [getattr(module, name) for module, name in places]
    for (module, name), function in zip(places, before, strict=True):
        setattr(module, name, spent.of(function))
    try:
        yield spent
    finally:
        for (module, name), function in zip(places, before, strict=True):
            setattr(module, name, function)


@contextmanager
def shards_timed() -> Iterator[Spent]:
    """Time what is waited for until all shards are compared with their markers, on all cores."""
    spent = Spent(time.perf_counter)
    before = RunFolder.verified_markers
    RunFolder.verified_markers = spent.of(before)  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        RunFolder.verified_markers = before  # type: ignore[method-assign]


def write_photos(folder: Path) -> None:
    """Write `PHOTOS` JPEGs of 500 x 375 into `CLASSES` class folders."""
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)).astype(float)
        image += rng.normal(0, 10, image.shape)
        place = folder / f"class-{number % CLASSES}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(place, quality=92)


def configuration(folder: Path, size: str) -> RunConfig:
    """Return the config of the run."""
    return parse_config(
        {
            "data": {"path": str(folder / "photos")},
            "run": str(folder / size),
            "plan": {"per_class": PER_CLASS[size]},
            "conditioning": {"recipe": "embed-mixup"},
            "generator": {"name": "noisy", "model": str(DELAY if size == "small" else 0)},
            "engine": {"shard_size": 64, "batch_size": 16},
            "training": {"seeds": 1, "steps": 1, "model": "small-cnn", "image_size": 224, "max_memory_gb": 1e-9},
        }
    )


def measure(config: RunConfig) -> tuple[dict[str, float], dict[str, float]]:
    """Return what `generate` costs, and what the start of a training on its images."""
    started = time.perf_counter()
    with verification_timed() as spent:
        made = generate(config)
    generation = {"seconds": time.perf_counter() - started, "verifying": spent.seconds, "images": made.ok}
    files._sha256_of.cache_clear()
    started = time.perf_counter()
    with shards_timed() as spent:
        experiment = load_experiment(config)
        arm = next(arm for arm in arms_of(config) if arm.kind == "synthetic")
        _, inputs = prepare_training(RunImages(experiment, ()), arm, 0)
        inputs(0, find_rank(config.training))
    start = {"seconds": time.perf_counter() - started, "verifying": spent.seconds}
    start["bytes"] = sum(path.stat().st_size for path in RunFolder(config.run).shards.glob("*.parquet"))
    for cost in (generation, start):
        cost["share"] = cost["verifying"] / cost["seconds"]
    return generation, start


def main() -> None:
    """Measure, print and write."""
    registry.generators.register("noisy", "benchmarks.verification:load")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos")
        # Imports are no part of it.
        measure(configuration(folder, "small").model_copy(update={"run": folder / "first"}))
        generation, small = measure(configuration(folder, "small"))
        _, large = measure(configuration(folder, "large"))
    per_byte, verifying = (
        (large[key] - small[key]) / (large["bytes"] - small["bytes"]) for key in ("seconds", "verifying")
    )
    write_result(
        "verification",
        {
            "generate": generation,
            "start_of_training": {"small": small, "large": large},
            "at_120_GB": {
                "bytes_per_second_of_the_start": 1 / per_byte,
                "bytes_per_second_of_verifying": 1 / verifying,
                "verifying_seconds": FULL_BYTES * verifying,
                "share_of_the_start": verifying / per_byte,
            },
        },
    )


if __name__ == "__main__":
    main()
