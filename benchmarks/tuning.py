"""Is what `augcond tune` chooses any good, and does it know how good?

    python -m benchmarks.tuning                     # all studies on the built-in world; resumes wherever it was stopped
    python -m benchmarks.tuning --budget-minutes 60 # starts no unit after an hour
    python -m benchmarks.tuning --estimate          # what is left, in units, images, trainings and hours
    python -m benchmarks.tuning --smoke             # does the whole chain run here? Its numbers mean nothing
    python -m benchmarks.tuning --page              # the table of docs/tuning.md and its figure, from the records
    python -m benchmarks.tuning --coverage          # simulates how often the interval holds

A *pair* is a setting (long tail or k shots, and how prompts name the classes) and a seed. Of each pair the units are:
every set of images of the design and real images alone, trained and judged on test and validation images (`grid`);
a tuning for each budget, which sees training images alone (`tune-BUDGET`); and what that chose, measured on test images
(`outcome-BUDGET`). Each leaves one JSON record under --results, written whole and last, and the runs lie under --work.
Several processes share the work: each takes units that no other is at. Records say nothing of where they were made:
those of several machines go into one folder.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.records import FORMAT, write_record
from benchmarks.tuning_units import SMOKE, Pair, Scale, Unit, pairs_of

from augcond.config import GeneratorConfig
from augcond.errors import AugcondError, RunLockedError
from augcond.evaluation.results import REAL_ONLY
from augcond.experiments.tuning.survey import ground_of, training_passes
from augcond.generators import load_generator

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "tuning"
WORK = REPOSITORY / "runs" / "tuning"

_WAIT = 2.0

logger = logging.getLogger("benchmarks.tuning")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--budget-minutes", type=float, help="start no unit after so many minutes")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each setting")
    parser.add_argument("--results", type=Path, help="folder of the records (default benchmarks/results/tuning)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs (default runs/tuning)")
    parser.add_argument("--estimate", action="store_true", help="say what is left, and how long it takes")
    parser.add_argument("--smoke", action="store_true", help="tiny runs, whose records lie in the folder of the runs")
    parser.add_argument("--page", action="store_true", help="write the table and the figure of docs/tuning.md")
    parser.add_argument("--coverage", action="store_true", help="simulate how often the interval holds")
    parser.add_argument("--repetitions", type=int, default=300, help="of each cell of the simulation (default 300)")
    options = parser.parse_args(arguments)
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
    if options.coverage:
        from benchmarks import tuning_coverage

        tuning_coverage.run(options.repetitions)
        return 0
    scale = scale or (SMOKE if options.smoke else Scale())
    revision = load_generator(GeneratorConfig.model_validate(scale.base["generator"])).identity.revision
    pairs = pairs_of(scale, options.work, options.results, revision)
    if options.page:
        from benchmarks import tuning_page

        try:
            sys.stdout.write(tuning_page.write(options.results, pairs) + "\n")
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    if options.seeds is not None:
        pairs = [pair for pair in pairs if pair.seed < options.seeds]
    if options.estimate:
        sys.stdout.write(estimate(pairs, options.results) + "\n")
        return 0
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return _work_through(pairs, options)
    finally:
        logger.removeHandler(handler)


def _work_through(pairs: Sequence[Pair], options: argparse.Namespace) -> int:
    until = math.inf if options.budget_minutes is None else time.monotonic() + 60 * options.budget_minutes
    failed = 0
    later: list[Unit] = []
    for pair in pairs:
        # What others were at, or what lacked their tuning, comes again with the next pair: nobody waits.
        later, failures = _pass(chain(later, pair.units()), options, until)
        failed += failures
    while later and time.monotonic() < until:
        before = len(later)
        later, failures = _pass(later, options, until)
        failed += failures
        if later and len(later) == before:
            if not any(_is_busy(unit, options) for unit in later):
                break  # what they need has failed
            time.sleep(_WAIT)
    return 1 if failed else 0


def _pass(units: Iterable[Unit], options: argparse.Namespace, until: float) -> tuple[list[Unit], int]:
    """Measure units, and return those to come back to, and how many failed."""
    states: list[tuple[Unit, str]] = []
    for unit in units:
        if time.monotonic() > until:
            break
        states.append((unit, _try(unit, options)))
    return [unit for unit, state in states if state in ("busy", "not ready")], [s for _, s in states].count("failed")


def _is_busy(unit: Unit, options: argparse.Namespace) -> bool:
    """Return whether another process is at a unit, or at the tuning that it needs."""
    for name in (unit.name, unit.name.replace("/outcome-", "/tune-")):
        try:
            with exclusive(options.work / "locks" / f"{name}.lock", "another process is at it"):
                pass
        except RunLockedError:
            return True
    return False


def _try(unit: Unit, options: argparse.Namespace) -> Literal["done", "busy", "not ready", "failed"]:
    """Measure a unit, unless it is measured, another process is at it, or it needs what is not measured yet."""
    if unit.known(options.results) is not None:
        return "done"
    try:
        with exclusive(options.work / "locks" / f"{unit.name}.lock", "another process is at it"):
            if unit.known(options.results) is not None:
                return "done"
            if not _ready(unit, options.results):
                return "not ready"
            started = time.perf_counter()
            measured = unit.measure()
            seconds = round(time.perf_counter() - started, 1)
            about = {"format": FORMAT, "unit": unit.name, "fingerprint": unit.fingerprint, "seconds": seconds}
            write_record(options.results, unit.name, {**measured, **about})
            logger.info("%s: %.0f s", unit.name, seconds)
            return "done"
    except RunLockedError:
        return "busy"
    except AugcondError as error:
        logger.error("%s: %s", unit.name, error)
        return "failed"


def _ready(unit: Unit, results: Path) -> bool:
    """Return whether what a unit needs is measured: an outcome needs its tuning."""
    if "/outcome-" not in unit.name:
        return True
    return replace(unit, name=unit.name.replace("/outcome-", "/tune-")).known(results) is not None


IMAGES_A_SECOND, STEP_SECONDS, OVERHEAD = 38.0, 0.013, 4.0
"""About what one process of one thread does here on an idle core, at five sampling steps, 16 pixels, batches of 32."""


def estimate(pairs: Sequence[Pair], results: Path) -> str:
    """Return in words what is left to do, and how long it takes one process."""
    units = images = trainings = 0
    seconds = 0.0
    if not pairs:
        return "nothing to measure"
    for pair in pairs:
        config, effort = pair.config("unused"), pair.scale.effort
        ground = ground_of(config, effort)
        planned = sum(ground.planned)
        steps = config.training.steps * STEP_SECONDS
        for unit in pair.units():
            if unit.known(results) is not None:
                continue
            units += 1
            made, trained = 0, len(config.training.training_seeds)
            if "/tune-" in unit.name:
                budget = int(unit.name.rpartition("-")[2])
                schedule = ground.schedule(budget, effort)
                made = schedule.images
                trained = training_passes(schedule, effort) * ground.folds
            elif "/outcome-" in unit.name or unit.name.endswith(REAL_ONLY):
                made = 0
            else:
                made = planned
            images += made
            trainings += trained
            seconds += made / IMAGES_A_SECOND + trained * steps + OVERHEAD
    return (
        f"{units} units left: {images:,} images, {trainings:,} trainings; about {seconds / 3600:.1f} hours of one "
        "process with one thread on an idle core"
    )


if __name__ == "__main__":
    sys.exit(main())
