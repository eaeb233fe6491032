"""What fewer seconds per image do to the classifier: twelve ways to sample, with accuracy beside the time.

    python -m benchmarks.speed_accuracy                        # resumes wherever it was stopped
    python -m benchmarks.speed_accuracy --budget-minutes 60    # starts no unit after an hour
    python -m benchmarks.speed_accuracy --estimate             # what is left
    python -m benchmarks.speed_accuracy --smoke                # does the chain run here? Its numbers mean nothing
    python -m benchmarks.speed_accuracy --page                 # the table on the terminal, docs/img/speed-accuracy.svg

On the built-in world: the long tail and few shots (k = 2 and 4), for `text` and `dropout`, each with the settings that
the evidence (`benchmarks/evidence`) tuned, and with 8 seeds. A unit is one run, as in the evidence: generated, trained
and judged by augcond, then one JSON record in benchmarks/results/speed_accuracy/. Units of `time` make 48 images in
each of the twelve ways, in turn, so that none has a quieter machine than another. Several processes share the work.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.evidence.campaign import Campaign
from benchmarks.evidence.estimate import Rates, Work, work_of
from benchmarks.evidence.locks import exclusive
from benchmarks.evidence.measured import Measured, Row
from benchmarks.evidence.measuring import Measuring
from benchmarks.evidence.records import FORMAT, Record, read_record, read_records, write_record
from benchmarks.evidence.settings import FULL, SMOKE, Protocol, Scale, synthetic
from benchmarks.evidence.units import Setting, Unit, make_unit

from augcond.config import EvaluationConfig, GeneratorConfig
from augcond.errors import RunLockedError
from augcond.evaluation.intervals import SeedPredictions, compare, with_intervals
from augcond.evaluation.metrics import Predictions
from augcond.evaluation.results import Difference
from augcond.generators import load_generator
from augcond.generators.denoising import Guidance
from augcond.training.arms import HeldOut, Seeds

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "speed_accuracy"
EVIDENCE = REPOSITORY / "benchmarks" / "results" / "evidence"
WORK = REPOSITORY / "runs" / "speed_accuracy"
FIGURE = REPOSITORY / "docs" / "img" / "speed-accuracy.svg"
SEEDS = 8
RECIPES = ("text", "dropout")
Cell = tuple[Protocol, int | None]

CELLS: tuple[Cell, ...] = (("long-tail", None), ("few-shot", 2), ("few-shot", 4))
ROUNDS = 5
TIMED, BATCH = 48, 16
_INTERVAL = (0.25, 0.75)
"""Of the steps, where guidance that is limited applies: noise neither highest nor lowest (arXiv 2404.07724)."""

logger = logging.getLogger("benchmarks.speed_accuracy")


@dataclass(frozen=True, slots=True)
class Point:
    """One way to sample.

    Attributes:
        name: of its rows.
        steps: of the denoising.
        interval: in which guidance applies.
        cache: every so many steps everything is computed.
    """

    name: str
    steps: int
    interval: tuple[float, float] = (0.0, 1.0)
    cache: int = 1

    @property
    def overrides(self) -> dict[str, Any]:
        """What a config sets for it; the scale of guidance is what tuning chose."""
        cache = {"interval": self.cache, "branch": 0} if self.cache > 1 else None
        generator = {"steps": self.steps, "guidance_interval": list(self.interval), "cache": cache}
        return {f"generator.{key}": value for key, value in generator.items()}

    @property
    def calls(self) -> tuple[int, int]:
        """How often an image calls the UNet, whole and its outer layers alone; twice in a guided step."""
        guidance, whole, outer, kept, uses = Guidance(2.0, self.interval), 0, 0, 0, 0
        for step in range(self.steps):
            rows = 2 if guidance.applies(step, self.steps) else 1
            if kept < rows or uses == self.cache:
                whole, kept, uses = whole + rows, rows, 1
            else:
                outer, uses = outer + rows, uses + 1
        return whole, outer


DEFAULT = Point("20", 20)
POINTS = (
    DEFAULT,
    *(Point(str(steps), steps) for steps in (12, 8, 5, 3)),
    *(Point(f"{steps}-interval", steps, _INTERVAL) for steps in (12, 8, 5)),
    *(Point(f"{steps}-cache-{every}", steps, cache=every) for steps in (20, 12) for every in (2, 3)),
)


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        scale: of the runs, as in the evidence.
        results, evidence, work: the folders of the records, of the evidence's records, and of the runs.
        revision: of the generator's weights.
        points, seeds, rounds, timed, cells: how much.
        tuned: whether to take what the evidence tuned; the first setting of its grids where not.
    """

    scale: Scale
    results: Path
    evidence: Path
    work: Path
    revision: str
    points: Sequence[Point] = POINTS
    seeds: int = SEEDS
    rounds: int = ROUNDS
    timed: int = TIMED
    tuned: bool = True
    cells: Sequence[Cell] = CELLS

    def units(self) -> Iterator[Unit]:
        """Yield all runs, seed by seed: after each there is a whole table for one seed more."""
        campaign = Campaign(self.scale, self.evidence, self.work, self.revision, self.seeds, guess=not self.tuned)
        for seed in range(self.seeds):
            for protocol, shots in self.cells:
                for recipe in RECIPES:
                    setting = campaign.with_tuned(Setting(protocol, (synthetic(recipe),), seed, shots))
                    for point in self.points:
                        yield self._unit(table(protocol, shots, recipe, point), setting, point)

    def _unit(self, name: str, setting: Setting, point: Point) -> Unit:
        own = replace(setting, overrides={**setting.overrides, **point.overrides})
        judged: tuple[HeldOut, ...] = ("validation", "test")
        return make_unit(
            f"{name}/seed-{setting.seed}", own, self.scale, work=self.work, revision=self.revision, judged=judged
        )


