"""The run folder: its files, the plan with its settings, and which shards are done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from augcond.config import RunConfig, kept_text, load_kept_config
from augcond.datasets import Dataset
from augcond.datasets.base import HeldOut
from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, sync_folder, write_atomically, write_table
from augcond.store.commit import ShardMarker, read_marker
from augcond.store.fingerprint import SourceFacts
from augcond.store.plans import RunPlan, plan_from_table, plan_to_table

_RESULTS: dict[HeldOut, str] = {"test": "results.json", "validation": "validation.json"}

_MADE_OF_THEM = (
    *("split.json", "screening.json", "screening.parquet", *_RESULTS.values()),
    *("models", "predictions", "report", "cache"),
)
"""What later stages make of a run's split and shards: worth nothing once these are others."""


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

    @property
    def exists(self) -> bool:
        """Whether a run lies here: a folder that merely holds a file called config.yaml is none."""
        return self.config_path.is_file() and (
            self.locks.is_dir() or self.plan_path.is_file() or self.split_path.is_file()
        )

    def create(self) -> None:
        """Make the folder.

        Raises:
            RunError: the place is taken by something that is no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: name another folder as `run`")
        # In this order: another process that makes the folder meanwhile makes the locks first.
        taken = self.path.is_dir() and any(self.path.iterdir()) and not self.locks.exists()
        if taken and not self.plan_path.exists() and not self.exists:
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
        write_atomically(self.config_path, kept_text(config).encode())

    def read_config(self, overrides: tuple[str, ...] = ()) -> RunConfig:
        """Return the config that the run was last started with, for where it lies now.

        Raises:
            RunError: there is no run here.
            CorruptRunError: the file is not what augcond wrote.
        """
        return load_kept_config(self.config_path, overrides)

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
        return plan_from_table(table, self.plan_path)

    def write_plan(self, run_plan: RunPlan, config: RunConfig, dataset: Dataset) -> None:
        """Write the config, the sources and, last and atomically, the plan."""
        self.write_config(config)
        write_table(self.sources_path, _sources_table(dataset))
        write_table(self.plan_path, plan_to_table(run_plan))

    def read_sources(self) -> dict[str, tuple[int, str]]:
        """Return label and sha256 of every real training image that the run may use, by key."""
        try:
            table = pq.read_table(self.sources_path, columns=["key", "label", "sha256"])
        except FileNotFoundError:
            raise CorruptRunError(f"{self.sources_path} is missing") from None
        keys, labels, hashes = (table[name].to_pylist() for name in ("key", "label", "sha256"))
        return {k: (label, sha) for k, label, sha in zip(keys, labels, hashes, strict=True) if sha is not None}

    def read_source_facts(self, versions: Mapping[str, int]) -> SourceFacts:
        """Return what of the run's real images decides which images are made of them.

        Args:
            versions: of the paths of computation, as its plan records them.
        """
        hashes = {key: sha256 for key, (_, sha256) in self.read_sources().items()}
        if "paths" not in pq.read_schema(self.sources_path).names:  # 0.1 did not record them
            return SourceFacts(hashes, {}, versions)
        table = pq.read_table(self.sources_path, columns=["key", "paths"])
        paths = zip(table["key"].to_pylist(), table["paths"].to_pylist(), strict=True)
        return SourceFacts(hashes, {key: tuple(taken) for key, taken in paths if taken is not None}, versions)

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
            "paths": pa.array([i.paths for i in dataset.images] + [None] * len(rejected), pa.list_(pa.string())),
        }
    )
