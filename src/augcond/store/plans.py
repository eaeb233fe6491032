"""The plan of a run with all that its shards are defined by, as `plan.parquet` holds it, and how a run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augcond.conditioning.framing import is_large
from augcond.config.moved import called_today
from augcond.datasets import Dataset
from augcond.errors import CorruptRunError, RunError, RunMismatchError
from augcond.files import file_sha256, is_special
from augcond.planning import OTHER_CLASS, PLAN_SCHEMA, Plan, grow_plan
from augcond.sealed import Sealed, unfit
from augcond.store.fingerprint import (
    LARGE,
    ONCE,
    PATH_VERSIONS,
    SourceFacts,
    changed_paths,
    differences,
    outdated_shards,
    shard_fingerprints,
    spelled_out,
    versions_of,
)
from augcond.store.shards import GenerationSettings
from augcond.store.stored_plan import Groups, StoredPlan

if TYPE_CHECKING:
    from augcond.config import RunConfig
    from augcond.generators.base import Traits
    from augcond.store.folder import RunFolder

logger = logging.getLogger(__name__)

FORMAT = 3
"""Of `plan.parquet`; goes up where an older augcond would misread it. Plans of 0.1 have none; those whose shards have
no further columns are of format 2 still."""

MEND_PLAN = "delete it, and augcond generate plans anew: shards that are defined alike are kept"

_METADATA_KEY = b"augcond"

WARNINGS = b"augcond.warnings"
"""In the metadata of `sources.parquet`: what looked wrong with the real images."""


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
        threads: of PyTorch on a CPU, for each worker whose config says nothing else; None for as many as there are
            cores. It decides the last bits, so that all workers of a run have as many as its first ones.
        inputs: hex digest of all that it was made of; None where that is not known. See `RunFolder.read_plan_of`.
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
    threads: int | None = None
    inputs: str | None = None

    @property
    def reducing(self) -> bool:
        """Whether sources much larger than they are shown are decoded at a fraction of their size."""
        return self.versions.get(LARGE, 1) > 1

    @property
    def further_columns(self) -> tuple[str, ...]:
        """The columns that its shards have beside those of all runs; see `shards.FURTHER_COLUMNS`."""
        mixed = ("other_label", "label_share") if self.plan.mixes_classes else ()
        return (*mixed, "away_from") if self.columns.away_from else mixed

    @property
    def embedding_once(self) -> bool:
        """Whether the embeddings of whole views are computed once for all rows."""
        return self.versions.get(ONCE, 1) > 1


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


def digest_inputs(
    config: RunConfig, dataset: Dataset, traits: Traits, settings: Mapping[str, Any], threads: int | None
) -> str:
    """Return the hex digest of all that a plan is made of, and of what makes it: equal ones give equal plans.

    Args:
        config: of the run; what of it defines no images counts too, which only costs making an equal plan again.
        dataset: its real images.
        traits: of what makes the images.
        settings: see `RunPlan`.
        threads: see `RunPlan`.
    """
    # What is left to augcond of the output, a run that goes on has as it began.
    sections = {"data", "plan", "conditioning", "prompt", "generator"}
    about = {
        "version": [version("augcond"), FORMAT, dict(PATH_VERSIONS)],
        "config": config.model_dump(mode="json", include=sections),
        "engine": [config.engine.shard_size, threads],
        **({} if config.plan.rounds is None else {"rounds": file_sha256(config.plan.rounds)}),
        "settings": settings,
        "size": [traits.image_size, traits.native_size],
        "dataset": [dataset.classes, dataset.class_names, dataset.warnings, list(map(asdict, dataset.rejected))],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for image in dataset.images:
        digest.update(repr((image.key, image.label, image.sha256, image.paths)).encode())
    return digest.hexdigest()


def plan_from_file(opened: Sealed[pq.ParquetFile], path: Path) -> RunPlan:
    """Return the plan that the parquet file at `path` holds; of many rows, those are read that are asked for.

    Raises:
        CorruptRunError: it is not what augcond wrote.
        RunError: a newer augcond wrote it.
    """
    schema, groups = opened.content.schema_arrow, Groups(opened.content, path, MEND_PLAN)
    metadata = (schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None or schema.names not in (PLAN_SCHEMA.names, [*PLAN_SCHEMA.names, OTHER_CLASS.name]):
        raise unfit(path, "it has other columns", MEND_PLAN)
    # What nothing vouches for is looked at whole.
    lazily = opened.sealed and len(groups) > 1
    try:
        values = json.loads(metadata)
        if values.get("format", 1) > FORMAT:
            raise RunError(
                f"{path} is of format {values['format']}, which a newer augcond wrote (this one reads up to {FORMAT}): "
                "update augcond"
            )
        size = values.get("native_size")
        run_plan = RunPlan(
            plan=StoredPlan(groups) if lazily else Plan(groups.whole),
            settings=values["settings"],
            columns=GenerationSettings(**values["columns"]),
            classes=tuple(values["classes"]),
            class_names=tuple(values["class_names"]),
            real_counts=tuple(values["real_counts"]),
            fingerprints=tuple(values["fingerprints"]),
            versions=values.get("versions", {}),
            native_size=None if size is None else (size[0], size[1]),
            threads=values.get("threads"),
            inputs=values.get("inputs"),
        )
        _check_rows(run_plan)
        return run_plan
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unfit(path, repr(error), MEND_PLAN) from error


def _check_rows(run_plan: RunPlan) -> None:
    """Check that the rows fit classes and shards: a plan may be a stranger's.

    Raises:
        ValueError: they do not.
    """
    plan, classes = run_plan.plan, len(run_plan.classes)
    labels = np.concatenate([part["label"].to_numpy() for part in plan.columns(["label"])])
    if (
        not {classes} == {len(run_plan.class_names), len(run_plan.real_counts)}
        or (len(labels) and not (labels.min() >= 0 and labels.max() < classes))
        or len(run_plan.fingerprints) != len(plan.bounds())
    ):
        raise ValueError("its rows do not fit its classes and shards")


def plan_to_table(run_plan: RunPlan, sources: str) -> pa.Table:
    """Return what `plan.parquet` holds; `sources` is the sha256 of the `sources.parquet` that it goes with."""
    columns = {name: value for name, value in asdict(run_plan.columns).items() if value or name != "away_from"}
    metadata = {
        "sources_sha256": sources,
        "format": FORMAT if run_plan.further_columns else 2,
        "settings": run_plan.settings,
        "columns": columns,
        "classes": run_plan.classes,
        "class_names": run_plan.class_names,
        "real_counts": run_plan.real_counts,
        "fingerprints": run_plan.fingerprints,
        "versions": dict(run_plan.versions),
        "native_size": run_plan.native_size,
        "threads": run_plan.threads,
        "inputs": run_plan.inputs,
    }
    return run_plan.plan.table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})


def sources_sha256(path: Path) -> str | None:
    """Return the sha256 of the `sources.parquet` that the plan at `path` goes with; None where it does not say.

    Raises:
        CorruptRunError: the plan is damaged.
    """
    found: str | None = _about(path).get("sources_sha256")
    return found


def sources_to_table(dataset: Dataset) -> pa.Table:
    """Return what `sources.parquet` holds: the real images, and what was rejected."""
    rejected = dataset.rejected
    table = pa.table(
        {
            "key": [i.key for i in dataset.images] + [r.key for r in rejected],
            "label": pa.array([i.label for i in dataset.images] + [r.label for r in rejected], pa.int32()),
            "sha256": pa.array([i.sha256 for i in dataset.images] + [None] * len(rejected), pa.string()),
            "width": pa.array([i.width for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "height": pa.array([i.height for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "reason": pa.array([None] * len(dataset.images) + [r.reason for r in rejected], pa.string()),
            "paths": pa.array([i.paths for i in dataset.images] + [None] * len(rejected), pa.list_(pa.string())),
        }
    )
    return table.replace_schema_metadata({WARNINGS: json.dumps(dataset.warnings)}) if dataset.warnings else table


def recorded_settings(path: Path) -> dict[str, Any]:
    """Return the settings that the plan at `path` records; its rows are not read.

    Raises:
        CorruptRunError: the plan is damaged.
    """
    settings = _about(path).get("settings")
    if not isinstance(settings, dict) or not isinstance(settings.get("output"), dict):
        raise unfit(path, "it records no settings", MEND_PLAN)
    return settings


def plan_inputs(path: Path) -> str | None:
    """Return the digest of what the plan at `path` was made of; None where it does not say.

    Raises:
        CorruptRunError: the plan is damaged.
    """
    found: str | None = _about(path).get("inputs")
    return found


def plan_fingerprints(path: Path) -> list[str]:
    """Return the fingerprints of the shards of the plan at `path`, none where there is no plan.

    Raises:
        CorruptRunError: the plan is damaged.
    """
    found: list[str] = _about(path).get("fingerprints", [])
    return found


def _about(path: Path) -> dict[str, Any]:
    """Return what the plan at `path` says beside its rows."""
    try:
        if is_special(path) or path.is_dir():
            raise ValueError("it is no file: remove it")
        about = json.loads((pq.read_schema(path).metadata or {}).get(_METADATA_KEY, b"{}"))
        if not isinstance(about, dict):
            raise ValueError("it says nothing of itself")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise unfit(path, error, MEND_PLAN) from error
    return about


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
            f"{folder.path} holds a run that differs from this config (by {folder.plan_path.name}):\n  "
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
            ", ".join(changed_paths(existing.versions)),
        )
    versions = versions_of(existing.versions)
    fingerprints = existing.fingerprints
    if outdated or len(grown.plan) > len(existing.plan):
        now = shard_fingerprints(grown.plan, existing.settings, replace(sources, versions=versions))
        stay = set(range(len(fingerprints))) - set(outdated)
        fingerprints = tuple(fingerprints[n] if n in stay else name for n, name in enumerate(now))
    # A run of one worker may go on with several.
    threads = existing.threads or grown.threads
    return replace(grown, settings=existing.settings, fingerprints=fingerprints, versions=versions, threads=threads)


def mark_large(dataset: Dataset, traits: Traits) -> Dataset:
    """Return `dataset` whose images say whether they are much larger than a generator of these traits shows them."""
    shown = min(edge for edge in (traits.encoder_size, *traits.image_size) if edge)
    images = tuple(
        replace(image, paths=(*image.paths, LARGE)) if is_large((image.width, image.height), shown) else image
        for image in dataset.images
    )
    return replace(dataset, images=images)


def source_facts(dataset: Dataset) -> SourceFacts:
    """Return what of the real images decides which images are made of them, as this version computes them."""
    return SourceFacts(
        {image.key: image.sha256 for image in dataset.images},
        {image.key: image.paths for image in dataset.images},
        PATH_VERSIONS,
    )


def _changed_sources(folder: RunFolder, existing: RunPlan, dataset: Dataset) -> list[str]:
    now = {image.key: image.sha256 for image in dataset.images}
    used = set(existing.plan.table["source_keys"].combine_chunks().flatten().unique().to_pylist())
    lines = _some([f"source image {key!r} is gone or unreadable" for key in sorted(used - now.keys())])
    if lines:
        return lines
    try:
        before = folder.read_sources()
    except CorruptRunError as error:
        # What the shards are called says it too, though not for which image.
        logger.warning("%s", error)
        names = shard_fingerprints(existing.plan, existing.settings, _as_planned(existing, dataset))
        other = sum(name != planned for name, planned in zip(names, existing.fingerprints, strict=True))
        return [f"source images of {other} shards have other contents"] if other else []
    changed = sorted(key for key in used if key not in before or now[key] != before[key][1])
    return _some([f"source image {key!r} has other contents" for key in changed])


def _as_planned(existing: RunPlan, dataset: Dataset) -> SourceFacts:
    return replace(source_facts(dataset), versions=existing.versions)


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 5 else [*lines[:5], f"... {len(lines)} source images in all"]
