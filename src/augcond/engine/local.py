"""The local engine: one shard after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable

from augcond.engine.base import Engine, Job
from augcond.engine.work import Work, do_work
from augcond.store.commit import ShardMarker


class LocalEngine(Engine):
    """Makes shards in this process."""

    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Do all of it here, with what this process has loaded."""
        do_work(work, on_shard, plan=job.plan, materials=job.materials, progress=job.progress)
