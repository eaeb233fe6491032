"""A shard that killed whoever made it, row by row: the rows that kill are recorded as failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from augcond.engine.commits import MadeRows, commit_rows
from augcond.engine.feeding import Feeding, Materials
from augcond.engine.rows import BatchSize, generate_rows
from augcond.engine.work import Work, torch_threads
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.pending import ClaimedShard
from augcond.store.plans import RunPlan
from augcond.store.shards import ShardRow

FATAL = "it ended every process that made it"
"""The reason of a row that kills."""


def make_row_by_row(
    work: Work,
    claimed: ClaimedShard,
    fatal: Collection[str],
    on_row: Callable[[str], None],
    loaded: tuple[RunPlan, Materials],
) -> ShardMarker | None:
    """Make and commit a claimed shard, one row after the other, so that it is known which one kills.

    Args:
        work: see `Work`.
        claimed: the shard.
        fatal: keys of rows that are not tried, but recorded as failed.
        on_row: told of each row before anything of it is touched.
        loaded: the plan of the run, and what rows are made with.

    Returns:
        The marker; None where another worker was quicker.
    """
    plan, materials = loaded
    settings, started = work.config.engine, time.monotonic()
    rows: list[ShardRow] = []
    # A thread that reads ahead would die for another row.
    with (
        torch_threads(settings.threads or plan.threads),
        Feeding(materials, 1, settings.max_memory_gb, reducing=plan.reducing) as feeding,
    ):
        for row in plan.plan.shard(claimed.number):
            if row.key in fatal:
                rows.append(ShardRow(row, None, error=FATAL))
                continue
            on_row(row.key)
            rows += generate_rows([row], materials, BatchSize(1), feeding=feeding)
        made = MadeRows(rows, 1, ("it killed three workers, and was made row by row",), time.monotonic() - started)
        return commit_rows(made, claimed, RunFolder(work.run), plan)
