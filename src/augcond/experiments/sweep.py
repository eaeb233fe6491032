"""Sweeps: the same experiment over a grid of settings and seeds, in one table.

Every cell of the grid is a run of its own under RUN/cells/, so a sweep resumes wherever it was stopped; images that
two cells define alike are made once. Arms of real images alone depend on no generation (but for those that use the
generator's own encoder) and are trained once per seed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from augcond.checks import EVERYTHING, Listed, ensure_ready
from augcond.config import EvaluationConfig, RunConfig, parse_config, relative_paths
from augcond.config.training import ArmConfig
from augcond.datasets import load_dataset
from augcond.errors import ConfigError, RunError
from augcond.evaluation.evaluator import assemble_results
from augcond.evaluation.intervals import SeedPredictions, Trained
from augcond.evaluation.predictions import read_predictions
from augcond.evaluation.results import REAL_ONLY, Results, write_results
from augcond.experiments.axes import OTHER_AMOUNT, Axis, in_names, setting_at, validated
from augcond.files import write_atomically
from augcond.guest import as_guest
from augcond.pipeline import evaluate, generate, train
from augcond.progress import Stage, no_stage
from augcond.registry import short_name
from augcond.report.tables import plain, to_csv, to_latex, to_markdown
from augcond.store import RunFolder
from augcond.training.arms import UNUSED_REAL, HeldOut, Seeds, arms_of, default_arms
from augcond.training.cards import ModelCard, read_cards

# Bytes that a file system takes in a name, and those of a longer one that are kept.
_LONGEST_NAME, _KEPT_OF_NAME = 255, 100

_APART = 10_000
"""Between two training seeds of one seed of a sweep."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep.

    Attributes:
        config: of the run.
        point: the axes' values in it, by key; those that its arms do not depend on are left out.
        seed: which of the sweep's seeds it is.
    """

    config: RunConfig
    point: Mapping[str, Any]
    seed: int

    def arm_name(self, arm: str, recipe: str | tuple[str, ...] | None) -> str:
        """Return what an arm of this cell is called in the table."""
        parts = [
            f"{key.rpartition('.')[2]}={in_names(value)}"
            for key, value in self.point.items()
            if not (key == "conditioning.recipe" and short_name(in_names(value)) == recipe)
        ]
        return " ".join([arm, *parts])


def cells_of(config: RunConfig, axes: Sequence[Axis], seeds: int, trainings: int = 1) -> list[Cell]:
    """Return the runs of a sweep: first those of real images alone, then the grid, seed by seed.

    A seed s of the sweep adds s to the seeds of the split (where there is one) and of the plan, and is the training
    seed.

    Args:
        config: what all cells share; its `run` is the sweep's folder.
        axes: what differs.
        seeds: number of seeds.
        trainings: of each seed.

    Raises:
        ConfigError: an axis names no key of the config, a value that it cannot take, or a recipe that no arm has.
    """
    axes = [validated(config, axis) for axis in axes]
    meanings = {axis.key: axis.meanings for axis in axes if axis.meanings}
    found: dict[str, Cell] = {}
    for seed in range(seeds):
        for values in itertools.product(*(axis.values for axis in axes)):
            point = dict(zip((axis.key for axis in axes), values, strict=True))
            for chosen, arms in (*_real_alone(config, point), (point, _generating(config, point))):
                if arms:
                    meant = {key: meanings[key][name] for key, name in chosen.items() if key in meanings}
                    cell = _cell(config, chosen, meant, arms, (seed, trainings))
                    found.setdefault(str(cell.config.run), cell)
    cells = list(found.values())
    return sorted(cells, key=lambda cell: any(arm.recipe for arm in cell.config.training.arms or ()))


def _real_arms(config: RunConfig) -> list[ArmConfig]:
    """Return the arms of real images alone."""
    return [arm for arm in config.training.arms or default_arms(()) if arm.recipe is None]


def _real_alone(config: RunConfig, point: Mapping[str, Any]) -> list[tuple[dict[str, Any], list[ArmConfig]]]:
    """Return the parts of `point` that arms of real images alone depend on, each with those arms."""
    found: dict[str, tuple[dict[str, Any], list[ArmConfig]]] = {}
    for arm in _real_arms(config):
        part = _of_real(config, point, arm)
        found.setdefault(point_name(part), (part, []))[1].append(arm)
    return list(found.values())


def _of_real(config: RunConfig, point: Mapping[str, Any], arm: ArmConfig) -> dict[str, Any]:
    """Return the part of `point` that an arm of real images alone depends on; a probe of the generator on that, too."""
    model = arm.overrides.get("model", point.get("training.model", config.training.model))

    def depends(key: str) -> bool:
        probed = model == "generator" and f"{key}.".startswith("generator.")
        return probed or setting_at(config, key).decides in ("real", "models", "judgement")

    return {key: value for key, value in point.items() if depends(key)}


def _generating(config: RunConfig, point: Mapping[str, Any]) -> list[ArmConfig]:
    """Return the arms with synthetic images at `point`; none where it makes none."""
    if 0 in (point.get("plan.per_class"), point.get("plan.fill_to")):
        return []
    recipes = point.get("conditioning.recipe")
    named = config.conditioning.recipe if recipes is None else (recipes,) if isinstance(recipes, str) else recipes
    planned = [short_name(name) for name in named]
    arms = config.training.arms or default_arms(planned)
    return [arm for arm in arms if arm.recipes and {UNUSED_REAL, *planned}.issuperset(arm.recipes)]


def _cell(
    config: RunConfig,
    point: Mapping[str, Any],
    meant: Mapping[str, Any],
    arms: Sequence[ArmConfig],
    seeded: tuple[int, int],
) -> Cell:
    """Return the run at `point`, where `meant` says what names in it stand for.

    Args:
        config: what all cells share.
        point: the axes' values, by key.
        meant: of those that are names, by key.
        arms: of the run.
        seeded: which of the sweep's seeds it is, and how many trainings each of them has.
    """
    values, (seed, trainings) = config.model_dump(mode="json"), seeded
    overrides = {**point, **meant, "plan.seed": config.plan.seed + seed, "training.seeds": _trained(seed, trainings)}
    if config.data.split is not None:
        overrides["data.split.seed"] = config.data.split.seed + seed
    # The two ways to say how many: one replaces the other.
    overrides |= dict.fromkeys(other for key, other in OTHER_AMOUNT.items() if key in point)
    # Its rows have other names there; the table of all cells is what gets verdicts.
    overrides["evaluation.primary"] = []
    overrides["sweep"] = None
    overrides["training.arms"] = [arm.model_dump(mode="json") for arm in arms]
    name = point_name(point)
    kind = "real" if all(arm.recipe is None for arm in arms) else "synthetic"
    overrides["run"] = str(RunFolder(config.run).cell_path(kind, name, seed))
    texts = tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())
    return Cell(parse_config(values, texts, origin=f"the cell {name}"), point, seed)


def _trained(seed: int, trainings: int) -> list[int]:
    """Return the training seeds of a seed of the sweep: none of them another's."""
    return [seed + _APART * number for number in range(trainings)]


