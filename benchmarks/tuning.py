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
Several processes share the work: each takes units that no other is at.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.records import FORMAT, read_record, write_record

from augcond.amounts import images_to_make
from augcond.config import RunConfig, parse_config
from augcond.config.data import DataConfig
from augcond.datasets import load_dataset
from augcond.datasets.splits import draw_split, source_images
from augcond.errors import AugcondError, RunLockedError
from augcond.evaluation.results import REAL_ONLY, Results
from augcond.evaluation.tuning import read_tuning
from augcond.experiments.tuning.candidates import Candidate, candidate_of, config_of, designed
from augcond.experiments.tuning.schedule import Effort, schedule_of
from augcond.experiments.tuning.survey import training_passes
from augcond.experiments.tuning.tune import tune
from augcond.experiments.tuning.writing import tuned_config
from augcond.pipeline import evaluate, generate, train
from augcond.store import RunFolder

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "tuning"
WORK = REPOSITORY / "runs" / "tuning"
COARSE = REPOSITORY / "benchmarks" / "evidence" / "names" / "coarse.tsv"
"""Names that several classes share; without `data.several_names` these settings are left out, and said so."""

_WAIT = 2.0
_ALL_SOURCES = 99
"""Of the grid: every recipe of the design, also those that folds could not judge."""

logger = logging.getLogger("benchmarks.tuning")

Prompts = Mapping[str, Mapping[str, Any]]
PROMPTS: Prompts = {
    "named": {},
    "unnamed": {"prompt": ["a photo of a garment"]},
    "coarse": {"data": {"class_names": str(COARSE), "several_names": True}},
}
"""How prompts name the classes, as sections of the config."""


@dataclass(frozen=True, slots=True)
class World:
    """One setting: which real images there are, and how prompts name their classes."""

    name: str
    split: Mapping[str, Any]
    plan: Mapping[str, Any]
    prompts: str


def _long_tail(imbalance: int, prompts: str) -> World:
    split = {"name": "long-tail", "imbalance": imbalance, "head": 100, "order": "shuffled"}
    return World(f"long-tail-{imbalance}-{prompts}", split, {"fill_to": 100}, prompts)


def _shots(count: int, prompts: str) -> World:
    return World(f"{count}-shot-{prompts}", {"name": "few-shot", "k": count}, {"per_class": 30}, prompts)


