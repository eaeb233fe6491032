"""Whether a long job grows: resident memory and open files over 90,000 rows of the fake generator.

    python -m benchmarks.soak               # prints JSON and writes benchmarks/results/soak.json

Memory and file handles are read after each shard. Slopes are by least squares over the second half of the job, with the
standard error of each; a job that leaks has a positive one, run after run. Memory still grows over the first 30,000
rows: the allocator settles, which says nothing of a leak.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.writing import write_result
from PIL import Image

from augcond.config import parse_config
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run

ROWS, CLASSES, SHARD = 90_000, 5, 250


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    """Return the number of open files."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Watch:
    """Reads memory and handles whenever a shard's worth of rows is done; a `Progress`."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.memory: list[int] = []
        self.handles: list[int] = []
        self._done = 0

    def start(self, total: int, what: str | None = None) -> None:
        """Begin anew."""
        self._done = 0
        for readings in (self.rows, self.memory, self.handles):
            readings.clear()

    def advance(self, made: int, failed: int) -> None:
        """Take a reading where a shard is full."""
        before, self._done = self._done, self._done + made
        if before // SHARD != self._done // SHARD:
            self.rows.append(self._done)
            self.memory.append(resident())
            self.handles.append(handles())


def slope(rows: list[int], values: list[int]) -> dict[str, float]:
    """Return the slope per 1,000 rows over the second half, its standard error, and first and last value."""
    half = len(rows) // 2
    x, y = np.array(rows[half:]) / 1000, np.array(values[half:], dtype=float)
    coefficients, residuals, *_ = np.polyfit(x, y, 1, full=True)
    spread = ((x - x.mean()) ** 2).sum()
    error = np.sqrt((residuals[0] if len(residuals) else 0.0) / (len(x) - 2) / spread)
    return {
        "per_1000_rows": float(coefficients[0]),
        "standard_error": float(error),
        "first": values[0],
        "last": values[-1],
    }


def write_photos(folder: Path) -> None:
    """Write 20 JPEGs of noise for each class."""
    rng = np.random.default_rng(0)
    for number in range(20 * CLASSES):
        place = folder / f"class-{number % CLASSES}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)).save(place)


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos")
        config = parse_config(
            {
                "data": {"path": str(folder / "photos")},
                "run": str(folder / "run"),
                "plan": {"per_class": ROWS // CLASSES // 3},
                "conditioning": {"recipe": ["embed-mixup", "cutmix-dropout", "text"]},
                "generator": {"name": "fake"},
                "engine": {"shard_size": SHARD, "batch_size": 25},
            }
        )
        watch = Watch()
        made = generate(config, progress=watch)
        before = resident(), handles()
        audit = audit_run(RunFolder(config.run))
        write_result(
            "soak",
            {
                "rows": made.ok + made.failed,
                "seconds": made.seconds,
                "resident_bytes": slope(watch.rows, watch.memory),
                "file_handles": slope(watch.rows, watch.handles),
                "after_check": {"resident_bytes": [before[0], resident()], "file_handles": [before[1], handles()]},
                "problems": len(audit.problems),
            },
        )


if __name__ == "__main__":
    main()
