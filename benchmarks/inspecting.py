"""How long and how much memory `augcond inspect` takes on 100,000 small images: one pass, under 1 GB.

    python -m benchmarks.inspecting [images]     # prints JSON and writes benchmarks/results/inspecting.json

The images are made first (JPEG, 48 pixels, 100 classes); the process that inspects them is measured whole. The machine
may be shared: seconds are indicative.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.writing import write_result
from PIL import Image

CLASSES = 100
EDGE = 48


def write_images(root: Path, count: int) -> None:
    """Fill class folders with different pictures; ten of them a second time, as another file."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class {number % CLASSES:02d} of things"
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        picture = coarse.resize((EDGE, EDGE), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:06d}.jpg", quality=90)
        if number % (count // 10) == 0:
            picture.save(folder / f"{number:06d} again.jpg", quality=70)


def main() -> None:
    """Measure and report."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), count)
        command = [sys.executable, "-m", "augcond.cli", "inspect", folder, "--json"]
        started, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    write_result(
        "inspecting",
        {
            "images": found["images"],
            "classes": len(found["classes"]),
            "near-duplicates planted": 10,
            "near-duplicates found": sum(pair["certain"] for pair in found["near_duplicates"]),
            "seconds": round(seconds, 1),
            "seconds of processors": round(after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, 1),
            "peak megabytes": round(after.ru_maxrss / 1000),
            "limits": {"megabytes": 1000},
        },
    )


if __name__ == "__main__":
    main()
