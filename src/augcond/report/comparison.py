"""Several runs of one data set side by side: their arms in one table, paired by seeds and test images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from augcond.config import relative_paths
from augcond.config.loading import paths_in
from augcond.errors import RunError
from augcond.evaluation.intervals import SeedPredictions, comparable, compare, with_accuracies, with_intervals
from augcond.evaluation.results import ArmResult, Difference, Results, Seeds, results_of
from augcond.evaluation.verdicts import judged
from augcond.files import foreign_entries, replacing_contents
from augcond.report.confusions import predictions_of
from augcond.report.facts import disk_use
from augcond.report.origin import origin_of_table
from augcond.report.single import single_file
from augcond.report.sweep import TableSubject, is_sweep, write_table_page
from augcond.report.tables import plain
from augcond.sealed import read_table
from augcond.store.names import FILES

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.store import RunFolder

_MOST_KEYS = 4
_NOT_TOLD = ("run", "protocol", "engine", "training.arms", "evaluation.primary", "data.near_duplicates")
"""Keys in which runs may differ without that telling what their images or models are."""


@dataclass(frozen=True, slots=True)
class _Run:
    folder: RunFolder
    config: RunConfig
    results: Results
    point: Mapping[str, Any]


def write_comparison(
    folders: Sequence[RunFolder],
    to: Path,
    *,
    single: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Write the page that compares several runs to the folder `to`, and return its path, `index.html`.

    Args:
        folders: two runs or more, trained and evaluated.
        to: replaced, if it is such a page.
        single: put everything into the page's one file.
        on_stage: told what is done now.

    Raises:
        RunError: a run has no results, two were not judged on the same test images, or `to` holds other files.
        CorruptRunError: results or predictions are not what augcond wrote.
    """
    if to.exists() and (other := next(foreign_entries(to), None)) is not None:
        raise RunError(f"{to} holds what augcond did not write there ({other}): name another folder with --to")
    on_stage("reading the runs")
    results = compare_runs(folders)
    config = "---\n".join(map(_config_text, folders))
    command = "augcond report " + " ".join(folder.path.resolve().name for folder in folders)
    with replacing_contents(to, parents=True) as partial:
        on_stage("drawing figures")
        name = " and ".join(folder.path.resolve().name for folder in folders)
        disk = sum(disk_use(folder.path) for folder in folders)
        origin = origin_of_table(results, None, config, command)
        page = write_table_page(partial, results, TableSubject(name, "comparison", folders, disk, origin))
        if single:
            inside = single_file((partial / page).read_text(encoding="utf-8"), partial)
            (partial / page).write_text(inside, encoding="utf-8")
    return to / page


def _config_text(folder: RunFolder) -> str:
    here = folder.path.resolve()
    values = relative_paths(folder.read_config().model_dump(mode="json"), here) | {"run": "."}
    return f"# {here.name}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"


def compare_runs(folders: Sequence[RunFolder]) -> Results:
    """Return one table of the arms of several runs, equal seeds paired.

    Every arm is compared with the first arm of its own run, which gets a verdict, and with the arm of its name in the
    first run. Arms that are the very same models stand there once.

    Raises:
        RunError: see `write_comparison`.
    """
    runs = _read(folders)
    for one, other in pairwise(runs):
        _check_alike(one, other)
    arms: dict[str, ArmResult] = {}
    models: dict[str, dict[Seeds, SeedPredictions]] = {}
    baselines: dict[str, list[str]] = {}
    known: dict[tuple[str, ...], str] = {}
    first: dict[str, str] = {}
    for run in runs:
        base = ""
        for arm in run.results.arms:
            name = known.setdefault(_models_of(arm), _name(arm, run, shared=len(runs) > 1))
            base = base or name
            if name in arms:
                continue
            arms[name] = replace(arm, name=name, settings=dict(run.point))
            models[name] = {seed.seeds: _predictions(run, arm, seed.seeds) for seed in arm.seeds}
            baselines[name] = [base, first.setdefault(arm.name, name)]
    found: list[Difference] = []
    keys = models[next(iter(models))]
    _check_images(runs, models, next(iter(keys.values())))
    for name, over in baselines.items():
        for baseline in dict.fromkeys(over):
            if baseline != name and comparable(models[name], models[baseline]):
                found += compare(name, baseline, models, runs[0].config.evaluation)
    asked = {
        one.arm: place
        for place, one in enumerate(found)
        if one.metric == "overall" and one.baseline == baselines[one.arm][0]
    }
    differences = judged(with_intervals(found), list(asked.values()))
    return replace(
        runs[0].results,
        protocol=None,
        leaky=any(run.results.leaky for run in runs),
        leaks=tuple(dict.fromkeys(leak for run in runs for leak in run.results.leaks)),
        arms=tuple(with_accuracies(tuple(arms.values()), models)),
        differences=tuple(differences),
        missing=tuple(dict.fromkeys(entry for run in runs for entry in run.results.missing)),
    )


