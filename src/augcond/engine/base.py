"""The engine: run, commit, skip and retry of shards. Backends only schedule."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from augcond import registry
from augcond.config import RunConfig
from augcond.engine.faults import most_failed
from augcond.engine.feeding import Materials
from augcond.engine.work import Work
from augcond.errors import ConfigError, RunError
from augcond.progress import NoProgress, Progress
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.locks import part_lock
from augcond.store.plans import RunPlan

logger = logging.getLogger(__name__)

_MOST_REASONS = 5
"""Said of a shard; its marker has them all."""


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one call on a run, and what this process has loaded of it.

    Attributes:
        config: of the run.
        folder: the run.
        plan: its plan, with the fingerprint of each shard; it lies in the folder.
        materials: what rows are made with.
        part: this process makes the shards whose number is `part` - 1 modulo `parts`.
        parts: number of processes that share the run.
        retry_failed: make shards anew that hold failed rows; their other rows are taken over.
        reuse: other run folders; rows that they hold already are taken over.
    """

    config: RunConfig
    folder: RunFolder
    plan: RunPlan
    materials: Materials
    part: int = 1
    parts: int = 1
    retry_failed: bool = False
    reuse: tuple[Path, ...] = ()
    progress: Progress = field(default_factory=NoProgress)

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.parts:
            raise ConfigError(f"--part {self.part}/{self.parts}: expected i/n with 1 <= i <= n, such as 2/8")

    def is_mine(self, shard: int) -> bool:
        """Return whether `shard` belongs to this job's part."""
        return shard % self.parts == self.part - 1

    def pending(self) -> Work:
        """Return the shards of this part that are not done: plan minus valid markers."""
        shards = tuple(
            number
            for number, marker in enumerate(self.folder.markers(self.plan))
            if self.is_mine(number) and (marker is None or (self.retry_failed and marker.failed))
        )
        own = (self.folder.path,) if self.retry_failed else ()
        return Work(self.folder.path, self.config, shards, (*self.reuse, *own))


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
    """Has the pending shards of a job made; subclasses decide where and in which order."""

    def run(self, job: Job) -> Summary:
        """Make and commit every pending shard of the job's part.

        Raises:
            RunLockedError: another process works on this part.
            RunError: most rows of a shard failed; the shard is committed, with its reasons.
        """
        markers: list[ShardMarker] = []

        def on_shard(number: int, marker: ShardMarker) -> None:
            markers.append(marker)
            _log_shard(number, marker)
            _stop_if_most_failed(job, number, marker)

        with part_lock(job.folder.locks, job.part, job.parts):
            job.folder.remove_temporary_shards(job.is_mine)
            work = job.pending()
            mine = sum(map(job.is_mine, range(len(job.plan.fingerprints))))
            bounds = job.plan.plan.bounds()
            job.progress.start(sum(bounds[number][1] - bounds[number][0] for number in work.shards))
            logger.info("%d of %d shards to do", len(work.shards), mine)
            self.schedule(job, work, on_shard)
        reasons: Counter[str] = Counter()
        for marker in markers:
            reasons.update(marker.reasons)
        return Summary(
            shards=len(markers),
            skipped=mine - len(work.shards),
            ok=sum(m.ok for m in markers),
            failed=sum(m.failed for m in markers),
            reasons=dict(reasons.most_common()),
            seconds=sum(m.seconds for m in markers),
        )

    @abstractmethod
    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Have `work` done by `do_work`, whole or cut up, and tell `on_shard` of every shard that is committed."""


def load_engine(name: str) -> Engine:
    """Return the engine that `engine.name` stands for.

    Raises:
        ConfigError: it cannot be imported.
    """
    engine: Engine = registry.engines.load(name)()
    return engine


def _log_shard(number: int, marker: ShardMarker) -> None:
    logger.info("shard %05d: %d ok, %d failed, %.1f s", number, marker.ok, marker.failed, marker.seconds)
    for note in marker.notes:
        logger.warning("shard %05d: %s", number, note)
    for reason in _reasons(marker):
        logger.warning("shard %05d: %s", number, reason)


def _stop_if_most_failed(job: Job, number: int, marker: ShardMarker) -> None:
    if not most_failed(marker.failed, marker.rows, job.config.engine.max_failed_share):
        return
    raise RunError(
        f"{marker.failed} of {marker.rows} rows of shard {number:05d} failed: {'; '.join(_reasons(marker))}. Mend the "
        "cause and go on with --retry-failed, or raise engine.max_failed_share. Tracebacks of what was raised stand in "
        f"{job.folder.log_path}"
    )


def _reasons(marker: ShardMarker) -> list[str]:
    """Return the reasons of failed rows with their counts, most frequent first; of rare ones the number alone."""
    reasons = Counter(dict(marker.reasons)).most_common()
    shown = [f"{count} x {reason}" for reason, count in reasons[:_MOST_REASONS]]
    rest = reasons[_MOST_REASONS:]
    return [*shown, f"{sum(count for _, count in rest)} x {len(rest)} other reasons"] if rest else shown
