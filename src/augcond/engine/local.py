"""The local engine: this process, or several on this machine."""

from __future__ import annotations

from collections.abc import Callable

from augcond.config import RunConfig
from augcond.engine.base import Engine, Job
from augcond.engine.standby import Preparation, Standby
from augcond.engine.work import Work, do_work
from augcond.engine.workers import Workers, device_environment, threads_of, visible_devices, worker_count
from augcond.generators.base import Traits
from augcond.store.commit import ShardMarker


class LocalEngine(Engine):
    """Makes shards in this process, or in several that it starts on this machine (`engine.workers`)."""

    _standby: Standby | None = None

    def makes_here(self, config: RunConfig) -> bool:
        """Return whether there is one worker."""
        return worker_count(config) == 1

    def traits(self, config: RunConfig, images: int) -> Traits:
        """Return those of the generator that the first worker has loaded, which then waits for what it is to do."""
        environment = device_environment(visible_devices(worker_count(config)), 0)
        self._standby = Standby(Preparation(config.run, config.generator, images, environment))
        return self._standby.traits()

    def close(self) -> None:
        """End that worker, if there was nothing to do."""
        if self._standby is not None:
            self._standby.close()

    def threads(self, config: RunConfig) -> int | None:
        """Return the cores that each worker has."""
        return threads_of(config, worker_count(config))

    def schedule(self, job: Job, work: Work, on_shard: Callable[[int, ShardMarker], None]) -> None:
        """Do all of it here, with what this process has loaded; or have it done."""
        if job.materials is not None:
            do_work(work, on_shard, loaded=(job.plan, job.materials), progress=job.progress)
        else:
            Workers(job, work, worker_count(job.config), on_shard, standby=self._standby).run()