def _read(folders: Sequence[RunFolder]) -> list[_Run]:
    found: list[tuple[RunFolder, RunConfig, Results]] = []
    for folder in folders:
        if is_sweep(folder.path):
            raise RunError(f"{folder.path} is a sweep: compare runs, such as those under its cells/")
        found.append((folder, folder.read_config(), results_of(folder)))
    flat = [_told(config) for _, config, _ in found]
    differing = [
        key for key in flat[0] if not key.startswith(_NOT_TOLD) and len({plain(values.get(key)) for values in flat}) > 1
    ][:_MOST_KEYS]
    points = [{key: values.get(key) for key in differing} for values in flat]
    if len({plain(point) for point in points}) < len(points):
        names = [folder.path.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [f"{number}-{name}" for number, name in enumerate(names, start=1)]
        points = [{"run": name, **point} for name, point in zip(names, points, strict=True)]
    return [_Run(*entry, point) for entry, point in zip(found, points, strict=True)]


def _told(config: RunConfig) -> dict[str, Any]:
    """Return the keys of a config and what they hold; of a path its last part, for a page that is passed on."""
    values = dict(_flat(config.model_dump(mode="json")))
    return values | {name: path.name for name, path in paths_in(config) if name in values}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the keys of nested plain values with dots between them, and what they hold."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs


def _models_of(arm: ArmResult) -> tuple[str, ...]:
    """Return what tells an arm's models from others: theirs, or its own identity where that was not recorded."""
    found = tuple(seed.fingerprint for seed in arm.seeds)
    return found if all(found) else (f"{arm.name} {id(arm)}",)


def _name(arm: ArmResult, run: _Run, *, shared: bool) -> str:
    parts = [f"{key.rpartition('.')[2]}={plain(value)}" for key, value in run.point.items()]
    return " ".join([arm.name, *parts]) if shared else arm.name


def _predictions(run: _Run, arm: ArmResult, seeds: Seeds) -> SeedPredictions:
    seed = next(seed for seed in arm.seeds if seed.seeds == seeds)
    predictions = predictions_of(run.folder, seed)
    return SeedPredictions(
        predictions, seed.real_counts, seed.predictions, seed.evaluation_seconds, seed.predictions_sha256
    )


def _check_alike(one: _Run, other: _Run) -> None:
    """Refuse runs that no table can hold.

    Raises:
        RunError: saying what differs.
    """
    both = f"{one.folder.path} and {other.folder.path} cannot stand in one table"
    if one.results.classes != other.results.classes:
        raise RunError(f"{both}: they have other classes")
    if one.results.test_images != other.results.test_images:
        raise RunError(
            f"{both}: they were judged on {one.results.test_images:,} and {other.results.test_images:,} test images"
        )
    contents = [_contents(run.folder) for run in (one, other)]
    if contents[0] and contents[1] and contents[0] != contents[1]:
        raise RunError(
            f"{both}: some of their test images are other files, by {one.folder.decoded_path('test').name} of each: "
            "evaluate both on the same files again"
        )
    bounds = [(run.config.evaluation.many, run.config.evaluation.few) for run in (one, other)]
    if bounds[0] != bounds[1]:
        raise RunError(f"{both}: their shot groups have other bounds (evaluation.many, evaluation.few)")


def _contents(folder: RunFolder) -> dict[str, str]:
    """Return the sha256 of each test image's file, where that was recorded."""
    path = folder.decoded_path("test")
    if not path.exists():
        return {}
    table = read_table(path, FILES["decoded held-out"].mend, ("key", "sha256")).content
    return dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def _check_images(
    runs: Sequence[_Run], models: Mapping[str, Mapping[Seeds, SeedPredictions]], first: SeedPredictions
) -> None:
    for name, trained in models.items():
        for model in trained.values():
            keys, labels = model.predictions.keys, model.predictions.labels
            if keys != first.predictions.keys or not (labels == first.predictions.labels).all():
                raise RunError(
                    f"{', '.join(str(run.folder.path) for run in runs)} cannot stand in one table: {name!r} was judged "
                    "on other test images"
                )
