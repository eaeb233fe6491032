"""The run folder: its files, the plan with its settings, and which shards are done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from augcond.config import RunConfig, parse_config
from augcond.datasets import Dataset
from augcond.datasets.base import HeldOut
from augcond.errors import CorruptRunError, RunError, RunMismatchError
from augcond.files import TEMPORARY, sync_folder, write_atomically, write_table
from augcond.planning import PLAN_SCHEMA, Plan, grow_plan
from augcond.store.commit import ShardMarker, read_marker
from augcond.store.fingerprint import differences, shard_fingerprints
from augcond.store.shards import GenerationSettings

_METADATA_KEY = b"augcond"

_RESULTS: dict[HeldOut, str] = {"test": "results.json", "validation": "validation.json"}

_MADE_OF_THEM = (
    *("split.json", "screening.json", "screening.parquet", *_RESULTS.values()),
    *("models", "predictions", "report", "cache"),
)
"""What later stages make of a run's split and shards: worth nothing once these are others."""


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


class RunFolder:
    """The files of one run.

    RUN/config.yaml  plan.parquet  sources.parquet  shards/00000.parquet  shards/00000.done.json  ...  log.txt
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.plan_path = path / "plan.parquet"
        self.sources_path = path / "sources.parquet"
        self.split_path = path / "split.json"
        self.decoded_path = path / "decoded.parquet"
        self.log_path = path / "log.txt"
        self.sweep_path = path / "sweep.json"
        self.shards = path / "shards"
        self.locks = path / "locks"

    def shard_path(self, number: int) -> Path:
        """Return the path of shard `number`."""
        return self.shards / f"{number:05d}.parquet"

    def marker_path(self, number: int) -> Path:
        """Return the path of the done marker of shard `number`."""
        return self.shards / f"{number:05d}.done.json"

    def results_path(self, part: HeldOut = "test") -> Path:
        """Return the path of what the models' judgement on `part` gave."""
        return self.path / _RESULTS[part]

    def create(self) -> None:
        """Make the folder.

        Raises:
            RunError: the place is taken by something that is no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: name another folder as `run`")
        # In this order: another process that makes the folder meanwhile makes the locks first.
        foreign = self.path.is_dir() and any(self.path.iterdir()) and not self.locks.exists()
        if foreign and not self.plan_path.exists():
            raise RunError(f"{self.path} holds files but no run: name an empty or new folder as `run`")
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            self.shards.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"the run folder {self.path} cannot be made: {error.strerror}") from error

    def clear(self) -> None:
        """Delete the plan, all shards and all that was made of them; what decoding found, the log and locks stay."""
        # The plan goes first: a crash in between leaves shards without a plan, which the next plan ignores.
        for path in (self.plan_path, self.sources_path, self.config_path):
            path.unlink(missing_ok=True)
        for path in self.shards.glob("*"):
            path.unlink()
        sync_folder(self.shards)
        for name in _MADE_OF_THEM:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_config(self, config: RunConfig) -> None:
        """Write what the run was started with."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomically(self.config_path, text.encode())

    def read_config(self) -> RunConfig:
        """Return the config that the run was last started with.

        Raises:
            RunError: there is no run here.
        """
        try:
            values = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is no run: it has no config.yaml") from None
        return parse_config(values, base=self.path, origin=str(self.config_path))

    def read_plan(self) -> RunPlan:
        """Return the plan as it was last written.

        Raises:
            RunError: there is no plan here.
            CorruptRunError: `plan.parquet` is not what augcond wrote.
        """
        try:
            table = pq.read_table(self.plan_path)
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is no run: it has no plan.parquet (augcond generate CONFIG makes it)"
            ) from None
        except (OSError, pa.ArrowException) as error:
            raise CorruptRunError(f"{self.plan_path} cannot be read: {error}") from error
        metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
        if metadata is None or table.schema.names != PLAN_SCHEMA.names:
            raise CorruptRunError(f"{self.plan_path} was not written by augcond")
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

    def write_plan(self, run_plan: RunPlan, config: RunConfig, dataset: Dataset) -> None:
        """Write the config, the sources and, last and atomically, the plan."""
        self.write_config(config)
        write_table(self.sources_path, _sources_table(dataset))
        metadata = {
            "settings": run_plan.settings,
            "columns": asdict(run_plan.columns),
            "classes": run_plan.classes,
            "class_names": run_plan.class_names,
            "real_counts": run_plan.real_counts,
            "fingerprints": run_plan.fingerprints,
        }
        table = run_plan.plan.table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
        write_table(self.plan_path, table)

    def read_sources(self) -> dict[str, tuple[int, str]]:
        """Return label and sha256 of every real training image that the run may use, by key."""
        try:
            table = pq.read_table(self.sources_path, columns=["key", "label", "sha256"])
        except FileNotFoundError:
            raise CorruptRunError(f"{self.sources_path} is missing") from None
        keys, labels, hashes = (table[name].to_pylist() for name in ("key", "label", "sha256"))
        return {k: (label, sha) for k, label, sha in zip(keys, labels, hashes, strict=True) if sha is not None}

    def done(self, number: int, fingerprint: str) -> ShardMarker | None:
        """Return the marker of shard `number` if it is done as `fingerprint` says, else None."""
        marker = read_marker(self.marker_path(number))
        if marker is None or marker.fingerprint != fingerprint:
            return None
        path = self.shard_path(number)
        if not path.exists() or path.stat().st_size != marker.bytes:
            return None
        return marker

    def markers(self, run_plan: RunPlan) -> list[ShardMarker | None]:
        """Return the marker of every shard, None where it is not done."""
        return [self.done(number, fingerprint) for number, fingerprint in enumerate(run_plan.fingerprints)]

    def remove_temporary(self) -> None:
        """Delete half-written files of the plan and its sources; call it while no other process writes those."""
        for path in self.path.glob(f"*{TEMPORARY}"):
            path.unlink(missing_ok=True)

    def remove_temporary_shards(self, mine: Callable[[int], bool]) -> None:
        """Delete what a killed process left half-written, of the shards for which `mine(number)` holds."""
        for path in self.shards.glob(f"*{TEMPORARY}"):
            number = path.name.split(".", 1)[0]
            if number.isdigit() and mine(int(number)):
                path.unlink(missing_ok=True)


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


def _sources_table(dataset: Dataset) -> pa.Table:
    rejected = dataset.rejected
    return pa.table(
        {
            "key": [i.key for i in dataset.images] + [r.key for r in rejected],
            "label": pa.array([i.label for i in dataset.images] + [r.label for r in rejected], pa.int32()),
            "sha256": pa.array([i.sha256 for i in dataset.images] + [None] * len(rejected), pa.string()),
            "width": pa.array([i.width for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "height": pa.array([i.height for i in dataset.images] + [None] * len(rejected), pa.int32()),
            "reason": pa.array([None] * len(dataset.images) + [r.reason for r in rejected], pa.string()),
        }
    )
