"""The engine: run, commit, skip and retry of shards. Backends only schedule."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from augcond import registry
from augcond.config import RunConfig
from augcond.engine.faults import most_failed
from augcond.engine.feeding import Materials
from augcond.engine.standby import Preparation, Standby
from augcond.engine.work import Work
from augcond.errors import RunError
from augcond.generators.base import Traits
from augcond.generators.devices import on_cpu
from augcond.progress import NoProgress, Progress
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
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
        materials: what rows are made with; None where this process makes none.
        retry_failed: make shards anew that hold failed rows; their other rows are taken over.
        reuse: other run folders; rows that they hold already are taken over.
    """

    config: RunConfig
    folder: RunFolder
    plan: RunPlan
    materials: Materials | None
    retry_failed: bool = False
    reuse: tuple[Path, ...] = ()
    progress: Progress = field(default_factory=NoProgress)

    def work(self) -> Work:
        """Return what workers need to know of it."""
        return Work(self.folder.path, self.config, None, self.reuse, self.retry_failed)


@dataclass(frozen=True, slots=True)
class Summary:
    """What one call of an engine did; attempted = ok + failed.

    Attributes:
        shards: number of shards committed.
        skipped: number of the other shards of the plan: done before, or by other workers.
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

    def then(self, later: Summary) -> Summary:
        """Return what was done by this call and by a `later` one on the same run."""
        reasons = Counter(self.reasons) + Counter(later.reasons)
        return Summary(
            shards=self.shards + later.shards,
            skipped=later.skipped - self.shards,
            ok=self.ok + later.ok,
            failed=self.failed + later.failed,
            reasons=dict(reasons.most_common()),
            seconds=self.seconds + later.seconds,
        )


class Engine(ABC):
    """Has the pending shards of a job made; subclasses decide where and in which order."""

    def run(self, job: Job) -> Summary:
        """Make and commit every pending shard that no other worker makes; all are done in the end.

        Raises:
            RunError: most rows of a shard failed; the shard is committed, with its reasons.
        """
        markers: list[ShardMarker] = []

        def on_shard(number: int, marker: ShardMarker) -> None:
            markers.append(marker)
            _log_shard(number, marker)
            _stop_if_most_failed(job, number, marker)

        self.schedule(job, job.work(), on_shard)
        reasons: Counter[str] = Counter()
        for marker in markers:
            reasons.update(marker.reasons)
        return Summary(
            shards=len(markers),
            skipped=len(job.plan.fingerprints) - len(markers),
            ok=sum(m.ok for m in markers),
            failed=sum(m.failed for m in markers),
            reasons=dict(reasons.most_common()),
            seconds=sum(m.seconds for m in markers),
        )

    def makes_here(self, config: RunConfig) -> bool:
        """Return whether this process makes rows, and so needs the generator on its device."""
        return True

    def traits(self, config: RunConfig, images: int) -> Traits:
        """Return those of the generator, of which this process has no need otherwise; asked where it makes no rows.

        Args:
            config: of the run; its folder is there.
            images: how many there are to make.

        Raises:
            AugcondError: it cannot be loaded.
        """
        # Wherever the workers are: here it is loaded to be asked only, on what every machine has.
        asked = on_cpu(config.generator)
        with closing(Standby(Preparation(config.run, asked, images))) as standby:
            return standby.traits()

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what `traits` has started and `run` has not taken."""

    def threads(self, config: RunConfig) -> int | None:
        """Return how many threads PyTorch has on a CPU in each worker; None for as many as it likes."""
        return config.engine.threads

    @abstractmethod
    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Have `work` done by `do_work`, in as many processes as you like, and tell `on_shard` of what they commit."""


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
