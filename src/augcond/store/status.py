"""How far a run is, from its plan and markers, and who is at it, from claims and worker files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from augcond.store.claims import PACE
from augcond.store.disk import disk_by_kind
from augcond.store.folder import RunFolder
from augcond.store.rejection import rejected_keys
from augcond.store.workers import WorkerRecord, seconds_unheard, workers_in


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker of a run.

    Attributes:
        worker: its name.
        host: where it is.
        pid: its process there.
        device: what it makes images on; empty where it makes none yet.
        since: when it came, in seconds since 1970 by its own clock.
        shards: what it has claimed.
        images: rows that it has made.
        images_per_second: since it began to make them; None before the first.
        unheard: seconds since it last showed that it lives, by the clocks of this machine and of the file system.
        stale: whether it is gone, by this system's process table, or has not been heard of for a minute: then its
            claims are taken over by the next worker that looks.
    """

    worker: str
    host: str
    pid: int
    device: str
    since: float
    shards: tuple[str, ...]
    images: int
    images_per_second: float | None
    unheard: float
    stale: bool


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
        images_per_second: rows per second: of all workers that are at it now; where there is none, of one worker, over
            all shards that are done. None before the first.
        seconds_left: at that rate; None where it is not known.
        workers: who is at it, the oldest first.
        lost: claims that no worker file belongs to.
        rejected: of the images made, those that a person rejected.
        disk: bytes of the run folder by kind of file, the largest first.
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
    workers: tuple[WorkerStatus, ...] = ()
    lost: tuple[str, ...] = ()
    rejected: int = 0
    disk: dict[str, int] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Shards that are not done."""
        return self.shards - self.shards_done

    @property
    def working(self) -> tuple[WorkerStatus, ...]:
        """The workers that make images and live, as far as is known."""
        return tuple(worker for worker in self.workers if worker.device and not worker.stale)

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
    claimed = folder.claims().claimed()
    workers = tuple(
        _worker(folder, record, [name for name, claim in claimed.items() if claim.worker == record.worker])
        for record in workers_in(folder.locks)
    )
    known = {worker.worker for worker in workers}
    now = sum(worker.images_per_second or 0.0 for worker in workers if not worker.stale)
    rate = now or (attempted / seconds if seconds else None)
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
        # Who only waits, or listens to others, is no news.
        workers=tuple(worker for worker in workers if worker.device or worker.shards),
        lost=tuple(sorted(name for name, claim in claimed.items() if claim.worker not in known)),
        rejected=len(rejected_keys(folder)),
        disk=disk_by_kind(folder),
    )


def _worker(folder: RunFolder, record: WorkerRecord, claims: list[str]) -> WorkerStatus:
    unheard = seconds_unheard(folder.locks, record)
    alive = record.place.is_alive()
    return WorkerStatus(
        worker=record.worker,
        host=record.place.host,
        pid=record.place.pid,
        device=record.device,
        since=record.since,
        shards=tuple(sorted(claims)),
        images=record.images,
        images_per_second=record.images / record.seconds if record.seconds else None,
        unheard=unheard,
        stale=alive is False or unheard > PACE.stale,
    )
