"""The engine: run, commit, skip and retry of shards. Backends only schedule."""

from __future__ import annotations

import logging
import platform
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from augcond.engine.rows import BatchSize, Materials, generate_rows
from augcond.errors import ConfigError, RunError
from augcond.planning import PlanRow
from augcond.progress import NoProgress, Progress
from augcond.store.commit import ShardFacts, ShardMarker, commit_shard
from augcond.store.folder import RunFolder
from augcond.store.locks import part_lock
from augcond.store.plans import RunPlan
from augcond.store.shards import ShardRow, shard_tables

logger = logging.getLogger(__name__)

_LIBRARIES = ("augcond", "torch", "torchvision", "diffusers", "transformers", "pillow", "numpy", "pyarrow")

_FEWEST_TO_STOP = 8
"""So many rows of a shard must fail before their share counts: a small shard with a bad image or two stops nothing."""


def count_for(progress: Progress) -> Callable[[list[ShardRow]], None]:
    """Return a function that counts finished batches for `progress`."""
    return lambda batch: progress.advance(len(batch), sum(row.image is None for row in batch))


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one process on a run.

    Attributes:
        folder: the run.
        plan: its plan, with the fingerprint of each shard.
        materials: what rows are made with.
        batch_size: rows per batch.
        threads: of PyTorch on a CPU; as they are where None.
        max_failed_share: a shard in which a larger share failed, and no less than 8 rows, stops the job, after it is
            committed.
        part: this process makes the shards whose number is `part` - 1 modulo `parts`.
        parts: number of processes that share the run.
        retry_failed: make shards anew that hold failed rows.
        reuse: rows that other runs have made already; asked before a row is generated.
    """

    folder: RunFolder
    plan: RunPlan
    materials: Materials
    batch_size: int
    threads: int | None = None
    max_failed_share: float = 0.5
    part: int = 1
    parts: int = 1
    retry_failed: bool = False
    reuse: Callable[[Sequence[PlanRow]], dict[str, ShardRow]] | None = None
    progress: Progress = field(default_factory=NoProgress)

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.parts:
            raise ConfigError(f"--part {self.part}/{self.parts}: expected i/n with 1 <= i <= n, such as 2/8")

    def is_mine(self, shard: int) -> bool:
        """Return whether `shard` belongs to this job's part."""
        return shard % self.parts == self.part - 1

    def pending(self) -> list[int]:
        """Return the shards of this part that are not done: plan minus valid markers."""
        return [
            number
            for number, marker in enumerate(self.folder.markers(self.plan))
            if self.is_mine(number) and (marker is None or (self.retry_failed and marker.failed))
        ]


@dataclass(frozen=True, slots=True)
class Summary:
    """What one call of an engine did; attempted = ok + failed.

    Attributes:
        shards: number of shards committed.
        skipped: number of shards of this part that were done before.
        ok: images made.
        failed: rows without an image.
        reasons: how many rows failed for which reason.
        seconds: time the shards took, without loading.
    """

    shards: int
    skipped: int
    ok: int
    failed: int
    reasons: dict[str, int]
    seconds: float


class Engine(ABC):
    """Runs the pending shards of a job; subclasses decide where and in which order."""

    def run(self, job: Job) -> Summary:
        """Make and commit every pending shard of the job's part.

        Raises:
            RunLockedError: another process works on this part.
            RunError: most rows of a shard failed; the shard is committed, with its reasons.
        """
        with part_lock(job.folder.locks, job.part, job.parts):
            job.folder.remove_temporary_shards(job.is_mine)
            pending = job.pending()
            mine = sum(map(job.is_mine, range(len(job.plan.fingerprints))))
            bounds = job.plan.plan.bounds()
            job.progress.start(sum(bounds[number][1] - bounds[number][0] for number in pending))
            logger.info("%d of %d shards to do", len(pending), mine)
            if job.threads is not None:
                torch.set_num_threads(job.threads)
            markers: list[ShardMarker] = []
            for number, marker in self.schedule(job, pending):
                markers.append(marker)
                _log_shard(number, marker)
                _stop_if_most_failed(job, number, marker)
        reasons: Counter[str] = Counter()
        for marker in markers:
            reasons.update(marker.reasons)
        return Summary(
            shards=len(markers),
            skipped=mine - len(pending),
            ok=sum(m.ok for m in markers),
            failed=sum(m.failed for m in markers),
            reasons=dict(reasons.most_common()),
            seconds=sum(m.seconds for m in markers),
        )

    @abstractmethod
    def schedule(self, job: Job, shards: Sequence[int]) -> Iterable[tuple[int, ShardMarker]]:
        """Yield (number, marker) of each of `shards` as `run_shard` has committed it."""


def run_shard(job: Job, number: int, batch_size: BatchSize) -> ShardMarker:
    """Make and commit one shard."""
    started = time.monotonic()
    rows = job.plan.plan.shard(number)
    reused = job.reuse(rows) if job.reuse else {}
    if reused:
        job.progress.advance(len(reused), 0)
    first_note = len(batch_size.notes)
    made = generate_rows(
        [row for row in rows if row.key not in reused],
        job.materials,
        batch_size,
        count_for(job.progress),
    )
    by_key = {row.row.key: row for row in made} | reused
    notes = tuple(batch_size.notes[first_note:])
    if reused:
        notes += ("1 row reused" if len(reused) == 1 else f"{len(reused)} rows reused",)
    return commit_shard(
        shard_tables([by_key[row.key] for row in rows], job.plan.classes, job.plan.columns),
        job.folder.shard_path(number),
        job.folder.marker_path(number),
        ShardFacts(
            fingerprint=job.plan.fingerprints[number],
            batch_size=batch_size.current,
            threads=torch.get_num_threads(),
            notes=notes,
            seconds=time.monotonic() - started,
            versions=library_versions(),
        ),
    )


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide an image's bytes."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _log_shard(number: int, marker: ShardMarker) -> None:
    logger.info("shard %05d: %d ok, %d failed, %.1f s", number, marker.ok, marker.failed, marker.seconds)
    for note in marker.notes:
        logger.warning("shard %05d: %s", number, note)
    for reason, count in marker.reasons.items():
        logger.warning("shard %05d: %d x %s", number, count, reason)


def _stop_if_most_failed(job: Job, number: int, marker: ShardMarker) -> None:
    if marker.failed < _FEWEST_TO_STOP or marker.failed <= job.max_failed_share * marker.rows:
        return
    reasons = "; ".join(f"{count} x {reason}" for reason, count in marker.reasons.items())
    raise RunError(
        f"{marker.failed} of {marker.rows} rows of shard {number:05d} failed: {reasons}. Mend the cause and go on with "
        "--retry-failed, or raise engine.max_failed_share"
    )