def table(protocol: Protocol, shots: int | None, recipe: str, point: Point) -> str:
    """Return what the records of one row have in common."""
    return f"{protocol}{'' if shots is None else f'-k{shots}'}/{recipe}/{point.name}"


def time_round(plan: Plan, number: int) -> Record:
    """Make some images in every way, in turn, and return the record of the seconds that each took."""
    import torch

    from augcond.conditioning import Conditioning

    base = GeneratorConfig.model_validate({**plan.scale.base["generator"], "guidance_scale": 10.0})
    seconds: dict[str, float] = {}
    for point in plan.points:
        values = {key.removeprefix("generator."): value for key, value in point.overrides.items()}
        generator = load_generator(GeneratorConfig.model_validate({**base.model_dump(mode="json"), **values}))
        noise = torch.Generator().manual_seed(number)
        rows = min(BATCH, plan.timed)
        embeddings = torch.randn(rows, *generator.embedding_shape, generator=noise)
        conditioning = Conditioning(embeddings, torch.ones(rows, dtype=torch.bool), ("a photo of a shirt",) * rows)
        generator.generate(conditioning.take([0]), [0])  # loads what is loaded late
        started = time.perf_counter()
        for first in range(0, plan.timed, rows):
            generator.generate(conditioning, list(range(first, first + rows)))
        seconds[point.name] = (time.perf_counter() - started) / (rows * math.ceil(plan.timed / rows))
    return {
        "format": FORMAT,
        "unit": f"time/round-{number}",
        "seconds_per_image": seconds,
        "threads": torch.get_num_threads(),
        "revision": plan.revision,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed_accuracy", description=about)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"at most so many (default {SEEDS})")
    parser.add_argument("--budget-minutes", type=float, default=math.inf, help="start no unit after so many minutes")
    parser.add_argument("--results", type=Path, help="folder of the records")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="the SVG that --page writes")
    parser.add_argument("--estimate", action="store_true", help="say what is left, and how long it takes")
    parser.add_argument("--page", action="store_true", help="print the table and draw the figure; measure nothing")
    parser.add_argument("--smoke", action="store_true", help="tiny runs, whose records lie in the folder of the runs")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.work = options.work / "smoke"
        options.results = options.results or options.work / "results"
    options.results = options.results or RESULTS
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, and return the exit code."""
    options = parse(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    scale = SMOKE if options.smoke else FULL
    identity = load_generator(GeneratorConfig.model_validate(scale.base["generator"])).identity
    plan = Plan(scale, options.results, EVIDENCE, options.work, identity.revision, seeds=options.seeds)
    if options.smoke:
        points = (DEFAULT, POINTS[4], POINTS[-1])
        plan = replace(plan, points=points, seeds=3, rounds=1, timed=4, tuned=False, cells=CELLS[1:2])
    if options.page:
        show(plan, options.work / FIGURE.name if options.smoke else options.figure)
        return 0
    about = {"name": identity.name, "model": identity.model, "revision": identity.revision}
    measuring = Measuring(options.results, about)
    if options.estimate:
        estimate(plan, measuring)
        return 0
    deadline = time.monotonic() + 60 * options.budget_minutes
    for name, work in pending(plan, measuring):
        if time.monotonic() >= deadline:
            logger.info("time is up; the same command goes on")
            return 0
        try:
            with exclusive(options.work / "locks" / f"{name}.lock", "another process is at it"):
                if not _is_there(plan, measuring, name, work):
                    record = time_round(plan, work) if isinstance(work, int) else measuring.measure(work)
                    if isinstance(work, int):
                        write_record(options.results, name, record)
                    logger.info("%s", name)
        except RunLockedError:
            continue
    logger.info("nothing left")
    return 0


def pending(plan: Plan, measuring: Measuring) -> Iterator[tuple[str, Unit | int]]:
    """Yield what is not measured yet: rounds of the clock by their number, and units."""
    rounds: list[tuple[str, Unit | int]] = [(f"time/round-{number}", number) for number in range(plan.rounds)]
    for name, work in (*rounds, *((unit.name, unit) for unit in plan.units())):
        if not _is_there(plan, measuring, name, work):
            yield name, work


def _is_there(plan: Plan, measuring: Measuring, name: str, work: Unit | int) -> bool:
    if isinstance(work, Unit):
        return measuring.is_done(work)
    record = read_record(plan.results, name)
    return record is not None and record["revision"] == plan.revision


def estimate(plan: Plan, measuring: Measuring) -> None:
    """Print what is left."""
    left = [work for _, work in pending(plan, measuring) if isinstance(work, Unit)]
    # A process of one thread calls the UNet 320 times a second on an idle core; outer layers take 0.4 of that.
    rates = {point.name: 320 / (point.calls[0] + 0.4 * point.calls[1]) for point in plan.points}
    amounts: dict[str, Work] = {}
    hours = 0.0
    for unit in left:
        *cell, point, seed = unit.name.split("/")
        key = "/".join((*cell, seed))
        if key not in amounts:  # as many images and steps in every way to sample
            amounts[key] = work_of([unit])
        hours += amounts[key].hours(Rates(images=rates[point], step=0.04, overhead=6.0))
    sys.stdout.write(f"{len(left)} units left; about {hours:.1f} hours of one process of one thread on an idle core\n")


@dataclass(frozen=True, slots=True)
class Line:
    """One way to sample, measured.

    Attributes:
        point: which.
        seconds: per image, the median of the rounds; None where it was not timed.
        accuracy: mean over recipes, cells and seeds, as a share of the test images.
        validation: by seed, the same of the validation images.
        difference: to the default, over the mean of recipes and cells, with its interval; None for the default.
        by_recipe: the same for each recipe.
    """

    point: Point
    seconds: float | None
    accuracy: float
    validation: Mapping[int, float]
    difference: Difference | None
    by_recipe: Mapping[str, Difference | None]


def lines(plan: Plan) -> list[Line]:
    """Return what was measured of every point of which there is anything."""
    records = list(read_records(plan.results))
    timed = [record["seconds_per_image"] for record in records if record["unit"].startswith("time/")]
    measured = Measured(record for record in records if not record["unit"].startswith("time/"))
    found = []
    for point in plan.points:
        rows = {recipes: _rows(plan, measured, point, recipes) for recipes in (RECIPES, *((one,) for one in RECIPES))}
        if not rows[RECIPES]:
            continue
        to_default = {
            recipes: None if point == DEFAULT else paired(mine, _rows(plan, measured, DEFAULT, recipes))
            for recipes, mine in rows.items()
        }
        seconds = [times[point.name] for times in timed if point.name in times]
        accuracy = statistics.fmean(row.mean() or 0.0 for row in rows[RECIPES])
        own = {recipe: to_default[recipe,] for recipe in RECIPES}
        time_of_one = statistics.median(seconds) if seconds else None
        found.append(Line(point, time_of_one, accuracy, _validation(rows[RECIPES]), to_default[RECIPES], own))
    return found


def _rows(plan: Plan, measured: Measured, point: Point, recipes: Sequence[str]) -> list[Row]:
    named = [(table(*cell, recipe, point), recipe) for cell in plan.cells for recipe in recipes]
    return [row for where in named if (row := measured.row(*where)) is not None]


def _validation(rows: Sequence[Row]) -> dict[int, float]:
    """Return the mean accuracy on the validation images, by the seeds that all rows have."""
    return {
        seed: statistics.fmean(row.only(seed).mean(part="validation") or 0.0 for row in rows)
        for seed in sorted(set.intersection(*(set(row.records) for row in rows)))
    }


def paired(mine: Sequence[Row], base: Sequence[Row]) -> Difference | None:
    """Return the difference of the mean accuracies of two lists of rows, paired over seeds and test images."""
    pair = {"this": _pooled(mine), "default": _pooled(base)}
    if not pair["this"].keys() & pair["default"].keys():
        return None
    found = compare("this", "default", pair, EvaluationConfig())
    return with_intervals([one for one in found if one.metric == "overall"])[0]


def _pooled(rows: Sequence[Row]) -> dict[Seeds, SeedPredictions]:
    """Return the predictions of all rows as those of one model per common seed; all have as many test images."""
    import numpy as np

    trained = [row.trained() for row in rows]
    pooled = {}
    for seed in set.intersection(*(set(found) for found in trained)) if trained else ():
        parts = [found[seed].predictions for found in trained]
        predictions = Predictions(
            tuple(f"{number}/{key}" for number, part in enumerate(parts) for key in part.keys),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
        )
        pooled[seed] = SeedPredictions(predictions, trained[0][seed].real_counts)
    return pooled


def show(plan: Plan, figure: Path) -> None:
    """Print the table as Markdown, and draw accuracy over seconds with the frontier."""
    found = lines(plan)
    best = frontier(found)
    heads = ("sampling", "UNet calls", "outer", "s/image", "validation", "test", "to 20 steps", *RECIPES)
    rows = [heads, ("---",) * len(heads)]
    for line in found:
        whole, outer = line.point.calls
        seconds = "" if line.seconds is None else f"{line.seconds:.4f}"
        name = f"**{line.point.name}**" if line.point in best else line.point.name
        differences = (line.difference, *(line.by_recipe[recipe] for recipe in RECIPES))
        shares = (statistics.fmean(line.validation.values()), line.accuracy)
        accuracies = (f"{100 * share:.1f}" for share in shares)
        rows.append((name, f"{whole}", f"{outer}", seconds, *accuracies, *map(_interval, differences)))
    sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in rows))
    choice = chosen(found)
    sys.stdout.write(f"\nDefault by the validation images: {choice.name if choice else 'not decided'}\n")
    if any(line.seconds is not None for line in found):
        draw(found, best, figure)


def frontier(found: Sequence[Line]) -> list[Point]:
    """Return the points than which none is both faster and as accurate, the fastest first."""
    timed = sorted((line for line in found if line.seconds is not None), key=lambda line: line.seconds or 0.0)
    return [line.point for at, line in enumerate(timed) if all(one.accuracy < line.accuracy for one in timed[:at])]


def chosen(found: Sequence[Line]) -> Point | None:
    """Return the default that the validation images speak for; None where there are not two seeds of all, or no times.

    Of the ways that cost at most a third of the default's calls of the UNet and are at least 2.5 times as fast by the
    clock, the fastest whose shortfall to the most accurate is at most one standard error of it, paired over seeds
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
    """
    default = next((line for line in found if line.point == DEFAULT), None)
    if default is None or default.seconds is None:
        return None
    allowed = [
        line
        for line in found
        if line.seconds and 2.5 * line.seconds <= default.seconds and 3 * line.point.calls[0] <= DEFAULT.calls[0]
    ]
    seeds = sorted(set.intersection(*(set(line.validation) for line in allowed))) if allowed else []
    if len(seeds) < 2:
        return None
    best = max(allowed, key=lambda line: statistics.fmean(line.validation[seed] for seed in seeds))

    def as_good(line: Line) -> bool:
        shortfalls = [best.validation[seed] - line.validation[seed] for seed in seeds]
        return statistics.fmean(shortfalls) <= statistics.stdev(shortfalls) / math.sqrt(len(seeds))

    return min(filter(as_good, allowed), key=lambda line: line.seconds or 0.0).point


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return ""
    mean = f"{100 * difference.mean:+.1f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def draw(found: Sequence[Line], best: Sequence[Point], path: Path) -> None:
    """Draw accuracy over seconds per image; the same records give the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    timed = {line.point: (line.seconds, 100 * line.accuracy) for line in found if line.seconds is not None}
    with plt.rc_context({"svg.hashsalt": "augcond", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
        axes.plot(*zip(*(timed[point] for point in best), strict=True), color="#0072b2", linewidth=1, zorder=1)
        for point, (seconds, accuracy) in timed.items():
            colour = "#0072b2" if point in best else "#999999"
            axes.plot([seconds], [accuracy], "o", color=colour, markersize=5, zorder=2)
            axes.annotate(point.name, (seconds, accuracy), (4, 4), textcoords="offset points", fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("seconds per image")
        axes.set_ylabel("accuracy of the classifier in %,\nmean over recipes and cells")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A date would change the file whenever it is drawn.
        figure.savefig(path, format=path.suffix.removeprefix("."), metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
