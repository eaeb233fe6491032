"""How long and how much memory 1.2 million plan rows take: plan, fingerprints, written plan.

    python -m benchmarks.plan_scale          # prints JSON and writes benchmarks/results/plan_scale.json

The process is measured whole: peak memory is the largest resident set, with Python and its libraries in it.
"""

from __future__ import annotations

import hashlib
import platform
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.writing import write_result

from augcond.config import ConditioningConfig, PlanConfig, parse_config
from augcond.datasets import Dataset, ImageRecord
from augcond.planning import make_plan
from augcond.store.folder import RunFolder
from augcond.store.plans import plan_run, settle_plan
from augcond.store.shards import GenerationSettings

CLASSES = 1000
SOURCES_PER_CLASS = 116  # ImageNet-LT has 115,846 training images
PER_CLASS = 1200


class NoReader:
    """Planning opens no image."""

    def read(self, key: str) -> bytes:
        """Refuse."""
        raise FileNotFoundError(key)


def dataset() -> Dataset:
    """Return a dataset of ImageNet-LT's size, without pixels."""
    classes = tuple(f"n{label:08d}" for label in range(CLASSES))
    images = tuple(
        ImageRecord(key, label, 500, 375, hashlib.sha256(key.encode()).hexdigest())
        for label, name in enumerate(classes)
        for key in (f"{name}/{name}_{i}.JPEG" for i in range(SOURCES_PER_CLASS))
    )
    return Dataset(classes, classes, images, (), NoReader())


def main() -> None:
    """Measure and report."""
    real = dataset()
    before = peak_megabytes()
    config = parse_config(
        {
            "data": {"path": "unused"},
            "run": "unused",
            "plan": PlanConfig(per_class=PER_CLASS).model_dump(),
            "conditioning": ConditioningConfig(recipe=("embed-mixup-dropout",)).model_dump(),
        }
    )
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    plan = make_plan(real, config.plan, config.conditioning, prompts=config.prompt)
    seconds["plan"] = time.perf_counter() - started
    after_plan = peak_megabytes()
    columns = GenerationSettings(2.0, 20, "stable-unclip:benchmark", "0" * 40, ".webp")
    started = time.perf_counter()
    run_plan = plan_run(plan, {}, columns, real, None)
    seconds["fingerprints"] = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create()
        started = time.perf_counter()
        run.write_plan(run_plan, config, real)
        seconds["write"] = time.perf_counter() - started
        size = run.plan_path.stat().st_size
        started = time.perf_counter()
        settle_plan(run, run_plan, real, shard_size=config.engine.shard_size)
        seconds["resume: read, compare, fingerprints"] = time.perf_counter() - started
    result = {
        "rows": len(plan),
        "shards": plan.shard_count,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "seconds_before_the_first_image": round(sum(list(seconds.values())[:3]), 2),
        "peak_megabytes": {
            "with the dataset, before planning": round(before),
            "after planning": round(after_plan),
            "in all": round(peak_megabytes()),
        },
        "plan_file_megabytes": round(size / 1e6, 1),
        "python": platform.python_version(),
        "limits": {"seconds": 60, "megabytes": 1000},
    }
    write_result("plan_scale", result)


def peak_megabytes() -> float:
    """Return the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
