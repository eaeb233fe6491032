"""Several workers on this machine: processes that are started, listened to, and started again where they die."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import Any

import torch

from augcond.config import RunConfig
from augcond.datasets.decoding import available_cores
from augcond.engine.base import Job
from augcond.engine.child import Order
from augcond.engine.faults import FEWEST_TO_STOP
from augcond.engine.standby import ChildProcess, Standby, start_child
from augcond.engine.work import Work
from augcond.errors import GeneratorError, RunError
from augcond.store.claims import Claims
from augcond.store.commit import ShardMarker
from augcond.store.operations import REAL
from augcond.store.pending import ClaimedShard, tidy

logger = logging.getLogger(__name__)

RESTARTS = 3
"""So often in a row a worker is started again that dies before it has begun a shard."""

KILLS = 3
"""So many workers a shard may kill before it is made row by row."""

_LISTEN, _LOOK, _END = 0.5, 5.0, 60.0
"""Seconds: that one listens at most; between two looks at what workers elsewhere have committed; until a worker that
was told to end is killed."""

MOST_FEEDING = 8
"""Threads that feed a worker."""

_DEVICES = "CUDA_VISIBLE_DEVICES"


def worker_count(config: RunConfig) -> int:
    """Return how many processes of this machine make the shards of a run; 1 is this very process."""
    if config.engine.workers != "auto":
        return config.engine.workers
    on_cuda = config.generator.device in ("auto", "cuda")
    return max(1, torch.cuda.device_count()) if on_cuda else 1


def threads_of(config: RunConfig, workers: int) -> int | None:
    """Return how many threads PyTorch has in each of so many workers; None for as many as it likes."""
    return config.engine.threads or (max(1, available_cores() // workers) if workers > 1 else None)


def visible_devices(count: int) -> list[str]:
    """Return what `CUDA_VISIBLE_DEVICES` is for each of so many workers; nothing where there are no such devices."""
    shown = os.environ.get(_DEVICES)
    devices = [str(number) for number in range(torch.cuda.device_count())]
    if shown is not None:
        # Numbers, UUIDs, or parts of a device (MIG): as they are called there.
        devices = [name.strip() for name in shown.split(",")][: len(devices)]
    return [devices[number % len(devices)] for number in range(count)] if devices else []


def device_environment(devices: Sequence[str], slot: int) -> tuple[tuple[str, str], ...]:
    """Return the variables that show a worker its device; none where there are no `devices`."""
    return ((_DEVICES, devices[slot]),) if devices else ()


@dataclass(slots=True)
class _Child:
    """A worker that was started, and what it has told so far.

    Attributes:
        slot: which of the workers it is.
        child: the process, and the ways to it.
        alone: the shard that it makes row by row; None for all others.
        ready: whether it has loaded everything.
        at: what it is at: a shard, or the key of a row of the shard that it makes row by row.
        rows: made and failed ones that are not committed.
        error: what it ends with.
    """

    slot: int
    child: ChildProcess
    alone: ClaimedShard | None
    ready: bool = False
    at: Any = None
    rows: list[int] = field(default_factory=lambda: [0, 0])
    error: Exception | None = None


def _shared_out(work: Work, count: int) -> Work:
    """Return `work` for one of so many workers on this machine."""
    engine = work.config.engine
    feeding = engine.feeding_threads or min(MOST_FEEDING, max(1, available_cores() // count))
    shared = engine.model_copy(update={"feeding_threads": feeding})
    return replace(work, config=work.config.model_copy(update={"engine": shared}))


class Workers:
    """Has `work` done by `count` processes.

    Args:
        job: whose progress is told of all rows.
        work: what is to be done.
        count: of processes.
        on_shard: told of each shard that one of them has committed.
        count_others: whether the progress is told of what workers elsewhere commit, too.
        standby: a worker that has loaded the generator, and becomes the first of them.
        is_dropped: whether they are to end, and to drop what they have in hand; asked again and again.
    """

    def __init__(
        self,
        job: Job,
        work: Work,
        count: int,
        on_shard: Callable[[int, ShardMarker], None],
        *,
        count_others: bool = True,
        standby: Standby | None = None,
        is_dropped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._count_others, self._standby, self._is_dropped = count_others, standby, is_dropped
        self._job, self._work, self._count, self._on_shard = job, _shared_out(work, count), count, on_shard
        self._devices = visible_devices(count)
        self._children: list[_Child] = []
        self._failures: Counter[int] = Counter()  # of each slot, in a row
        self._kills: Counter[int] = Counter()  # of each shard
        self._fatal: list[str] = []  # keys of rows
        self._bounds = job.plan.plan.bounds()
        self._missing: dict[int, ShardMarker | None] = {}  # what is not done, and its marker that does not count
        self._seen: set[int] = set()
        self._looked = 0.0

    def run(self) -> None:
        """Start them, and return once all shards are done.

        Raises:
            RunError: they die before they have begun anything, or a shard kills one after the other.
            AugcondError: what they raise that another try does not mend.
        """
        for number, marker in enumerate(self._job.folder.markers(self._job.plan)):
            if marker is None or (self._work.retry_failed and marker.failed):
                self._missing[number] = marker
        self._job.progress.start(sum(map(self._rows_of, self._missing)))
        logger.info("%d of %d shards to do, by %d workers", len(self._missing), len(self._bounds), self._count)
        with self._job.folder.claims() as claims:
            try:
                for slot in range(self._count if self._missing else 0):
                    self._start(slot)
                while self._children and not self._is_dropped():
                    self._listen(claims)
            finally:
                self._end(claims)
            tidy(self._job.folder, claims, finished=True)

    def _rows_of(self, number: int) -> int:
        start, stop = self._bounds[number]
        return stop - start

    def _start(self, slot: int, alone: ClaimedShard | None = None) -> None:
        child = (self._standby.take() if self._standby is not None and slot == 0 else None) or start_child()
        self._children.append(_Child(slot, child, alone))
        environment = device_environment(self._devices, slot)
        with suppress(BrokenPipeError):
            child.tell(Order(self._work, environment, alone, tuple(self._fatal)))

    def _listen(self, claims: Claims) -> None:
        """Hear what the workers have to tell, for some moments."""
        pipes = [child.child.pipe for child in self._children]
        told = wait(pipes, _LISTEN)
        for child in [child for child in self._children if child.child.pipe in told]:
            try:
                what, of = child.child.pipe.recv()
            except (EOFError, OSError):
                self._children.remove(child)
                code = child.child.process.wait()
                child.child.close()
                self._ended(child, claims, code)
            else:
                self._hear(child, what, of)
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._look_elsewhere()

    def _hear(self, child: _Child, what: str, of: Any) -> None:
        match what:
            case "ready":
                child.ready = True
            case "at":
                child.at = of
                self._failures[child.slot] = 0
            case "rows":
                child.rows = [before + more for before, more in zip(child.rows, of, strict=True)]
                self._job.progress.advance(*of)
            case "shard":
                number, marker = of
                self._missing.pop(number, None)
                child.rows = [child.rows[0] - marker.rows, child.rows[1] - marker.failed]
                self._on_shard(number, marker)
            case "error":
                child.error = of

    def _look_elsewhere(self) -> None:
        """Count what workers that are not ours have committed; ours may not have told yet, so that we look twice."""
        folder, plan = self._job.folder, self._job.plan
        names = set(REAL.names(folder.shards))
        found = [number for number in self._missing if folder.marker_path(number).name in names]
        for number in found:
            marker = folder.done(number, plan.fingerprints[number])
            if number in self._seen and marker is not None and marker != self._missing[number]:
                del self._missing[number]
                if self._count_others:
                    self._job.progress.advance(marker.rows, marker.failed)
        self._seen = set(found)

    def _ended(self, child: _Child, claims: Claims, code: int) -> None:
        """Find out what the end of a worker means, and start another one where it died."""
        died = code != 0
        if child.error is not None and not (child.ready and isinstance(child.error, GeneratorError)):
            raise child.error
        if died:
            # What it had made and not committed is made again.
            self._job.progress.advance(-child.rows[0], -child.rows[1])
            why = str(child.error or _described(code))
            where = "its start" if child.at is None else f"shard {child.at}" if child.alone is None else child.at
            logger.warning("worker %d has died at %s (%s), and is started again", child.slot, where, why)
            claims.bury_dead(at_once=True)
            self._failures[child.slot] += 1
            if self._failures[child.slot] > RESTARTS:
                raise RunError(f"a worker has died {RESTARTS + 1} times before it had begun anything: {why}")
        if child.alone is not None:
            if died and child.at is not None:
                self._fatal.append(child.at)
                if len(self._fatal) == FEWEST_TO_STOP:
                    raise RunError(
                        f"{FEWEST_TO_STOP} rows have ended the process that made them, the last one {child.at}: {why}"
                    )
            if died:
                self._start(child.slot, child.alone)
                return
            claims.give_back(child.alone.claim)
        if child.alone is not None or died:
            self._start(child.slot, self._alone_after(child, claims) if died else None)

    def _alone_after(self, child: _Child, claims: Claims) -> ClaimedShard | None:
        """Return the shard that a worker died of, claimed, if it is to be made row by row."""
        number = child.at
        if number not in self._missing:
            return None
        self._kills[number] += 1
        if self._kills[number] < KILLS:
            return None
        # Where another worker has it already, that one comes here next.
        claim = claims.take(f"{number:05d}")
        return None if claim is None else ClaimedShard(number, claim, self._missing[number])

    def _end(self, claims: Claims) -> None:
        for child in self._children:
            child.child.process.terminate()
        deadline = time.monotonic() + _END
        for child in self._children:
            child.child.end(max(0.0, deadline - time.monotonic()))
        if self._children:  # one that was importing something, or was killed, has given nothing back
            claims.bury_dead(at_once=True)
        self._children = []


def _described(code: int) -> str:
    """Return how a process ended."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
