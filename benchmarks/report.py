"""How long and how large the report of a large run is: 1,000 classes, 200,000 plan rows.

    python -m benchmarks.report              # prints JSON and writes benchmarks/results/report.json

The run's shards hold pictures of a small pool in place of generated ones, so they are of true size; its
making is not measured. The report is written in one thread, so an idle core takes `cpu_seconds`; `seconds` tells how
busy this machine was beside it. Peak memory is the largest resident set of the process.
"""

from __future__ import annotations

import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.writing import write_result
from PIL import Image

from augcond.conditioning import Draws
from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.pipeline import assemble, plan_for
from augcond.report import write_report
from augcond.store import RunFolder, ShardRow
from augcond.store.commit import ShardFacts, commit_shard
from augcond.store.plans import settle_plan
from augcond.store.shards import shard_tables
from augcond.testing import FakeGenerator

CLASSES = 1000
PHOTOS_PER_CLASS = 8
PER_CLASS = 50
RECIPES = ("text", "image", "mixup", "embed-cutmix-dropout")
EDGE = 224
POOL = 256
FAILS_EVERY = 400
LIMITS = {"cpu_seconds": 60, "megabytes": 20}


def pictures(kind: str, count: int, size: tuple[int, int]) -> list[bytes]:
    """Return encoded pictures with structure and grain, about as large as photographs are."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        grain = rng.integers(-6, 7, (size[1], size[0], 3))
        buffer = io.BytesIO()
        Image.fromarray((np.asarray(coarse).astype(int) + grain).clip(0, 255).astype(np.uint8)).save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def make_run(root: Path) -> RunFolder:
    """Write photos and a finished run below `root`."""
    photos = pictures("JPEG", POOL, (400, 300))
    for label in range(CLASSES):
        folder = root / "photos" / f"n{label:08d}"
        folder.mkdir(parents=True)
        for i in range(PHOTOS_PER_CLASS):
            (folder / f"{i}.jpg").write_bytes(photos[(label * PHOTOS_PER_CLASS + i) % POOL])
    config = parse_config(
        {
            "data": {"path": root / "photos"},
            "run": root / "run",
            "plan": {"per_class": PER_CLASS},
            "conditioning": {"recipe": list(RECIPES)},
            "generator": {"name": "fake"},
        }
    )
    run = RunFolder(config.run)
    run.create()
    dataset = load_dataset(config.data)
    generator = FakeGenerator(image_size=(EDGE, EDGE))
    run_plan, _ = assemble(config, dataset, plan_for(config, dataset), generator)
    run_plan = settle_plan(run, run_plan, dataset, shard_size=config.engine.shard_size)
    run.write_plan(run_plan, config, dataset)
    pool = pictures("WEBP", POOL, (EDGE, EDGE))

    for number, fingerprint in enumerate(run_plan.fingerprints):
        rows = [
            ShardRow(row, pool[row.seed % POOL], Draws(0.5, 0.5, (0.5, 0.5)))
            if row.seed % FAILS_EVERY
            else ShardRow(row, None, error="made to fail")
            for row in run_plan.plan.shard(number)
        ]
        commit_shard(
            shard_tables(rows, run_plan.classes, run_plan.columns),
            run.shard_files(number, "a"),
            ShardFacts(fingerprint, batch_size=16, threads=1, notes=(), seconds=1.0, versions={}),
            lambda data: False,
        )
    return run


def measure(run: Path) -> dict[str, float]:
    """Write the report of `run` in this process, and return what it took."""
    started = time.perf_counter()
    cpu = time.process_time()
    page = write_report(RunFolder(run))
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        "page_megabytes": round(page.stat().st_size / 1e6, 2),
        "files": len(files),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def main() -> None:
    """Make the run, measure its report in a fresh process, and write the result."""
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        folder = make_run(Path(root))
        making = time.perf_counter() - started
        plan = folder.read_plan().plan
        load = os.getloadavg()[0]
        command = [sys.executable, "-m", "benchmarks.report", str(folder.path)]
        # One thread: on a busy machine waiting threads burn time, and that of the processor is to mean something.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
        taken = json.loads(done.stdout)
        result = {
            "classes": CLASSES,
            "rows": len(plan),
            "shards": plan.shard_count,
            "recipes": len(RECIPES),
            "report": taken,
            "limits": LIMITS,
            "cpus": os.cpu_count(),
            "load_average_before": round(load, 1),
            "making_the_run_seconds": round(making),
            "python": platform.python_version(),
        }
    write_result("report", result)
    if any(taken[name] > limit for name, limit in LIMITS.items()):
        sys.exit("over the limits")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))  # noqa: T201
    else:
        main()
