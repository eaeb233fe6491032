"""How fast training on photographs is fed, beside torchvision's ImageFolder with a DataLoader on the same files.

    python -m benchmarks.training_input            # prints JSON and writes benchmarks/results/training_input.json

JPEGs of 500 x 375 pixels, random resized crops and flips at 224 pixels, batches of 64, on as many cores as the
DataLoader has workers. Nothing is trained: what is measured is how long it takes until a batch is there. `photo` crops
whole photographs, as torchvision does (`training.augment.crop: photo`), `resized` their centred squares; `decoded`
keeps no decoded image (`training.max_memory_gb: 0`), `in memory` keeps all, decoded before. The ways take turns, and
medians are shown. In the last three RandAugment comes on top, ours in processes. Two more numbers say where the time
goes with `resized`: decoding an image to its square, and augmentation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision
from benchmarks.writing import write_result
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from augcond.config import DataConfig
from augcond.config.training import AugmentConfig
from augcond.datasets import load_dataset
from augcond.training.ahead import AHEAD
from augcond.training.augmentation import BatchAugmentation
from augcond.training.batches import BatchSampler, BatchSettings, ImageInputs
from augcond.training.devices import Rank
from augcond.training.image_sets import ImageSet, real_images

WIDTH, HEIGHT, SIZE, BATCH, WORKERS = 500, 375, 224, 64, 2
CLASSES = 10
AUGMENT = AugmentConfig(crop="resized", scale=(0.08, 1.0))
OF_PHOTOS = AUGMENT.model_copy(update={"crop": "photo"})
TRANSFORMED = AugmentConfig.model_validate({**OF_PHOTOS.model_dump(), "transforms": [{"name": "RandAugment"}]})
WITH = "RandAugment"
STEPS = 2_000
"""Of the training whose first batches are made: by how many are to come it is known whether processes pay."""
WARM_UP = AHEAD + 1
"""Batches that are not timed: they are made before anybody waits for them."""


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs that are smooth with some noise, of about 60 kB each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        place = folder / f"class-{number % CLASSES}" / f"{number:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(place, quality=90)


def ours(images: ImageSet, augment: AugmentConfig, batches: int) -> Iterator[object]:
    """Yield batches of augcond."""
    none = images.take([])
    sampler = BatchSampler(len(images), 0, BatchSettings(BATCH, 0.0, "exact"), 0, STEPS)
    inputs = ImageInputs((images, none), sampler, augment, SIZE, CLASSES, 0)
    for step in range(batches):
        yield inputs(step, Rank(0, 1, torch.device("cpu")))
    inputs.close()


def theirs(folder: Path, batches: int, *transforms: v2.Transform) -> Iterator[object]:
    """Yield batches of torchvision's data set and PyTorch's loader, of the same shape and type."""
    change = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=AUGMENT.scale, antialias=True),
            v2.RandomHorizontalFlip(AUGMENT.flip),
            *transforms,
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    loader = DataLoader(
        ImageFolder(folder, change), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True
    )
    made = 0
    while made < batches:
        for batch in loader:
            made += 1
            yield batch
            if made == batches:
                return


def processors() -> float:
    """Return the seconds of all processors that this process and its ended children have taken."""
    return sum(os.times()[:4])


def rate(batches: Iterator[object], count: int) -> dict[str, float]:
    """Return images a second after a warm-up, and milliseconds of all processors an image from the first to the end."""
    began = processors()
    for _ in range(WARM_UP):
        next(batches)
    started = time.perf_counter()
    for _ in range(count - WARM_UP):
        next(batches)
    seconds = time.perf_counter() - started
    next(batches, None)  # workers end, and only then their time is known
    return {
        "rate": BATCH * (count - WARM_UP) / seconds,
        "processor": 1e3 * (processors() - began) / (BATCH * count),
    }


def alone(call: Callable[[], object], repeats: int) -> float:
    """Return the median milliseconds of the calling thread that `call` takes."""
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return round(1e3 * statistics.median(times), 2)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, options.images)
        dataset = load_dataset(DataConfig(path=folder))
        augmentation = BatchAugmentation(AUGMENT, SIZE)
        edge = augmentation.stored_size
        decoded, kept = (real_images(dataset, edge, most) for most in (0, 1e12))
        photos, kept_photos = (real_images(dataset, SIZE, most, photos=True) for most in (0, 1e12))
        for position in range(len(kept_photos)):
            kept_photos.pixels.photo(position)
        runs: dict[str, list[dict[str, float]]] = {}
        ways: dict[str, Callable[[], Iterator[object]]] = {
            "photo, decoded": lambda: ours(photos, OF_PHOTOS, options.batches),
            "photo, in memory": lambda: ours(kept_photos, OF_PHOTOS, options.batches),
            "resized, decoded": lambda: ours(decoded, AUGMENT, options.batches),
            "resized, in memory": lambda: ours(kept, AUGMENT, options.batches),
            "torchvision": lambda: theirs(folder, options.batches),
            f"{WITH}, photo, decoded": lambda: ours(photos, TRANSFORMED, options.batches),
            f"{WITH}, photo, in memory": lambda: ours(kept_photos, TRANSFORMED, options.batches),
            f"{WITH}, torchvision": lambda: theirs(folder, options.batches, v2.RandAugment()),
        }
        for _ in range(options.pairs):
            for way, begin in ways.items():
                runs.setdefault(way, []).append(rate(begin(), options.batches))
        square, crop = np.empty((1, 3, edge, edge), np.uint8), np.empty((1, 3, SIZE, SIZE), np.float32)
        drawn = augmentation.draw(1, edge, 0, "benchmark")
        parts = {
            "read, verify, decode, square": alone(lambda: decoded.pixels.read(np.array([0]), square), 100),
            "augment": alone(lambda: augmentation.apply(square, drawn, slice(0, 1), crop), 100),
        }
    medians = {
        way: {
            "images_per_second": round(statistics.median(run["rate"] for run in found), 1),
            "lowest": round(min(run["rate"] for run in found), 1),
            "highest": round(max(run["rate"] for run in found), 1),
            "processor_ms_per_image": round(statistics.median(run["processor"] for run in found), 2),
        }
        for way, found in runs.items()
    }
    base = {way: medians[f"{WITH}, torchvision" if WITH in way else "torchvision"]["images_per_second"] for way in ways}
    write_result(
        "training_input",
        {
            "photos": f"{options.images} JPEGs of {WIDTH} x {HEIGHT}",
            "network_pixels": SIZE,
            "batch_size": BATCH,
            "batches": options.batches,
            "pairs": options.pairs,
            "workers": WORKERS,
            "ways": medians,
            "times_torchvision": {
                way: round(medians[way]["images_per_second"] / base[way], 2) for way in ways if "torchvision" not in way
            },
            "milliseconds_of_one_thread": parts,
            "load_average": round(os.getloadavg()[0], 2),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "limit": {"decoded": 1.0, "in memory": 1.3},
        },
    )


if __name__ == "__main__":
    main()
