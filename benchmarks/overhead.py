"""What everything around the networks costs, and what batches gain over one image at a time.

    python -m benchmarks.overhead            # prints JSON and writes benchmarks/results/overhead.json

Generation: 520 images of the built-in checkpoint, 52 a class, made by the local engine into a run folder; planning,
loading and a first batch come before it and are not timed. While it runs, the calls of the image encoder, the text
encoder, the UNet and the VAE are timed; the overhead is its wall time over the sum of those calls. Then one image at a
time with two encodings each, as the published scripts work, at equal steps: the ratio of the two rates is from this one
run.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.writing import write_result

from augcond.config import RunConfig, parse_config
from augcond.datasets import load_dataset
from augcond.engine import BatchSize, Job, generate_rows, load_engine
from augcond.generators import load_generator
from augcond.pipeline import assemble, plan_for
from augcond.store import RunFolder

PER_CLASS = 52
SINGLES = 32
RECIPE = "embed-mixup-dropout"


class Stopwatch:
    """Sums the time of calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed under `name`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        return timed


def configuration(run: Path) -> RunConfig:
    """Return the config of `PER_CLASS` images of every class of the built-in world."""
    return parse_config(
        {
            "data": {"source": "builtin"},
            "plan": {"per_class": PER_CLASS},
            "conditioning": {"recipe": RECIPE},
            "generator": {"steps": 20},  # as the limits were set
            "run": run,
        }
    )


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(Path(folder) / "run")
        dataset = load_dataset(config.data)
        generator: Any = load_generator(config.generator)
        plan = plan_for(config, dataset)
        run_plan, materials = assemble(config, dataset, plan, generator)
        rows = list(itertools.islice(plan.rows(), SINGLES))
        generate_rows(rows[:16], materials, BatchSize(16))  # warm up

        stopwatch = Stopwatch()
        networks_of = {
            "image_encoder": generator._image_encoder._model,
            "text_encoder": generator._others[0],
            "unet": generator._denoiser.network,
        }
        for name, module in networks_of.items():
            module.forward = stopwatch.time(name, module.forward)
        generator._vae.decode = stopwatch.time("vae", generator._vae.decode)

        run = RunFolder(config.run)
        run.create()
        run.write_plan(run_plan, config, dataset)
        job = Job(config=config, folder=run, plan=run_plan, materials=materials)
        started = time.perf_counter()
        summary = load_engine(config.engine.name).run(job)
        wall = time.perf_counter() - started
        networks = dict(stopwatch.seconds)

        started = time.perf_counter()
        for row in rows[:SINGLES]:
            generate_rows([row], materials, BatchSize(1))
        singles = time.perf_counter() - started

    bare = sum(networks.values())
    batched_rate, single_rate = summary.ok / wall, SINGLES / singles
    result = {
        "images": summary.ok,
        "recipe": RECIPE,
        "steps": config.generator.steps,
        "guidance_scale": config.generator.guidance_scale,
        "batch_size": config.engine.batch_size,
        "wall_seconds": round(wall, 2),
        "network_seconds": {name: round(value, 2) for name, value in networks.items()},
        "overhead": round(wall / bare, 3),
        "outside_ms_per_image": round(1000 * (wall - bare) / summary.ok, 2),
        "images_per_second": {
            "batched": round(batched_rate, 2),
            "one at a time": round(single_rate, 2),
            "ratio": round(batched_rate / single_rate, 2),
        },
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "limit": {"overhead": 1.10, "outside_ms_per_image": 3.0},
    }
    write_result("overhead", result)


if __name__ == "__main__":
    main()
