"""The local engine: this process, or several on this machine."""

from __future__ import annotations

from collections.abc import Callable

from augcond.config import RunConfig
from augcond.engine.base import Engine, Job
from augcond.engine.work import Work, do_work
from augcond.engine.workers import Workers, threads_of, worker_count
from augcond.store.commit import ShardMarker


class LocalEngine(Engine):
    """Makes shards in this process, or in several that it starts on this machine (`engine.workers`)."""

    def makes_here(self, config: RunConfig) -> bool:
        """Return whether there is one worker."""
        return worker_count(config) == 1

    def threads(self, config: RunConfig) -> int | None:
        """Return the cores that each worker has."""
        return threads_of(config, worker_count(config))

    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Do all of it here, with what this process has loaded; or have it done."""
        if job.materials is not None:
            do_work(work, on_shard, loaded=(job.plan, job.materials), progress=job.progress)
        else:
            Workers(job, work, worker_count(job.config), on_shard).run()