def point_name(point: Mapping[str, Any]) -> str:
    """Return what the folder of `point` is called; with a hash where what can be read of it is not all of it."""
    parts = [(key, in_names(value)) for key, value in point.items()]
    name = ",".join(map("=".join, parts)) or "base"
    exact = all(re.fullmatch(r"[\w.+-]*", text) for part in parts for text in part)
    if exact and len(name.encode()) <= _LONGEST_NAME:
        return name
    kept = re.sub(r"[^\w.,=+-]", "_", name).encode()[:_KEPT_OF_NAME].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(json.dumps(point).encode()).hexdigest()[:8]}"


@as_guest
def sweep(
    config: RunConfig,
    axes: Sequence[Axis],
    *,
    seeds: int = 3,
    trainings: int = 1,
    on: HeldOut = "validation",
    progress: Stage = no_stage,
) -> Results:
    """Run every cell of a grid, and write RUN/sweep.json, .csv, .md and .tex; call it again to resume.

    Args:
        config: what all cells share; `config.run` is the folder of the sweep.
        axes: what differs.
        seeds: number of seeds of split, plan and training together.
        trainings: of each seed; they are averaged before anything is compared.
        on: what models are judged on: `validation` to choose, `test` for a table that nothing is chosen by.
        progress: see `augcond.progress.Stage`.

    Raises:
        RunError: `config.run` holds a run.
        AugcondError: as the stages do.
    """
    refuse_run(config.run)
    cells = cells_of(config, axes, seeds, trainings)
    _check_primary(config, cells)
    listed: Listed = {}
    for cell in cells:
        generates = any(arm.kind == "synthetic" for arm in arms_of(cell.config))
        ensure_ready(cell.config, EVERYTHING if generates else {"train", "evaluate"}, on, listed)
    made: list[Cell] = []
    judged: list[Results] = []
    for number, cell in enumerate(cells, start=1):
        here = f"(run {number} of {len(cells)})"
        if any(arm.kind == "synthetic" for arm in arms_of(cell.config)):
            with progress(f"images {here}") as told:
                generate(cell.config, reuse=_alike(cell, made), progress=told)
            made.append(cell)
        with progress(f"training steps {here}") as told:
            train(cell.config, progress=told)
        with progress(f"models judged {here}") as told:
            judged.append(evaluate(cell.config, on=on, progress=told))
    results = _collect(config, cells, judged, on)
    config.run.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(config.run)
    write_results(folder.sweep_path, results)
    # Values that have names have them from the config's own `sweep:`, which is kept with it.
    written = [] if any(axis.meanings for axis in axes) else [shlex.quote(_written(axis)) for axis in axes]
    command = " ".join([*(f"--over {text}" for text in written), f"--seeds {seeds} --on {on}"])
    command += f" --trainings {trainings}" if trainings > 1 else ""
    shared = relative_paths(config.model_dump(mode="json"), config.run.resolve()) | {"run": "."}
    kept = yaml.safe_dump(shared, sort_keys=False, allow_unicode=True)
    write_atomically(folder.sweep_table_path("yaml"), f"# augcond sweep config.yaml {command}\n{kept}".encode())
    for ending, text in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
        write_atomically(folder.sweep_table_path(ending), text(results).encode())
    return results


