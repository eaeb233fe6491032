"""Measure harder worlds and methods beyond the paper, in two steps.

    python -m benchmarks.beyond                          # the pilots; resumes wherever it was stopped
    python -m benchmarks.beyond --step final             # the ideas that did best on validation images, on all cells
    python -m benchmarks.beyond --step senses            # words with two senses
    python -m benchmarks.beyond --step final --estimate  # what is left, in units, images, steps and hours
    python -m benchmarks.beyond --smoke                  # does the whole chain run here? Its numbers mean nothing

A unit is one row of one cell for one seed (and training): a run folder under --work that is generated, trained and
judged by augcond itself, and then one JSON record under --results, as of `benchmarks.evidence`, whose tuning it uses.
Images that two units define alike are made once. Several processes share the work.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.beyond.campaign import STEPS, Beyond, Practising, whole_amounts
from benchmarks.beyond.settings import SMALL, WHOLE
from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.campaign import Campaign, NotMeasured
from benchmarks.evidence.estimate import work_of
from benchmarks.evidence.units import Unit

from augcond.config import GeneratorConfig
from augcond.errors import AugcondError
from augcond.generators import load_generator

RESULTS = evidence.REPOSITORY / "benchmarks" / "results" / "beyond"
WORK = evidence.REPOSITORY / "runs" / "beyond"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beyond", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--step", choices=STEPS, default="pilots", help="final needs the pilots: it takes their best")
    parser.add_argument("--budget-minutes", type=float, help="start no unit after so many minutes")
    parser.add_argument("--results", type=Path, help="folder of the records (default benchmarks/results/beyond)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs (default runs/beyond)")
    parser.add_argument(
        "--estimate", action="store_true", help="say what is left, and how long it takes; measure nothing"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny runs of all steps, whose records lie with the runs")
    options = parser.parse_args(arguments)
    if options.smoke and options.results is None:
        options.work = options.work / "smoke"
        options.results = options.work / "results"
    options.results = options.results or RESULTS
    options.tier = options.step
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, and return the exit code."""
    options = parse(arguments)
    size = SMALL if options.smoke else WHOLE
    generator = load_generator(GeneratorConfig.model_validate(size.scale.base["generator"])).identity
    # Its tuning is that of the evidence, whatever the size here.
    tuned = Campaign(WHOLE.scale, evidence.RESULTS, options.work, generator.revision, 1)
    beyond = Beyond(size, options.results, tuned, options.work, generator.revision, guess=bool(options.estimate))
    about = {"name": generator.name, "model": generator.model, "revision": generator.revision}
    measuring = Practising(options.results, about)
    steps = STEPS if options.smoke else (options.step,)
    if options.estimate:
        for step in steps:
            _estimate([unit for unit in beyond.units(step) if not measuring.is_done(unit)], step)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(options.work / "progress.log")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        evidence.logger.addHandler(handler)
    evidence.logger.setLevel(logging.INFO)
    try:
        for step in steps:
            options.tier = step
            evidence.measure_units(beyond, measuring, options)
        return 0
    except (AugcondError, NotMeasured) as error:
        evidence.logger.error("%s", error)
        return 1
    finally:
        for handler in handlers:
            evidence.logger.removeHandler(handler)
            handler.close()


def _estimate(units: Sequence[Unit], step: str) -> None:
    left = work_of(map(_as_made, units))
    sys.stdout.write(
        f"{step}: {left.units} units left: {left.models} trainings of {left.steps} steps together, "
        f"{left.images} images; about {left.hours(evidence.IDLE):.1f} hours of one process\n"
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
