"""What a run folder says about itself: counts, failures, cost and provenance, from plan and markers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from augcond.config import RunConfig, relative_paths
from augcond.datasets import RejectedFile, shot_group
from augcond.datasets.summary import SHOT_GROUPS, ShotGroup
from augcond.errors import RunMismatchError
from augcond.store import RunFolder, RunStatus, run_status
from augcond.store.commit import ShardMarker
from augcond.store.fingerprint import otherwise_configured
from augcond.store.plans import RunPlan
from augcond.store.rejection import rejected_keys
from augcond.store.shards import FAILED, shard_rows


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One class: its names, real images, and images planned, made and failed, over all recipes."""

    label: int
    class_id: str
    class_name: str
    real: int
    planned: int
    made: int
    failed: int
    shot_group: ShotGroup


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One shot group: how many classes, real and generated images it holds."""

    shot_group: ShotGroup
    classes: int
    real: int
    made: int


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One row that was tried and gave no image."""

    key: str
    class_name: str
    recipe: str
    error: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run without opening an image.

    Attributes:
        name: the run folder's own name.
        folder: the run folder.
        config: as the run was last started.
        plan: rows, settings, classes.
        markers: of each shard; None where it is not done.
        status: planned, attempted, ok, failed, left.
        recipes: in the config's order, with those that only the plan has behind them.
        classes: one entry per class, in label order.
        shot_groups: many, medium, few.
        rejected: real files that cannot be used.
        rejected_images: keys of the generated images that a person rejected.
        made: (rows,) bool; whether the plan's row has an image.
        failures: every row without an image of the shards that are done.
        data_warnings: what looked wrong with the real images, each with what to do.
        foreign_sources: source images of the plan that are no training image of their row's class; 0 in a sound run.
    """

    name: str
    folder: RunFolder
    config: RunConfig
    plan: RunPlan
    markers: tuple[ShardMarker | None, ...]
    status: RunStatus
    recipes: tuple[str, ...]
    classes: tuple[ClassFacts, ...]
    shot_groups: tuple[GroupFacts, ...]
    rejected: tuple[RejectedFile, ...]
    rejected_images: frozenset[str]
    made: np.ndarray
    failures: tuple[FailedRow, ...]
    data_warnings: tuple[str, ...]
    foreign_sources: int

    @property
    def done_markers(self) -> tuple[ShardMarker, ...]:
        """The markers of all shards that are done."""
        return tuple(marker for marker in self.markers if marker is not None)

    @property
    def seconds(self) -> float:
        """Time that generation took, summed over all processes, without loading."""
        return sum(marker.seconds for marker in self.done_markers)

    @property
    def real(self) -> int:
        """Number of usable real images."""
        return sum(self.plan.real_counts)

    def in_group(self, name: ShotGroup, counts: Sequence[int]) -> int:
        """Return the sum of counts per class over the classes of a shot group."""
        return sum(counts[entry.label] for entry in self.classes if entry.shot_group == name)

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Return the versions of each library that took part; more than one where the shards differ."""
        found: dict[str, set[str]] = {}
        for marker in self.done_markers:
            for library, version in marker.versions.items():
                found.setdefault(library, set()).add(version)
        return {library: tuple(sorted(versions)) for library, versions in found.items()}

    def notes(self) -> list[tuple[str, int]]:
        """Return what the engine had to do, such as halving the batch, and in how many shards, most frequent first."""
        return Counter(note for marker in self.done_markers for note in marker.notes).most_common()


def read_facts(folder: RunFolder) -> RunFacts:
    """Return what the run in `folder` says about itself.

    Raises:
        RunError: there is no run there.
        CorruptRunError: its plan or sources are not what augcond wrote.
    """
    config = folder.read_config()
    plan = folder.read_plan()
    if unequal := otherwise_configured(config, plan.settings):
        raise RunMismatchError(
            f"{folder.config_path} is not what {folder.plan_path.name} was made by: {'; '.join(unequal)}; put it back, "
            "or have augcond generate write it with the run's own CONFIG"
        )
    markers = folder.verified_markers(plan)
    shards = plan.plan.table["shard"].to_numpy()
    labels = plan.plan.table["label"].to_numpy()
    done = np.array([marker is not None for marker in markers], dtype=bool)
    made = done[shards] if len(shards) else np.zeros(0, dtype=bool)
    failures = _read_failures(folder, plan, markers, made)
    classes = _classes(config, plan, made, done[shards] & ~made if len(shards) else made, labels)
    keys = plan.plan.table["recipe"].unique().to_pylist()
    return RunFacts(
        name=folder.path.resolve().name,
        folder=folder,
        config=config,
        plan=plan,
        markers=tuple(markers),
        status=run_status(folder),
        recipes=tuple(dict.fromkeys([name for name in config.conditioning.recipe_names if name in keys] + keys)),
        classes=classes,
        shot_groups=tuple(_group(name, classes) for name in SHOT_GROUPS),
        rejected=folder.read_rejected(),
        rejected_images=rejected_keys(folder),
        made=made,
        failures=failures,
        data_warnings=folder.read_data_warnings(),
        foreign_sources=_foreign_sources(folder, plan),
    )


