"""The plan of a run with all that its shards are defined by, as `plan.parquet` holds it, and how a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from augcond.datasets import Dataset
from augcond.errors import CorruptRunError, RunMismatchError
from augcond.planning import PLAN_SCHEMA, Plan, grow_plan
from augcond.store.fingerprint import differences, shard_fingerprints
from augcond.store.shards import GenerationSettings

if TYPE_CHECKING:
    from augcond.store.folder import RunFolder

_METADATA_KEY = b"augcond"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A plan with all that its shards are defined by, as `plan.parquet` holds it.

    Attributes:
        plan: the rows.
        settings: nested plain values that every image shares; see `fingerprint.image_settings`.
        columns: the settings that stand in each shard row.
        classes: class ids in label order.
        class_names: the words that prompts use.
        real_counts: readable real images per class.
        fingerprints: one per shard.
    """

    plan: Plan
    settings: Mapping[str, Any]
    columns: GenerationSettings
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    real_counts: tuple[int, ...]
    fingerprints: tuple[str, ...]


def plan_run(plan: Plan, settings: Mapping[str, Any], columns: GenerationSettings, dataset: Dataset) -> RunPlan:
    """Return `plan` with its settings and the fingerprint of each shard."""
    hashes = {image.key: image.sha256 for image in dataset.images}
    return RunPlan(
        plan=plan,
        settings=settings,
        columns=columns,
        classes=dataset.classes,
        class_names=dataset.class_names,
        real_counts=tuple(dataset.counts()),
        fingerprints=tuple(shard_fingerprints(plan, settings, hashes)),
    )


def plan_from_table(table: pa.Table, path: Path) -> RunPlan:
    """Return the plan that the parquet file at `path` holds.

    Raises:
        CorruptRunError: it is not what augcond wrote.
    """
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None or table.schema.names != PLAN_SCHEMA.names:
        raise CorruptRunError(f"{path} was not written by augcond")
    values = json.loads(metadata)
    return RunPlan(
        plan=Plan(table.replace_schema_metadata(None)),
        settings=values["settings"],
        columns=GenerationSettings(**values["columns"]),
        classes=tuple(values["classes"]),
        class_names=tuple(values["class_names"]),
        real_counts=tuple(values["real_counts"]),
        fingerprints=tuple(values["fingerprints"]),
    )


def plan_to_table(run_plan: RunPlan) -> pa.Table:
    """Return what `plan.parquet` holds."""
    metadata = {
        "settings": run_plan.settings,
        "columns": asdict(run_plan.columns),
        "classes": run_plan.classes,
        "class_names": run_plan.class_names,
        "real_counts": run_plan.real_counts,
        "fingerprints": run_plan.fingerprints,
    }
    return run_plan.plan.table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})


def settle_plan(folder: RunFolder, wanted: RunPlan, dataset: Dataset, *, shard_size: int) -> RunPlan:
    """Return the plan that the run in `folder` goes on with: the one it has, grown to `wanted`, or just `wanted`.

    Raises:
        RunMismatchError: the run's images are defined otherwise; the message names what differs.
    """
    if not folder.plan_path.exists():
        return wanted
    existing = folder.read_plan()
    problems = list(differences(existing.settings, wanted.settings))
    if existing.classes != wanted.classes:
        problems.append(f"classes: the run has {len(existing.classes)}, this config {len(wanted.classes)} or others")
    if not problems:
        problems = _changed_sources(folder, existing, dataset)
    if not problems:
        try:
            plan = grow_plan(existing.plan, wanted.plan, shard_size)
        except RunMismatchError as error:
            problems = [str(error)]
    if problems:
        raise RunMismatchError(
            f"{folder.path} holds a run that differs from this config:\n  "
            + "\n  ".join(problems)
            + "\nname another folder as `run`, or start this one anew with --overwrite (which deletes its images)"
        )
    return plan_run(plan, wanted.settings, wanted.columns, dataset)


def _changed_sources(folder: RunFolder, existing: RunPlan, dataset: Dataset) -> list[str]:
    now = {image.key: image.sha256 for image in dataset.images}
    before = folder.read_sources()
    used = set(existing.plan.table["source_keys"].combine_chunks().flatten().unique().to_pylist())
    gone = sorted(key for key in used if key not in now)
    changed = sorted(key for key in used if key in now and now[key] != before[key][1])
    lines = [f"source image {key!r} is gone or unreadable" for key in gone[:5]]
    lines += [f"source image {key!r} has other contents" for key in changed[:5]]
    if len(gone) + len(changed) > len(lines):
        lines.append(f"... {len(gone) + len(changed)} source images in all")
    return lines
