"""How long and how much memory `augcond inspect` takes: on one core, on all of them, and a second time.

    python -m benchmarks.inspecting                          # 20,000 JPEGs of 500 pixels, three rounds
    python -m benchmarks.inspecting --images 100000 --edge 48 --rounds 1 --result inspecting-small

The images are made first (JPEG, 100 classes); the process that inspects them is measured whole, libraries included. The
machine is to be quiet. Each round takes one core, then all, then once more with what the one before has found: "again"
opens no image. Prints JSON and writes benchmarks/results/RESULT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.writing import write_result
from PIL import Image

CLASSES = 100


def write_images(root: Path, count: int, edge: int) -> None:
    """Fill class folders with different pictures; ten of them a second time, as another file.

    Each is a coarse picture of its own under detail of a photograph's strength, cut from a common field at a random
    place, so that a file of 500 pixels has the 80 KB of a photograph.
    """
    rng = np.random.default_rng(0)
    field = rng.normal(0.0, 8.0, (2 * edge, 2 * edge, 3)).astype(np.float32)
    for cells, weight in ((60, 0.3), (300, 0.2)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        field += weight * (np.asarray(noise.resize((2 * edge, 2 * edge)), dtype=np.float32) - 128)
    for number in range(count):
        folder = root / f"class {number % CLASSES:02d} of things"
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        top, left = rng.integers(0, edge, 2)
        pixels = np.asarray(coarse.resize((edge, edge), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = (pixels + field[top : top + edge, left : left + edge]).clip(0, 255)
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.save(folder / f"{number:06d}.jpg", quality=90)
        if number % (count // 10) == 0:
            picture.save(folder / f"{number:06d} again.jpg", quality=70)


def inspect(photos: Path, cache: Path, cores: Set[int]) -> dict[str, Any]:
    """Return what `augcond inspect` found, and what it took, on some cores."""
    command = [sys.executable, "-m", "augcond", "inspect", str(photos), "--json"]
    started, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - our own command
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "AUGCOND_CACHE": str(cache)},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    return {
        "images": found["images"],
        "near-duplicates found": sum(pair["certain"] for pair in found["near_duplicates"]),
        "seconds": round(seconds, 1),
        "seconds of processors": round(after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, 1),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--edge", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--result", default="inspecting")
    asked = parser.parse_args()
    cores = os.sched_getaffinity(0)
    rounds: list[dict[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        photos.mkdir()
        write_images(photos, asked.images, asked.edge)
        for number in range(asked.rounds):
            one, every = Path(name) / f"one-{number}", Path(name) / f"all-{number}"
            rounds.append(
                {
                    "one core": inspect(photos, one, {min(cores)}),
                    "all cores": inspect(photos, every, cores),
                    "again": inspect(photos, every, cores),
                }
            )
    ratios = [taken["one core"]["seconds"] / taken["all cores"]["seconds"] for taken in rounds]
    write_result(
        asked.result,
        {
            "edge": asked.edge,
            "cores": len(cores),
            "near-duplicates planted": 10,
            "rounds": rounds,
            "times as fast on all cores, median": round(statistics.median(ratios), 2),
            "peak megabytes": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000),
            "limits": {"megabytes": 1000, "times as fast": 1.7},
        },
    )


if __name__ == "__main__":
    main()
