"""Sweeps: the same experiment over a grid of settings and seeds, in one table.

Every cell of the grid is a run of its own under RUN/cells/, so a sweep resumes wherever it was stopped; images that
two cells define alike are made once. Arms of real images alone depend on no generation and are trained once per seed.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from augcond.config import RunConfig, parse_config
from augcond.config_training import ArmConfig
from augcond.datasets import load_dataset
from augcond.engine import NoProgress, Progress
from augcond.errors import ConfigError
from augcond.evaluation.evaluator import assemble_results
from augcond.evaluation.intervals import SeedPredictions, Trained
from augcond.evaluation.predictions import predictions_path, read_predictions
from augcond.evaluation.results import METRICS, REAL_ONLY, Difference, Results, results_to_json
from augcond.pipeline import evaluate, generate, train
from augcond.store.commit import write_atomically
from augcond.training.arms import arms_of
from augcond.training.identity import EvaluationPart, Seeds
from augcond.training.models import ModelCard, read_cards

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Given the name of a stage's items, returns what is told how far the stage is."""

# Keys that arms of real images alone depend on too.
_REAL_TOO = ("training.", "data.", "leaks", "evaluation.")
# Keys by which two runs may differ and still hold equal images.
_NOT_IMAGES = ("training.", "screening.", "evaluation.", "plan.", "conditioning.recipe")


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the config and the values that it takes."""

    key: str
    values: tuple[Any, ...]


def parse_axis(text: str) -> Axis:
    """Return the axis that `key=value,value,...` stands for; values are YAML.

    Raises:
        ConfigError: it is written otherwise.
    """
    key, separator, values = text.partition("=")
    try:
        parsed = yaml.safe_load(f"[{values}]") if separator else None
    except yaml.YAMLError:
        parsed = None
    if not key.strip() or not parsed:
        raise ConfigError(f"--over {text!r}: expected key=value,value, such as generator.guidance_scale=2,4,7")
    if len({json.dumps(value) for value in parsed}) != len(parsed):
        raise ConfigError(f"--over {text!r}: a value comes twice")
    return Axis(key.strip(), tuple(parsed))


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep.

    Attributes:
        config: of the run.
        point: the axes' values in it, by key; those of generation are left out where it generates nothing.
        seed: which of the sweep's seeds it is.
    """

    config: RunConfig
    point: Mapping[str, Any]
    seed: int

    def arm_name(self, arm: str, recipe: str | None) -> str:
        """Return what an arm of this cell is called in the table."""
        parts = [
            f"{key.rpartition('.')[2]}={_plain(value)}"
            for key, value in self.point.items()
            if not (key == "conditioning.recipe" and _plain(value) == recipe)
        ]
        return " ".join([arm, *parts])


def cells_of(config: RunConfig, axes: Sequence[Axis], seeds: int) -> list[Cell]:
    """Return the runs of a sweep: first those of real images alone, then the grid, seed by seed.

    A seed s of the sweep adds s to the seeds of the split (where there is one) and of the plan, and is the training
    seed.

    Args:
        config: what all cells share; its `run` is the sweep's folder.
        axes: what differs.
        seeds: number of seeds.

    Raises:
        ConfigError: an axis names no key of the config, or a value that it cannot take.
    """
    for axis in axes:
        if axis.key.split(".")[0] == "run" or axis.key in ("training.seeds", "training.arms", "plan.seed"):
            raise ConfigError(f"--over {axis.key}: a sweep sets this itself")
        if axis.key == "protocol":
            raise ConfigError("--over protocol: a protocol is a preset; name the keys in which two of them differ")
    arms = config.training.arms or (
        ArmConfig(name=REAL_ONLY),
        *(ArmConfig(name=recipe, recipe=recipe) for recipe in config.conditioning.recipe),
    )
    real = [arm for arm in arms if arm.recipe is None]
    found: dict[str, Cell] = {}
    for seed in range(seeds):
        for values in itertools.product(*(axis.values for axis in axes)):
            point = dict(zip((axis.key for axis in axes), values, strict=True))
            for chosen, own in ((_of_real(point), real), (point, _generating(config, point))):
                if own:
                    cell = _cell(config, chosen, own, seed)
                    found.setdefault(str(cell.config.run), cell)
    cells = list(found.values())
    return sorted(cells, key=lambda cell: any(arm.recipe for arm in cell.config.training.arms or ()))


