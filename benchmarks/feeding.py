"""How long a GPU would wait for augcond: a generator that only waits, fed with photographs, and what it makes stored.

    python -m benchmarks.feeding                    # prints JSON and writes benchmarks/results/feeding.json
    python -m benchmarks.feeding --against COMMIT   # alternating pairs with the code of another commit
    python -m benchmarks.feeding --recipes image --seconds 0.3 --rows 48 --sources 12 --pairs 1    # a short look
    python -m benchmarks.feeding --resume --minutes 15    # goes on where it ended, in quiet quarter hours

Every pair is written as soon as it is measured, with how many cores other processes took meanwhile. Called again with
`--resume`, pairs that are there are left out, and those in which others took more than `--quiet` are measured anew.

Every case is a process of its own: the local engine makes `--rows` images (at least as many as take 48 seconds) from
photographs of 12 megapixels (or `--edges 4000 2000 500`), which this script makes and keeps in `--photos`. Views are
those of CLIP's own image processor at 224 pixels, images of 768 pixels are stored in the default format. Told are,
medians over the pairs: `wall`, from the start of the generator's first batch to the end of its last, over the time that
its images take; processor time per image in that time; and by how much the process grew beside its images.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.writing import RESULTS, write_result
from PIL import Image

ROOT = Path(__file__).parents[1]
UNMIXED = ("text", "real-guidance", "image", "dropout")
MIXED = ("mixup", "cutmix", "embed-mixup", "embed-cutmix")
RECIPES = (*UNMIXED, *MIXED, *(f"{recipe}-dropout" for recipe in MIXED))
CLASSES = 10
OTHERS = "cores of others"
Pair = dict[str, dict[str, Any]]
"""What one run of each code found."""

LONGEST = 48.0
"""Seconds of the generator for each case, at least."""
LIMITS = {"wall / generator": {"0.3": 1.05, "0.1": 1.15}, "processor ms per image": 150, "MB": 1500}


def write_photographs(root: Path, count: int, edge: int) -> None:
    """Write `count` different JPEG files, `edge` x 3/4 `edge` pixels, with as much detail as photographs have."""
    rng = np.random.default_rng(0)
    height, width = edge * 3 // 4, edge
    base = rng.normal(0.0, 8.0, (height, width, 3)).astype(np.float32)
    for cells, weight in ((6, 0.6), (40, 0.25), (300, 0.15)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        base += weight * np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    picture = base.clip(0, 255).astype(np.uint8)
    for number in range(count):
        path = root / f"class {number % CLASSES}" / f"{number:04d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Other pictures at the cost of one: each is shifted, and has its own colours.
            shifted = np.roll(picture, rng.integers(0, (height, width)), (0, 1))
            Image.fromarray(np.roll(shifted[:: 1 - 2 * (number % 2)], number, 2)).save(path, quality=90)


def measure(photos: Path, recipe: str, seconds: float, rows: int, *settings: str) -> dict[str, Any]:
    """Run one case in this process."""
    from augcond.config import parse_config
    from augcond.datasets import load_dataset
    from augcond.engine import Job, load_engine
    from augcond.pipeline import assemble, plan_for
    from augcond.store import RunFolder
    from augcond.testing.waiting import WaitingGenerator

    engine: dict[str, Any] = {"batch_size": 16}
    engine |= {key: json.loads(value) for key, _, value in (setting.partition("=") for setting in settings)}
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "data": {"path": photos},
                "run": Path(folder) / "run",
                "plan": {"per_class": rows // CLASSES},
                "conditioning": {"recipe": recipe},
                "generator": {"name": "fake"},
                "engine": engine,
            }
        )
        dataset = load_dataset(config.data, cache=photos / "decoded.parquet")
        generator = WaitingGenerator(seconds)
        run_plan, materials = assemble(config, dataset, plan_for(config, dataset), generator)
        run = RunFolder(config.run)
        run.create()
        run.write_plan(run_plan, config, dataset)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        summary = load_engine(config.engine.name).run(
            Job(config=config, folder=run, plan=run_plan, materials=materials)
        )
        if summary.failed:
            raise SystemExit(f"rows failed: {summary.reasons}")
    return {
        "wall / generator": generator.wall / (seconds * generator.images),
        "processor ms per image": 1000 * generator.processor / generator.images,
        "MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000,
    }


def measure_apart(source: Path, *arguments: object) -> dict[str, Any]:
    """Run one case in a process of its own, with the augcond that lies in `source`."""
    command = [sys.executable, "-m", "benchmarks.feeding", "--one", *map(str, arguments)]
    started, others, load = time.monotonic(), seconds_of_others(), os.getloadavg()[0]
    path = os.pathsep.join(map(str, (source, ROOT)))
    done = subprocess.run(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    taken = (seconds_of_others() - others) / (time.monotonic() - started)
    return {**found, OTHERS: round(taken, 3), "load average before": round(load, 2)}


def seconds_of_others() -> float:
    """Return the processor seconds of all processes since the machine began, less ours and our ended children's."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def begun(case: dict[str, Any], cases: list[dict[str, Any]], names: set[str], quiet: float) -> list[Pair]:
    """Take `case` out of `cases`, and return those of its pairs in which others took no more than `quiet` cores."""
    same = [done for done in cases if case.items() <= done.items() and names == done["runs"][0].keys()]
    cases[:] = [done for done in cases if done not in same]
    return [pair for done in same for pair in done["runs"] if all(run[OTHERS] <= quiet for run in pair.values())]