def refuse_run(path: Path) -> None:
    """Check that the folder of a sweep is not that of a run: of one that is both, commands would take the sweep.

    Raises:
        RunError: a run lies there.
    """
    folder = RunFolder(path)
    if folder.exists and not folder.cells():
        raise RunError(f"{path} holds a run, and a sweep has a folder of its own: add --set run={path}-sweep")


def _written(axis: Axis) -> str:
    """Return an axis as `--over` takes it."""
    return f"{axis.key}={','.join(map(plain, axis.values))}"


def _check_primary(config: RunConfig, cells: Sequence[Cell]) -> None:
    """Refuse a row that was chosen beforehand and that this sweep does not have, before anything is made."""
    rows = [cell.arm_name(arm.name, arm.recipe) for cell in cells for arm in arms_of(cell.config)]
    for name in config.evaluation.primary:
        if name not in rows:
            raise ConfigError(
                f"evaluation.primary: {name!r} is no row of this sweep; its rows: {', '.join(dict.fromkeys(rows))}"
            )


def _alike(cell: Cell, made: Sequence[Cell]) -> list[Path]:
    """Return the runs of earlier cells whose images may be equal: same seed, same settings of the generation."""

    def settings(of: Cell) -> dict[str, Any]:
        return {key: value for key, value in of.point.items() if _makes_others(of.config, key)}

    return [other.config.run for other in made if other.seed == cell.seed and settings(other) == settings(cell)]


def _makes_others(config: RunConfig, key: str) -> bool:
    """Return whether two values of a key make other images throughout, rather than more or fewer of them.

    How images are computed (`generator.dtype`) changes them a little; who sweeps it wants to see that.
    """
    setting = setting_at(config, key)
    return setting.decides in ("real", "images", "nothing") and setting.by != "each"


def _collect(config: RunConfig, cells: Sequence[Cell], judged: Sequence[Results], on: HeldOut) -> Results:
    """Return the results of all cells as those of one run, each arm with the seeds and the settings of its cells."""
    settings: dict[str, Mapping[str, Any]] = {}
    cards: list[ModelCard] = []
    models: dict[str, dict[Seeds, SeedPredictions]] = {}
    baseline: dict[str, str] = {}
    bounds: dict[str, EvaluationConfig] = {}
    # As in the results of one run: the arm of that name, or else the first of real images alone.
    first = min(_real_arms(config), key=lambda arm: arm.name != REAL_ONLY, default=None)
    for cell, own_results in zip(cells, judged, strict=True):
        found = {(arm.name, seed.seeds): seed for arm in own_results.arms for seed in arm.seeds}
        # Models of an earlier config may lie there too.
        own = {(arm.name, seed) for arm in arms_of(cell.config) for seed in cell.config.training.training_seeds}
        for card in read_cards(cell.config.run):
            if (card.arm, card.seeds.training) not in own:
                continue
            path = RunFolder(cell.config.run).predictions_path(on, card.arm, card.seeds.training)
            name = cell.arm_name(card.arm, card.recipe)
            kept = path.relative_to(config.run).as_posix()
            judged_now = found[card.arm, card.seeds]
            sha256 = judged_now.predictions_sha256
            predictions = read_predictions(path, sha256)
            seconds = judged_now.evaluation_seconds
            judgement = SeedPredictions(predictions, card.real_counts, kept, seconds, sha256)
            settings[name] = cell.point
            bounds[name] = cell.config.evaluation
            models.setdefault(name, {})[card.seeds] = judgement
            cards.append(replace(card, arm=name))
            if first is not None:
                point = _of_real(config, cell.point, first)
                baseline[name] = replace(cell, point=point).arm_name(first.name, None)
    pool = load_dataset(config.data)

    def baselines(name: str) -> list[str]:
        # None at the same settings: no gain, rather than one over other settings.
        return [baseline[name]] if baseline.get(name) in models else []

    trained: dict[str, Trained] = dict(models)
    missing = dict.fromkeys(entry for own_results in judged for entry in own_results.missing)
    results = assemble_results(
        config, pool, cards, trained, on=on, baselines=baselines, bounds=bounds, missing=tuple(missing)
    )
    return replace(results, arms=tuple(replace(arm, settings=dict(settings[arm.name])) for arm in results.arms))