def _of_real(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `point` that arms of real images alone depend on."""
    return {key: value for key, value in point.items() if key.startswith(_REAL_TOO)}


def _generating(config: RunConfig, point: Mapping[str, Any]) -> list[ArmConfig]:
    """Return the arms with synthetic images at `point`; none where it makes none."""
    if 0 in (point.get("plan.per_class"), point.get("plan.fill_to")):
        return []
    recipes = point.get("conditioning.recipe")
    planned = config.conditioning.recipe if recipes is None else (recipes,) if isinstance(recipes, str) else recipes
    if config.training.arms is None:
        return [ArmConfig(name=recipe, recipe=recipe) for recipe in planned]
    return [arm for arm in config.training.arms if arm.recipe in planned or arm.recipe == "unused-real"]


def _cell(config: RunConfig, point: Mapping[str, Any], arms: Sequence[ArmConfig], seed: int) -> Cell:
    values = config.model_dump(mode="json")
    overrides = {**point, "plan.seed": config.plan.seed + seed, "training.seeds": [seed]}
    if config.data.split is not None:
        overrides["data.split.seed"] = config.data.split.seed + seed
    # The two ways to say how many: one replaces the other.
    for key, other in (("plan.per_class", "plan.fill_to"), ("plan.fill_to", "plan.per_class")):
        if key in point:
            overrides[other] = None
    overrides["training.arms"] = [arm.model_dump(mode="json") for arm in arms]
    name = ",".join(f"{key}={_plain(value)}" for key, value in point.items()) or "base"
    kind = "real" if all(arm.recipe is None for arm in arms) else "synthetic"
    overrides["run"] = str(config.run / "cells" / kind / re.sub(r"[^\w.,=+-]", "_", name) / f"seed-{seed}")
    texts = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return Cell(parse_config(values, texts, origin=f"the cell {name}"), point, seed)


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def sweep(
    config: RunConfig,
    axes: Sequence[Axis],
    *,
    seeds: int = 3,
    part: EvaluationPart = "validation",
    progress: Stage | None = None,
) -> Results:
    """Run every cell of a grid, and write RUN/sweep.json, .csv and .md; call it again to resume.

    Args:
        config: what all cells share; `config.run` is the folder of the sweep.
        axes: what differs.
        seeds: number of seeds of split, plan and training together.
        part: what models are judged on: `validation` to choose, `test` for a table that nothing is chosen by.
        progress: see `Stage`.

    Raises:
        AugcondError: as the stages do.
    """
    stage = progress or (lambda what: nullcontext(NoProgress()))
    cells = cells_of(config, axes, seeds)
    made: list[Cell] = []
    judged: list[Results] = []
    for number, cell in enumerate(cells, start=1):
        here = f"(run {number} of {len(cells)})"
        if any(arm.kind == "synthetic" for arm in arms_of(cell.config)):
            with stage(f"images {here}") as told:
                generate(cell.config, reuse=_alike(cell, made), progress=told)
            made.append(cell)
        with stage(f"training steps {here}") as told:
            train(cell.config, progress=told)
        with stage(f"models judged {here}") as told:
            judged.append(evaluate(cell.config, part=part, progress=told))
    results = _collect(config, cells, judged, part)
    config.run.mkdir(parents=True, exist_ok=True)
    write_atomically(config.run / "sweep.json", results_to_json(results).encode())
    write_atomically(config.run / "sweep.csv", to_csv(results).encode())
    write_atomically(config.run / "sweep.md", to_markdown(results).encode())
    return results


def _alike(cell: Cell, made: Sequence[Cell]) -> list[Path]:
    """Return the runs of earlier cells whose images may be equal: same seed, same settings of the generation."""

    def settings(of: Cell) -> dict[str, Any]:
        return {key: value for key, value in of.point.items() if not key.startswith(_NOT_IMAGES)}

    return [other.config.run for other in made if other.seed == cell.seed and settings(other) == settings(cell)]


def _collect(config: RunConfig, cells: Sequence[Cell], judged: Sequence[Results], part: EvaluationPart) -> Results:
    """Return the results of all cells as those of one run, each arm with the seeds and the settings of its cells."""
    settings: dict[str, Mapping[str, Any]] = {}
    cards: list[ModelCard] = []
    models: dict[str, dict[Seeds, SeedPredictions]] = {}
    real: dict[str, str] = {}
    for cell, own_results in zip(cells, judged, strict=True):
        seconds = {(arm.name, seed.seeds): seed.evaluation_seconds for arm in own_results.arms for seed in arm.seeds}
        for card in read_cards(cell.config.run):
            path = cell.config.run / predictions_path(part, card.arm, card.seeds.training)
            name = cell.arm_name(card.arm, card.recipe)
            kept = path.relative_to(config.run).as_posix()
            own = SeedPredictions(read_predictions(path), card.real_counts, kept, seconds[card.arm, card.seeds])
            settings[name] = cell.point
            models.setdefault(name, {})[card.seeds] = own
            cards.append(replace(card, arm=name))
            real[name] = replace(cell, point=_of_real(cell.point)).arm_name(REAL_ONLY, None)
    first = next(iter(models))
    pool = load_dataset(config.data)

    def baselines(name: str) -> list[str]:
        same_training = real[name]
        return [same_training if same_training in models else first]

    trained: dict[str, Trained] = dict(models)
    results = assemble_results(config, pool, cards, trained, part=part, baselines=baselines)
    return replace(results, arms=tuple(replace(arm, settings=dict(settings[arm.name])) for arm in results.arms))


_COLUMNS = ("arm", "recipe", "leaky", "seeds", "real images", "synthetic images", *METRICS, "spread of overall")
_GAIN = ("baseline", "gain", "gain low", "gain high")


def to_csv(results: Results) -> str:
    """Return one line per arm; accuracies as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_GAIN])
    writer.writerows(_lines(results))
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """Return one line per arm; accuracies in percent."""
    shown = ("overall", "class_mean", "many", "medium", "few")
    titles = ["arm", "seeds", "synthetic", *(name.replace("_", " ") for name in shown), "gain on overall (95 %)"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    gains = _gains(results)
    for arm in results.arms:
        gain = gains.get(arm.name)
        cells = [_percent(getattr(arm.mean, name), getattr(arm.spread, name, None)) for name in shown]
        interval = f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f}, {100 * gain.high:+.1f})" if gain else ""
        name = f"{arm.name} (leaky)" if arm.leaky else arm.name
        lines.append("| " + " | ".join([name, str(len(arm.seeds)), str(arm.synthetic_images), *cells, interval]) + " |")
    return "\n".join([*lines, "", f"Percent of {results.test_images} {results.part} images by {results.model}.", ""])


def _lines(results: Results) -> Iterator[list[Any]]:
    gains = _gains(results)
    for arm in results.arms:
        gain = gains.get(arm.name)
        metrics = [getattr(arm.mean, name) for name in METRICS]
        spread = arm.spread.overall if arm.spread is not None else None
        head = [arm.name, arm.recipe, arm.leaky, len(arm.seeds), arm.real_images, arm.synthetic_images]
        yield [*head, *metrics, spread, *((gain.baseline, gain.mean, gain.low, gain.high) if gain else [None] * 4)]


def _gains(results: Results) -> dict[str, Difference]:
    return {gain.arm: gain for gain in results.differences if gain.metric == "overall"}


def _percent(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")
