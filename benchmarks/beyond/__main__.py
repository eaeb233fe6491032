"""Measure harder worlds and methods beyond the paper, in two steps.

    python -m benchmarks.beyond                      # everything, one step after the other; resumes wherever it stopped
    python -m benchmarks.beyond --step pilots        # every idea on two cells
    python -m benchmarks.beyond --step final         # the ideas that did best on validation images, on all cells
    python -m benchmarks.beyond --step senses        # words with two senses
    python -m benchmarks.beyond --estimate           # what is left, in units, images, steps and hours
    python -m benchmarks.beyond --page               # docs/beyond.md and its figure, from the records
    python -m benchmarks.beyond --smoke              # does the whole chain run here? Its numbers mean nothing

A unit is one row of one cell for one seed: a run folder under --work that is generated, trained and judged by augcond
itself, and then one JSON record under --results, as of `benchmarks.evidence`, whose tuning it uses. Images that two
units define alike are made once. Several processes share the work: each takes units that no other is at, and waits at
the end of a step for those that others are at. Records say nothing of where they were made: those of several machines
go into one folder. On two cores two processes at one thread each (OMP_NUM_THREADS=1) get more done than one.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.beyond.campaign import STEPS, Beyond, Practising, whole_amounts
from benchmarks.beyond.settings import SMALL, WHOLE, Size
from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.estimate import Rates, work_of
from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.settings import FULL
from benchmarks.evidence.units import Unit

from augcond.config import GeneratorConfig
from augcond.errors import AugcondError, RunLockedError
from augcond.generators import load_generator

RESULTS = evidence.REPOSITORY / "benchmarks" / "results" / "beyond"
WORK = evidence.REPOSITORY / "runs" / "beyond"
DOCS = evidence.REPOSITORY / "docs"
ALL = "all"

IDLE = Rates(images=38.0, step=0.037, overhead=5.0)
"""About what one process of one thread does here when the cores are idle; `overhead` is what a unit takes besides."""

_WAIT = 2.0

logger = logging.getLogger("benchmarks.beyond")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beyond", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--step", choices=(ALL, *STEPS), default=ALL, help="final needs the pilots: it takes their best"
    )
    parser.add_argument("--budget-minutes", type=float, default=math.inf, help="start no unit after so many minutes")
    parser.add_argument("--results", type=Path, help="folder of the records (default benchmarks/results/beyond)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs (default runs/beyond)")
    parser.add_argument("--docs", type=Path, help="folder of the page (default docs)")
    parser.add_argument("--estimate", action="store_true", help="say what is left, and how long it takes")
    parser.add_argument("--page", action="store_true", help="write the page from the records; measure nothing")
    parser.add_argument("--smoke", action="store_true", help="tiny runs and a page, all in the folder of the runs")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.work = options.work / "smoke"
        options.results = options.results or options.work / "results"
        options.docs = options.docs or options.work / "docs"
    options.results = options.results or RESULTS
    options.docs = options.docs or DOCS
    return options


def main(arguments: Sequence[str] | None = None, size: Size | None = None) -> int:
    """Measure what is not measured yet, and return the exit code.

    Args:
        arguments: of the command line; those of the process where None.
        size: how large; what the command line says where None.
    """
    options = parse(arguments)
    size = size or (SMALL if options.smoke else WHOLE)
    generator = load_generator(GeneratorConfig.model_validate(size.scale.base["generator"])).identity
    # Its tuning is that of the evidence, whatever the size here.
    tuned = Campaign(FULL, evidence.RESULTS, options.work, generator.revision, 1)
    beyond = Beyond(size, options.results, tuned, options.work, generator.revision, guess=bool(options.estimate))
    if options.page:
        return _write_page(beyond, options.docs)
    about = {"name": generator.name, "model": generator.model, "revision": generator.revision}
    measuring = Practising(options.results, about)
    steps = STEPS if options.step == ALL else (options.step,)
    if options.estimate:
        for step in steps:
            _estimate([unit for unit in beyond.units(step) if not measuring.is_done(unit)], step)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(options.work / "progress.log")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    deadline = time.monotonic() + 60 * options.budget_minutes
    try:
        failed = sum(_work_through(beyond, measuring, step, options.work, deadline) for step in steps)
        if options.smoke:
            failed += _write_page(beyond, options.docs)
        return min(failed, 1)
    except NotMeasured as error:
        logger.error("%s", error)
        return 1
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _work_through(beyond: Beyond, measuring: Practising, step: str, work: Path, deadline: float) -> int:
    """Measure the units of a step, those that others are at last, and return how many failed."""
    failed = measured = 0
    elsewhere: list[Unit] = []
    for waiting in (False, True):
        for unit in elsewhere if waiting else beyond.units(step):
            state = _measured(unit, measuring, work, deadline)
            while waiting and state == "elsewhere":
                time.sleep(_WAIT)
                state = _measured(unit, measuring, work, deadline)
            if state == "late":
                logger.info("%s: time is up after %d units; the same command goes on", step, measured)
                return failed
            if state == "elsewhere":
                elsewhere.append(unit)
            failed += state == "failed"
            measured += state == "measured"
    logger.info("%s: %d units measured, %d failed; nothing left", step, measured, failed)
    return failed


def _measured(unit: Unit, measuring: Practising, work: Path, deadline: float) -> str:
    """Measure a unit where it is not and nobody else is at it, and return what became of it."""
    if measuring.is_done(unit):
        return "done"
    if time.monotonic() >= deadline:
        return "late"
    try:
        with exclusive(work / "locks" / f"{unit.name}.lock", "another process is at it"):
            # It may have ended between the look and the lock.
            if measuring.is_done(unit):
                return "done"
            logger.info("%s: %s", unit.name, evidence.short(measuring.measure(unit)))
            return "measured"
    except RunLockedError:
        return "elsewhere"
    except AugcondError as error:
        # A night is not lost to one unit: the page says what is missing.
        logger.error("%s: %s", unit.name, error)
        return "failed"


def _write_page(beyond: Beyond, docs: Path) -> int:
    from benchmarks.beyond import page  # what draws takes seconds to import

    try:
        sys.stdout.write(page.write(beyond, docs) + "\n")
        return 0
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _estimate(units: Sequence[Unit], step: str) -> None:
    left = work_of(map(_as_made, units))
    sys.stdout.write(
        f"{step}: {left.units} units left: {left.models} trainings of {left.steps} steps together, "
        f"{left.images} images; about {left.hours(IDLE):.1f} hours of one process\n"
    )


def _as_made(unit: Unit) -> Unit:
    """Return `unit` with all images that it makes in its plan: those that are not kept, and those of rounds."""
    plan = unit.config.plan
    if plan.oversample == 1 and plan.rounds is None:
        return unit
    asked = plan.model_copy(update={"rounds": None, "oversample": 1})
    halves = whole_amounts(unit.config.model_copy(update={"plan": asked}))
    made = asked.model_copy(update={"per_class": {class_id: 2 * amount for class_id, amount in halves.items()}})
    return replace(unit, config=unit.config.model_copy(update={"plan": made}))


if __name__ == "__main__":
    sys.exit(main())