def source_of(commit: str, folder: Path) -> Path:
    """Return `src` of another commit, written into `folder`, with the generator that only waits."""
    packed = subprocess.run(  # noqa: S603 - our own command
        ["git", "archive", commit, "src"],  # noqa: S607
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    for name in ("waiting.py", "fake.py"):
        shutil.copy(ROOT / "src/augcond/testing" / name, folder / "src/augcond/testing" / name)
    if not (folder / "src/augcond/conditioning/framing.py").exists():
        waiting = folder / "src/augcond/testing/waiting.py"
        lines = waiting.read_text(encoding="utf-8").splitlines(keepends=True)
        waiting.write_text("".join(line for line in lines if "framing" not in line), encoding="utf-8")
    return folder / "src"


def medians(pairs: list[Pair]) -> Pair:
    """Return the medians of each code's numbers."""
    return {
        name: {key: round(statistics.median(pair[name][key] for pair in pairs), 2) for key in run}
        for name, run in pairs[0].items()
    }


def main() -> None:
    """Measure every case and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--seconds", nargs="+", type=float, default=[0.3, 0.1])
    parser.add_argument("--edges", nargs="+", type=int, default=[4000])
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--against")
    parser.add_argument("--photos", type=Path, default=Path(tempfile.gettempdir()) / "augcond-photographs")
    parser.add_argument("--engine", nargs="*", default=[], help="of this code's config, such as batch_size=8")
    parser.add_argument("--resume", action="store_true", help="leave out quiet pairs that the result file holds")
    parser.add_argument("--quiet", type=float, default=0.1, help="cores that others may take")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no pair after so many")
    parser.add_argument("--one", nargs="+")
    options = parser.parse_args()
    if options.one:
        photos, recipe, seconds, rows, *settings = options.one
        sys.stdout.write(json.dumps(measure(Path(photos), recipe, float(seconds), int(rows), *settings)) + "\n")
        return
    result = RESULTS / "feeding.json"
    cases: list[dict[str, Any]] = json.loads(result.read_text())["cases"] if options.resume and result.exists() else []
    cores, latest = len(os.sched_getaffinity(0)), time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        sources = {"this": ROOT / "src"}
        if options.against:
            sources[options.against] = source_of(options.against, Path(folder))
        for edge in options.edges:
            photos = options.photos / f"{options.sources} of {edge}"
            write_photographs(photos, options.sources, edge)
            for seconds in options.seconds:
                rows = max(options.rows, round(LONGEST / seconds)) if options.rows >= 160 else options.rows
                for recipe in options.recipes:
                    case: dict[str, Any] = {"recipe": recipe, "edge": edge, "seconds": seconds, "rows": rows}
                    case |= {"sources": options.sources, "engine": options.engine}
                    pairs = begun(case, cases, set(sources), options.quiet)
                    cases.append(case)
                    while True:
                        if pairs:
                            case |= {"runs": pairs, **medians(pairs)}
                            write_result("feeding", {"cores": cores, "cases": cases, "limits": LIMITS})
                        if len(pairs) >= options.pairs or time.monotonic() > latest:
                            break
                        pairs.append(
                            {
                                name: measure_apart(
                                    source, photos, recipe, seconds, rows, *(options.engine if name == "this" else [])
                                )
                                for name, source in sources.items()
                            }
                        )
                    if not pairs:
                        cases.remove(case)


if __name__ == "__main__":
    main()
