"""How far a run is, from its plan and markers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from augcond.store.folder import RunFolder


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run is; attempted = ok + failed, and planned = attempted + left.

    Attributes:
        planned: rows of the plan.
        ok: images made.
        failed: rows without an image.
        left: rows of shards that are not done.
        reasons: how many rows failed for which reason.
        shards: number of shards.
        shards_done: number of those that are committed.
        bytes: size of the committed shards.
        images_per_second: rows per second of work, over all processes that took part; None before the first shard.
        seconds_left: at that rate, with one process; None before the first shard.
    """

    planned: int
    ok: int
    failed: int
    left: int
    reasons: dict[str, int]
    shards: int
    shards_done: int
    bytes: int
    images_per_second: float | None
    seconds_left: float | None

    @property
    def attempted(self) -> int:
        """Rows that were tried."""
        return self.ok + self.failed


def run_status(folder: RunFolder) -> RunStatus:
    """Return how far the run in `folder` is.

    Raises:
        RunError: there is no run there.
    """
    plan = folder.read_plan()
    markers = folder.markers(plan)
    done = [marker for marker in markers if marker is not None]
    reasons: Counter[str] = Counter()
    for marker in done:
        reasons.update(marker.reasons)
    attempted = sum(marker.rows for marker in done)
    seconds = sum(marker.seconds for marker in done)
    rate = attempted / seconds if seconds else None
    left = len(plan.plan) - attempted
    return RunStatus(
        planned=len(plan.plan),
        ok=sum(marker.ok for marker in done),
        failed=sum(marker.failed for marker in done),
        left=left,
        reasons=dict(reasons.most_common()),
        shards=len(markers),
        shards_done=len(done),
        bytes=sum(marker.bytes for marker in done),
        images_per_second=rate,
        seconds_left=left / rate if rate else None,
    )
