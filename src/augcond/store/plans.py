"""The plan of a run with all that its shards are defined by, as `plan.parquet` holds it, and how a run goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from augcond.config.moved import called_today
from augcond.datasets import Dataset
from augcond.errors import CorruptRunError, RunError, RunMismatchError
from augcond.planning import PLAN_SCHEMA, Plan, grow_plan
from augcond.store.fingerprint import (
    PATH_VERSIONS,
    SourceFacts,
    differences,
    outdated_shards,
    shard_fingerprints,
    spelled_out,
)
from augcond.store.shards import GenerationSettings

if TYPE_CHECKING:
    from augcond.store.folder import RunFolder

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of `plan.parquet`; goes up where an older augcond would misread it. Plans of 0.1 have none."""

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
        fingerprints: one per shard. What a shard is called is settled when it is planned: keys and versions that come
            later leave it alone.
        versions: of the paths of computation (`fingerprint.PATH_VERSIONS`) that the shards are made with.
        native_size: height and width at which the weights make images by themselves; None where that is not known.
    """

    plan: Plan
    settings: Mapping[str, Any]
    columns: GenerationSettings
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    real_counts: tuple[int, ...]
    fingerprints: tuple[str, ...]
    versions: Mapping[str, int]
    native_size: tuple[int, int] | None

    def checked(self, path: Path) -> RunPlan:
        """Return itself, as it was read from `path`; a run may be a stranger's.

        Raises:
            CorruptRunError: its rows do not fit its classes and shards.
        """
        table, classes = self.plan.table, len(self.classes)
        labels = table["label"].to_numpy()
        if (
            any(column.null_count for column in table.columns)
            or not {classes} == {len(self.class_names), len(self.real_counts)}
            or (len(labels) and not (labels.min() >= 0 and labels.max() < classes))
            or len(self.fingerprints) != len(self.plan.bounds())
        ):
            raise CorruptRunError(f"{path} was not written by augcond: its rows do not fit its classes and shards")
        return self


def plan_run(
    plan: Plan,
    settings: Mapping[str, Any],
    columns: GenerationSettings,
    dataset: Dataset,
    native_size: tuple[int, int] | None,
) -> RunPlan:
    """Return `plan` with its settings and the fingerprint of each shard."""
    return RunPlan(
        plan=plan,
        settings=settings,
        columns=columns,
        classes=dataset.classes,
        class_names=dataset.class_names,
        real_counts=tuple(dataset.counts()),
        fingerprints=tuple(shard_fingerprints(plan, settings, source_facts(dataset))),
        versions=PATH_VERSIONS,
        native_size=native_size,
    )


def plan_from_table(table: pa.Table, path: Path) -> RunPlan:
    """Return the plan that the parquet file at `path` holds.

    Raises:
        CorruptRunError: it is not what augcond wrote.
        RunError: a newer augcond wrote it.
    """
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None or table.schema.names != PLAN_SCHEMA.names:
        raise CorruptRunError(f"{path} was not written by augcond")
    values = json.loads(metadata)
    if values.get("format", 1) > FORMAT:
        raise RunError(
            f"{path} is of format {values['format']}, which a newer augcond wrote (this one reads up to {FORMAT}): "
            "update augcond"
        )
    size = values.get("native_size")
    return RunPlan(
        plan=Plan(table.replace_schema_metadata(None)),
        settings=values["settings"],
        columns=GenerationSettings(**values["columns"]),
        classes=tuple(values["classes"]),
        class_names=tuple(values["class_names"]),
        real_counts=tuple(values["real_counts"]),
        fingerprints=tuple(values["fingerprints"]),
        versions=values.get("versions", {}),
        native_size=None if size is None else (size[0], size[1]),
    )


def plan_to_table(run_plan: RunPlan) -> pa.Table:
    """Return what `plan.parquet` holds."""
    metadata = {
        "format": FORMAT,
        "settings": run_plan.settings,
        "columns": asdict(run_plan.columns),
        "classes": run_plan.classes,
        "class_names": run_plan.class_names,
        "real_counts": run_plan.real_counts,
        "fingerprints": run_plan.fingerprints,
        "versions": dict(run_plan.versions),
        "native_size": run_plan.native_size,
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
    native = wanted.native_size
    found = differences(spelled_out(existing.settings, native), spelled_out(wanted.settings, native))
    problems = [called_today(difference) for difference in found]
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
    return _gone_on(existing, replace(wanted, plan=plan), source_facts(dataset))


def _gone_on(existing: RunPlan, grown: RunPlan, sources: SourceFacts) -> RunPlan:
    """Return `grown` with the run's settings and the names of its shards, which change for those made anew alone."""
    outdated = outdated_shards(existing.plan, replace(sources, versions=existing.versions))
    if outdated:
        logger.warning(
            "%d shards hold images that this version computes otherwise (%s): they are made anew",
            len(outdated),
            ", ".join(path for path, version in PATH_VERSIONS.items() if existing.versions.get(path, 1) != version),
        )
    fingerprints = existing.fingerprints
    if outdated or len(grown.plan) > len(existing.plan):
        now = shard_fingerprints(grown.plan, existing.settings, sources)
        stay = set(range(len(fingerprints))) - set(outdated)
        fingerprints = tuple(fingerprints[n] if n in stay else name for n, name in enumerate(now))
    return replace(grown, settings=existing.settings, fingerprints=fingerprints)


def source_facts(dataset: Dataset) -> SourceFacts:
    """Return what of the real images decides which images are made of them, as this version computes them."""
    return SourceFacts(
        {image.key: image.sha256 for image in dataset.images},
        {image.key: image.paths for image in dataset.images},
        PATH_VERSIONS,
    )


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
