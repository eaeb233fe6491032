"""How workers scale, and how soon one that joins a run of 1.2 million rows is at work.

    python -m benchmarks.workers                       # prints JSON and writes benchmarks/results/workers.json
    python -m benchmarks.workers --join                # the second part alone
    python -m benchmarks.workers --workers 2 --rows 40 --skip-join          # a quick look, without a file

Scaling: a generator that waits 0.3 s an image, as a GPU lets its process wait, on sources of 32 pixels. Rates are taken
from the first to the last commit, each worker being a process with nothing but the run folder in common. The machine is
to be quiet: a worker needs some milliseconds of a processor for each image, and eight start at once.

Joining: from the start of a process, Python and libraries included, until it has read the plan, the sources and the
order of their embeddings, looked at all markers and claimed its first shard; the generator is not loaded. Processor
time does not depend on what else the machine does; the best of five. `--join` measures nothing else, and leaves
the rest of the file as it is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.plan_scale import PER_CLASS, dataset
from benchmarks.writing import RESULTS, write_result
from PIL import Image

from augcond.config import GeneratorConfig, RunConfig, parse_config
from augcond.pipeline import generate
from augcond.planning import make_plan
from augcond.store import RunFolder
from augcond.store.plans import plan_run
from augcond.store.shards import GenerationSettings
from augcond.testing.waiting import WaitingGenerator

SECONDS, EDGE, SHARD = 0.3, 32, 4
"""That an image takes; pixels of sources and images; rows of a shard."""

WORKERS, ROWS = 8, 400
"""Workers that are compared with one; rows for each of them."""

JOINS = 5

JOIN = """
import sys, time
from pathlib import Path
import augcond.engine.child
from augcond.engine.embeddings import Blocks
from augcond.store import RunFolder
from augcond.store.pending import PendingShards
loaded = time.process_time()
folder = RunFolder(Path(sys.argv[1]))
config, plan = folder.read_config(), folder.read_plan()
sources = folder.read_sources()
blocks = Blocks.of(plan.plan, config.conditioning)
with folder.claims() as claims:
    claimed = PendingShards(folder, plan, claims).take()
    rows = plan.plan.shard(claimed.number)
    # Not what getrusage says: that counts what the parent took before this process was one.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), loaded, int(peak.split()[1]) / 1024, flush=True)
"""


def waiting(config: GeneratorConfig) -> WaitingGenerator:
    """Return the generator that waits; configs name it."""
    return WaitingGenerator(SECONDS, image_size=(EDGE, EDGE), encoder_size=EDGE, embedding_shape=(64,))


def config_of(root: Path, run: str, rows: int) -> RunConfig:
    """Return the config of a run of so many rows."""
    return parse_config(
        {
            "data": {"path": root / "photos"},
            "run": root / run,
            "plan": {"per_class": rows // 2},
            "conditioning": {"recipe": "embed-mixup"},
            "generator": {"name": "benchmarks.workers:waiting"},
            "engine": {"shard_size": SHARD, "batch_size": SHARD, "threads": 1, "feeding_threads": 1, "workers": 1},
        }
    )


def rate(config: RunConfig, workers: int) -> dict[str, float]:
    """Have the run made by so many workers; return images per second from the first to the last commit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["augcond.pipeline", "augcond.testing.waiting", "transformers", "datasets"])
    processes = [context.Process(target=generate, args=(config,)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a worker ended with {process.exitcode}")
    folder = RunFolder(config.run)
    markers = [marker for marker in folder.markers(folder.read_plan()) if marker is not None]
    times = sorted(path.stat().st_mtime for path in folder.shards.glob("*.done.json"))
    seconds, images = times[-1] - times[0], sum(marker.ok for marker in markers) - SHARD
    return {"workers": workers, "images": images, "seconds": seconds, "images_per_second": images / seconds}


def joining(root: Path) -> dict[str, float]:
    """Return how long a worker takes to join a run of 1.2 million rows, and its memory."""
    real = dataset()
    config = parse_config({"data": {"path": "unused"}, "run": root / "large", "plan": {"per_class": PER_CLASS}})
    plan = make_plan(real, config.plan, config.conditioning, prompts=config.prompt)
    columns = GenerationSettings(2.0, 20, "stable-unclip:benchmark", "0" * 40, ".webp")
    folder = RunFolder(config.run)
    folder.create()
    folder.write_plan(plan_run(plan, {}, columns, real, None), config, real)
    command = [sys.executable, "-c", JOIN, str(folder.path)]
    found: list[dict[str, float]] = []
    for _ in range(JOINS):
        started = time.perf_counter()
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - Python itself
        seconds = time.perf_counter() - started
        processor, loaded, peak = map(float, said.stdout.split())
        found.append({"seconds": seconds, "processor": processor, "of_which_imports": loaded, "peak_megabytes": peak})
    best = min(found, key=lambda one: one["processor"])
    return {
        "rows": len(plan),
        "shards": plan.shard_count,
        "seconds": min(one["seconds"] for one in found),
        "processor_seconds": best["processor"],
        "of_which_imports": best["of_which_imports"],
        "peak_megabytes": max(one["peak_megabytes"] for one in found),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--rows", type=int, default=ROWS, help="for each worker")
    parser.add_argument("--skip-join", action="store_true")
    parser.add_argument("--join", action="store_true", help="nothing else")
    asked = parser.parse_args()
    if asked.join:
        kept = json.loads((RESULTS / "workers.json").read_text())
        with tempfile.TemporaryDirectory() as name:
            write_result("workers", kept | {"joining": joining(Path(name))})
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for label in ("a", "b"):
            (root / "photos" / label).mkdir(parents=True)
            for number in range(8):
                pixels = np.random.default_rng(number).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "photos" / label / f"{number}.png")
        one = rate(config_of(root, "one", asked.rows), 1)
        many = rate(config_of(root, "many", asked.rows * asked.workers), asked.workers)
        result: dict[str, Any] = {
            "machine": platform.platform(),
            "one": one,
            "many": many,
            "times_as_fast": many["images_per_second"] / one["images_per_second"],
        }
        if not asked.skip_join:
            result["joining"] = joining(root)
    if (asked.workers, asked.rows, asked.skip_join) == (WORKERS, ROWS, False):
        write_result("workers", result)
    else:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