WORLDS = (
    _long_tail(50, "named"),
    _long_tail(50, "unnamed"),
    _long_tail(20, "coarse"),
    _shots(2, "named"),
    _shots(4, "unnamed"),
    _shots(4, "named"),
    _shots(8, "coarse"),
    _shots(16, "named"),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is.

    Attributes:
        worlds: the settings.
        seeds: of each.
        budgets: of a tuning, in images.
        base: sections of the config that all share.
        effort: of a tuning.
        sets: of the design that the grid measures; all where None.
    """

    worlds: tuple[World, ...] = WORLDS
    seeds: int = 5
    budgets: tuple[int, ...] = (500, 2000)
    base: Mapping[str, Any] = field(
        default_factory=lambda: {
            "data": {"source": "builtin"},
            "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 5},
            "training": {"model": "small-cnn", "batch_size": 32, "steps": 100, "seeds": 3},
        }
    )
    effort: Effort = field(default_factory=lambda: Effort(candidates=12, folds=3))
    sets: int | None = None


SMOKE = Scale(
    worlds=(_shots(3, "named"),),
    seeds=1,
    budgets=(60,),
    base={
        "data": {"source": "builtin"},
        "generator": {"name": "stable-unclip", "model": "builtin", "guidance_scale": 4.0, "steps": 1},
        "training": {"model": "small-cnn", "batch_size": 4, "steps": 1, "seeds": 1},
        "engine": {"shard_size": 64},
    },
    effort=Effort(candidates=3, sets=2, finalists=2, folds=2, trainings=2),
    sets=3,
)
"""Does the whole chain run on this machine? Its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work: its record's name, and what measures it."""

    name: str
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting with a seed."""

    world: World
    seed: int
    scale: Scale
    work: Path
    results: Path

    @property
    def name(self) -> str:
        """The folder of its records and runs."""
        return f"{self.world.name}/seed-{self.seed}"

    def config(self, run: str) -> RunConfig:
        """Return the config of a run of this pair; a seed is that of split, plan and training together."""
        values = json.loads(json.dumps(self.scale.base))
        for section, keys in PROMPTS[self.world.prompts].items():
            values[section] = {**values.get(section, {}), **keys} if isinstance(keys, Mapping) else keys
        values["data"]["split"] = {**self.world.split, "seed": self.seed}
        values["plan"] = {**self.world.plan, "seed": self.seed}
        trainings = values["training"]["seeds"]
        values["training"]["seeds"] = [self.seed * 100 + number for number in range(trainings)]
        return parse_config({**values, "run": str(self.work / self.name / run)}, origin=self.name)

    def grid(self) -> list[Candidate]:
        """Return the sets of images that are measured, trained on as configured."""
        return designed(self.config("unused"), _ALL_SOURCES)[0][: self.scale.sets]

    def units(self) -> Iterator[Unit]:
        """Yield the units, what a tuning chose last: its record must be there by then."""
        yield Unit(f"{self.name}/grid/{REAL_ONLY}", partial(self._measure, None))
        for each in self.grid():
            yield Unit(f"{self.name}/grid/{each.name}", partial(self._measure, each))
        for budget in self.scale.budgets:
            yield Unit(f"{self.name}/tune-{budget}", partial(self._tune, budget))
        for budget in self.scale.budgets:
            yield Unit(f"{self.name}/outcome-{budget}", partial(self._outcome, budget))

    def _measure(self, candidate: Candidate | None) -> dict[str, Any]:
        if candidate is None:
            given = self.config(f"grid/{REAL_ONLY}")
            return measured(_real_alone(given))
        run = self.config(f"grid/{candidate.name}").run
        return measured(config_of(self.config("unused"), candidate.settings, run, None))

    def _tune(self, budget: int) -> dict[str, Any]:
        started = time.perf_counter()
        found = tune(self.config(f"tune-{budget}"), str(budget), effort=self.scale.effort)
        kept = asdict(found)
        kept["seconds"] = round(time.perf_counter() - started)
        return kept

    def _outcome(self, budget: int) -> dict[str, Any]:
        config = self.config(f"tune-{budget}")
        folder = RunFolder(config.run)
        found = read_tuning(folder.tuning_path)
        name = candidate_of(found.settings).name if found.chosen != REAL_ONLY else REAL_ONLY
        known = read_record(self.results, f"{self.name}/grid/{name}")
        if known is not None:
            return {"chosen": name, **{on: known[on] for on in ("test", "validation")}}
        return {"chosen": name, **measured(tuned_config(folder, config, found), folder.cells())}


def _real_alone(config: RunConfig) -> RunConfig:
    training = config.training.model_dump() | {"arms": [{"name": REAL_ONLY}]}
    return config.model_copy(update={"training": type(config.training).model_validate(training)})


def measured(config: RunConfig, known: Sequence[RunFolder] = ()) -> dict[str, Any]:
    """Return the mean accuracy per class of each training of a run's last arm, on test and on validation images."""
    real_alone = [arm.name for arm in config.training.arms or ()] == [REAL_ONLY]
    if not real_alone:
        recipe = config.conditioning.recipe_names[0]
        training = config.training.model_dump() | {"arms": [{"name": recipe, "recipe": recipe}]}
        config = config.model_copy(update={"training": type(config.training).model_validate(training)})
        generate(config, reuse=[folder.path for folder in known if folder.plan_path.exists()])
    train(config)
    return {on: _class_means(evaluate(config, on=on)) for on in ("test", "validation")}


def _class_means(results: Results) -> list[float]:
    (arm,) = results.arms
    return [round(seed.metrics.class_mean, 6) for seed in arm.seeds]


def pairs_of(scale: Scale, work: Path, results: Path) -> tuple[list[Pair], list[str]]:
    """Return all pairs, seed by seed, and the settings that this version cannot measure."""
    possible = [world for world in scale.worlds if world.prompts != "coarse" or _knows_coarse()]
    missing = [world.name for world in scale.worlds if world not in possible]
    return [Pair(world, seed, scale, work, results) for seed in range(scale.seeds) for world in possible], missing


def _knows_coarse() -> bool:
    return "several_names" in DataConfig.model_fields and COARSE.is_file()


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
    if options.page:
        from benchmarks import tuning_page

        sys.stdout.write(tuning_page.write(options.results) + "\n")
        return 0
    scale = scale or (SMOKE if options.smoke else Scale())
    pairs, missing = pairs_of(scale, options.work, options.results)
    if options.seeds is not None:
        pairs = [pair for pair in pairs if pair.seed < options.seeds]
    if missing:
        sys.stdout.write(f"left out, for want of data.several_names: {', '.join(missing)}\n")
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
    for pair in pairs:
        left = [unit for unit in pair.units() if read_record(options.results, unit.name) is None]
        while left:
            states = []
            for unit in left:
                if time.monotonic() > until:
                    return 1 if failed else 0
                states.append(_try(unit, options))
            failed += states.count("failed")
            left = [unit for unit, state in zip(left, states, strict=True) if state in ("busy", "not ready")]
            if left and "done" not in states:
                if "busy" not in states:
                    break  # what they need has failed
                time.sleep(_WAIT)
    return 1 if failed else 0


def _try(unit: Unit, options: argparse.Namespace) -> Literal["done", "busy", "not ready", "failed"]:
    """Measure a unit, unless it is measured, another process is at it, or it needs what is not measured yet."""
    try:
        with exclusive(options.work / "locks" / f"{unit.name}.lock", "another process is at it"):
            if read_record(options.results, unit.name) is not None:
                return "done"
            if not _ready(unit, options.results):
                return "not ready"
            started = time.perf_counter()
            write_record(options.results, unit.name, {"format": FORMAT, "unit": unit.name, **unit.measure()})
            logger.info("%s: %.0f s", unit.name, time.perf_counter() - started)
            return "done"
    except RunLockedError:
        return "busy"
    except AugcondError as error:
        logger.error("%s: %s", unit.name, error)
        return "failed"


def _ready(unit: Unit, results: Path) -> bool:
    """Return whether what a unit needs is measured: an outcome needs its tuning."""
    return "/outcome-" not in unit.name or read_record(results, unit.name.replace("/outcome-", "/tune-")) is not None


IMAGES_A_SECOND, STEP_SECONDS, OVERHEAD = 60.0, 0.03, 4.0
"""About what one process of one thread does here on an idle core, at five sampling steps and batches of 32."""


def estimate(pairs: Sequence[Pair], results: Path) -> str:
    """Return in words what is left to do, and how long it takes one process."""
    units = images = trainings = 0
    seconds = 0.0
    if not pairs:
        return "nothing to measure"
    # The same real images for all; only their splits differ.
    pool = load_dataset(pairs[0].config("unused").data)
    for pair in pairs:
        config = pair.config("unused")
        real = source_images(config, pool, draw_split(config, pool))
        planned = sum(images_to_make(config.plan, real.classes, real.counts()))
        steps = config.training.steps * STEP_SECONDS
        for unit in pair.units():
            if read_record(results, unit.name) is not None:
                continue
            units += 1
            made, trained = 0, len(config.training.training_seeds)
            if "/tune-" in unit.name:
                classes = len(real.classes)
                schedule = schedule_of(int(unit.name.rpartition("-")[2]), classes, planned, 14, pair.scale.effort)
                made = schedule.images
                trained = training_passes(schedule, pair.scale.effort) * min(
                    pair.scale.effort.folds, max(real.counts())
                )
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
