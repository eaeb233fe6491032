"""The local engine: one shard after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from augcond.engine.base import Engine, Job, run_shard
from augcond.engine.rows import BatchSize
from augcond.store.commit import ShardMarker


class LocalEngine(Engine):
    """Runs shards in this process; several processes share a run with `--part i/n`."""

    def schedule(self, job: Job, shards: Sequence[int]) -> Iterator[tuple[int, ShardMarker]]:
        """Yield each shard as soon as it is committed."""
        batch_size = BatchSize(job.batch_size)
        for number in shards:
            yield number, run_shard(job, number, batch_size)