def _read_failures(
    folder: RunFolder, plan: RunPlan, markers: list[ShardMarker | None], made: np.ndarray
) -> tuple[FailedRow, ...]:
    """Return the failed rows, and clear their places in `made`; only shards that report failures are opened."""
    failures: list[FailedRow] = []
    bounds = plan.plan.bounds()
    for number, marker in enumerate(markers):
        if marker is None or not marker.failed:
            continue
        start, _ = bounds[number]
        columns = ("key", "class_name", "recipe", "status", "error")
        for position, row in enumerate(shard_rows(folder.shard_path(number), columns)):
            if row["status"] == FAILED:
                made[start + position] = False
                failures.append(FailedRow(row["key"], row["class_name"], row["recipe"], row["error"] or "no reason"))
    return tuple(failures)


def _classes(
    config: RunConfig, plan: RunPlan, made: np.ndarray, failed: np.ndarray, labels: np.ndarray
) -> tuple[ClassFacts, ...]:
    size = len(plan.classes)
    planned = np.bincount(labels, minlength=size)
    made_counts = np.bincount(labels[made], minlength=size)
    failed_counts = np.bincount(labels[failed], minlength=size)
    return tuple(
        ClassFacts(
            label=label,
            class_id=class_id,
            class_name=class_name,
            real=real,
            planned=int(planned[label]),
            made=int(made_counts[label]),
            failed=int(failed_counts[label]),
            shot_group=shot_group(real, config.evaluation),
        )
        for label, (class_id, class_name, real) in enumerate(
            zip(plan.classes, plan.class_names, plan.real_counts, strict=True)
        )
    )


def _group(name: ShotGroup, classes: tuple[ClassFacts, ...]) -> GroupFacts:
    members = [entry for entry in classes if entry.shot_group == name]
    return GroupFacts(name, len(members), sum(e.real for e in members), sum(e.made for e in members))


def _foreign_sources(folder: RunFolder, plan: RunPlan) -> int:
    lists = plan.plan.table["source_keys"].combine_chunks()
    used = lists.flatten()
    rows = pc.list_parent_indices(lists)
    sources = folder.read_sources()
    known = pa.array(list(sources), pa.string())
    known_labels = pa.array([label for label, _ in sources.values()], pa.int32())
    found = known_labels.take(pc.index_in(used, value_set=known))
    wanted = plan.plan.table["label"].combine_chunks().take(rows)
    right = pc.sum(pc.fill_null(pc.equal(found, wanted), False)).as_py() or 0
    return len(used) - int(right)


def failures_by_reason(facts: RunFacts) -> list[tuple[str, int, dict[str, int]]]:
    """Return reason, number of rows, and their number per recipe, most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for row in facts.failures:
        counts.setdefault(row.error, Counter())[row.recipe] += 1
    return sorted(((reason, c.total(), dict(c)) for reason, c in counts.items()), key=lambda item: (-item[1], item[0]))


def planned_by_recipe(facts: RunFacts) -> dict[str, int]:
    """Return how many rows each recipe has in the plan."""
    counts = {e["values"]: e["counts"] for e in facts.plan.plan.table["recipe"].value_counts().to_pylist()}
    return {recipe: counts.get(recipe, 0) for recipe in facts.recipes}


def portable_config(facts: RunFacts) -> str:
    """Return the run's config as YAML with paths relative to the run folder, so that a shared page names no home."""
    values = relative_paths(facts.config.model_dump(mode="json"), facts.folder.path.resolve())
    return yaml.safe_dump(values | {"run": "."}, sort_keys=False, allow_unicode=True)


def disk_use(folder: Path) -> int:
    """Return the bytes of all files below `folder`, the report itself left out."""
    report = RunFolder(folder).report_path
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and report not in path.parents)
