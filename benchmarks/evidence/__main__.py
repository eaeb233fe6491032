"""Measure what synthetic images are worth on the built-in world.

    python -m benchmarks.evidence                        # tier A; resumes wherever it was stopped
    python -m benchmarks.evidence --budget-minutes 60    # stops after the unit that the hour ends in
    python -m benchmarks.evidence --tier b
    python -m benchmarks.evidence --estimate             # what is left, in units, images, steps and hours
    python -m benchmarks.evidence --smoke                # does the whole chain run here? Its numbers mean nothing
    python -m benchmarks.evidence.page                   # docs/results.md and its figures, from the records

A unit is one row of one table for one seed (or one tried setting of the tuning): a run folder under --work that is
generated, trained and judged by augcond itself, and then one JSON record under --results. A record is written whole
and last, and what a killed unit had done of its run folder is kept, so the same command goes on where it stopped.
Images that two units define alike are made once. After each pass over the units the page is whole for one seed more.

Tier A: tuning on validation images; the long tail with every baseline, `text`, `real-guidance`, the ten image
recipes (Balanced Softmax with the real counts; some also with the effective ones) and the ceiling; few-shot with real
images, RandAugment, `text`, `image` and the recipe that validation chose, at every k; screening; the published
protocol. Tier B: prompts that do not name the class, guidance and amounts for two recipes, longer trainings, the four
leaks one by one, a gentler crop before pixel mixing, and the other recipes few-shot.

Several processes share the work: each takes units that no other is at. On two cores two of them at one thread each
(OMP_NUM_THREADS=1) get more done than one.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.estimate import Rates, work_of
from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.measuring import Measuring
from benchmarks.evidence.settings import FULL, SECTIONS, SMOKE, Scale
from benchmarks.evidence.units import Unit

from augcond.config import GeneratorConfig
from augcond.errors import AugcondError, RunLockedError
from augcond.generators import load_generator

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "evidence"
WORK = REPOSITORY / "runs" / "evidence"

_WAIT = 2.0
"""Seconds between two looks at what another process is at."""

IDLE = Rates(images=20.0, step=0.04, overhead=6.0)
"""About what one process of one thread does here when the cores are idle, from the seconds in the records."""

logger = logging.getLogger("benchmarks.evidence")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence", description=(__doc__ or "").split("\n", 1)[0]
    )
    sections = [*chain(*SECTIONS.values())]
    parser.add_argument("--tier", choices=("a", "b"), default="a", help="b needs a: it uses what a has chosen")
    parser.add_argument(
        "--only", nargs="+", choices=sections, default=sections, help="sections (default: all of the tier)"
    )
    parser.add_argument("--seeds", type=int, default=10, help="at most so many seeds of each section (default 10)")
    parser.add_argument("--budget-minutes", type=float, help="start no unit after so many minutes")
    parser.add_argument("--results", type=Path, help="folder of the records (default benchmarks/results/evidence)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs (default runs/evidence)")
    parser.add_argument(
        "--estimate", action="store_true", help="list what is left, and how long it takes; measure nothing"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny runs, whose records lie in the folder of the runs")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    if options.smoke and options.results is None:
        options.work = options.work / "smoke"
        options.results = options.work / "results"
    options.results = options.results or RESULTS
    return options


def main(arguments: Sequence[str] | None = None, scale: Scale | None = None) -> int:
    """Measure what is not measured yet, and return the exit code.

    Args:
        arguments: of the command line; those of the process where None.
        scale: how large; what the command line says where None.
    """
    options = parse(arguments)
    scale = scale or (SMOKE if options.smoke else FULL)
    generator = load_generator(GeneratorConfig.model_validate(scale.base["generator"])).identity
    campaign = Campaign(
        scale,
        options.results,
        options.work,
        generator.revision,
        options.seeds,
        guess=bool(options.estimate),
        sections=tuple(options.only),
    )
    about = {"name": generator.name, "model": generator.model, "revision": generator.revision}
    measuring = Measuring(options.results, about)
    if options.estimate:
        _estimate(campaign, measuring, options.tier)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(options.work / "progress.log")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return measure_units(campaign, measuring, options)
    except AugcondError as error:
        logger.error("%s", error)
        return 1
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class Units(Protocol):
    """Names units one after the other."""

    def units(self, tier: str) -> Iterator[Unit]:
        """Yield the units of a tier; each must be measured before the next is asked for."""
        ...


def measure_units(campaign: Units, measuring: Measuring, options: argparse.Namespace) -> int:
    """Measure the units of `options.tier` that no other process measures, and return the exit code."""
    deadline = time.monotonic() + 60 * (math.inf if options.budget_minutes is None else options.budget_minutes)
    measured = 0
    while time.monotonic() < deadline:
        elsewhere: list[Unit] = []
        try:
            for unit in campaign.units(options.tier):
                # What other processes have made by now can be taken over.
                elsewhere = [other for other in elsewhere if not measuring.is_done(other)]
                if measuring.is_done(unit):
                    continue
                if time.monotonic() >= deadline:
                    break
                try:
                    with exclusive(options.work / "locks" / f"{unit.name}.lock", "another process is at it"):
                        # It may have ended between the look and the lock.
                        if not measuring.is_done(unit):
                            logger.info("%s: %s", unit.name, short(measuring.measure(unit)))
                            measured += 1
                except RunLockedError:
                    elsewhere.append(unit)
            else:
                logger.info("tier %s: %d units measured; nothing left", options.tier, measured)
                return 0
        except NotMeasured:
            if not elsewhere:
                raise
            # Another process is at what decides the next units.
            time.sleep(_WAIT)
    logger.info("time is up: %d units measured; the same command goes on", measured)
    return 0


def short(record: dict[str, Any]) -> str:
    """Return a record in a line, for the log."""
    part = "test" if record["models"][0]["test"] else "validation"
    accuracies = ", ".join(f"{model['arm']} {100 * model[part]['overall']:.1f}" for model in record["models"])
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in record["seconds"].items())
    return f"{part}: {accuracies}; {record['images']['attempted']} images; {seconds}"


def _estimate(campaign: Campaign, measuring: Measuring, tier: str) -> None:
    left = work_of({unit.name: unit for unit in campaign.units(tier) if not measuring.is_done(unit)}.values())
    sys.stdout.write(
        f"tier {tier}: {left.units} units left: {left.models} trainings of {left.steps} steps together, "
        f"{left.images} images; about {left.hours(IDLE):.1f} hours of one process\n"
    )


if __name__ == "__main__":
    sys.exit(main())
