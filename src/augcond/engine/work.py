"""Making shards, wherever that is: what is sent there, and what is done with it.

What travels is a run folder and a config; plan, reader and generator are loaded where they are used. Which shards it
makes, a worker finds out itself, by claiming them (`augcond.store.claims`).
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from augcond.config import RunConfig
from augcond.datasets import DecodeSettings, list_images
from augcond.datasets.contents import RecordedReader
from augcond.engine.commits import MadeRows, commit_rows
from augcond.engine.faults import most_failed
from augcond.engine.feeding import Ahead, Feeding, Materials
from augcond.engine.looking import led_away
from augcond.engine.rows import BatchSize, Making, count_for
from augcond.errors import GeneratorError, RunMismatchError
from augcond.generators import Generator, load_generator
from augcond.generators.devices import resolve_device
from augcond.planning import PlanRow
from augcond.progress import NoProgress, Progress
from augcond.store.claims import PACE, Claims, Tally
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.images import ImageFormat
from augcond.store.pending import ClaimedShard, PendingShards, tidy
from augcond.store.plans import RunPlan
from augcond.store.reuse import ReusableRows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker needs to know; it can be pickled, and done by any number of processes that see the run folder.

    Attributes:
        run: the run folder, with its plan.
        config: of the run.
        shards: the numbers of those that are to be made; all that are pending where None.
        reuse: run folders; rows that they hold already are taken.
        retry_failed: make shards anew that hold failed rows; their other rows are taken over.
    """

    run: Path
    config: RunConfig
    shards: tuple[int, ...] | None = None
    reuse: tuple[Path, ...] = ()
    retry_failed: bool = False


def do_work(
    work: Work,
    on_shard: Callable[[int, ShardMarker], None],
    *,
    loaded: tuple[RunPlan, Materials] | None = None,
    progress: Progress | None = None,
    on_begin: Callable[[int], None] = lambda number: None,
    count_others: bool = True,
) -> None:
    """Claim, make and commit shards of `work` until all are done, by this worker or others; those of the dead, too.

    Args:
        work: what is to be done.
        on_shard: told of each shard once this worker has committed it; what it raises ends the work.
        loaded: the plan of the run and what rows are made with; read and loaded where None.
        progress: is told how many rows are to be made, and how many are.
        on_begin: told of each shard whose first rows go to the generator.
        count_others: whether `progress` is told of what other workers commit, too.

    Raises:
        RunMismatchError: the generator that is loaded here is not the one that the run was planned with.
        RunError: a shard cannot be written.
        GeneratorError: a GPU failed, so that nothing more can be computed in this process; or something in it asked to
            end it.
    """
    folder = RunFolder(work.run)
    plan, materials = loaded or load(work)
    materials = led_away(materials, plan, {key: label for key, (label, _) in folder.read_sources().items()})
    reusable = _reusable(work, folder, plan)
    settings = work.config.engine
    with (
        folder.claims() as claims,
        torch_threads(settings.threads or plan.threads),
        Feeding(materials, settings.feeding_threads, settings.max_memory_gb, reducing=plan.reducing) as feeding,
        _Committer(on_shard) as committer,
    ):
        claims.tally.device = _device(work.config)
        claims.beat()
        feeding.embed_once(folder, plan)
        told = _Tallied(progress or NoProgress(), claims.tally)
        tidy(folder, claims, finished=False)
        pending = PendingShards(
            folder,
            plan,
            claims,
            only=work.shards,
            retry_failed=work.retry_failed,
            on_done=lambda marker: told.by_others(marker.rows, marker.failed) if count_others else None,
        )
        bounds = plan.plan.bounds()
        told.start(sum(bounds[number][1] - bounds[number][0] for number in pending.numbers))
        logger.info("%d of %d shards to do", len(pending), len(bounds))
        bench = _Bench(
            folder,
            plan,
            materials,
            claims,
            pending,
            BatchSize(settings.batch_size),
            reusable,
            told,
            settings.max_failed_share,
        )
        try:
            while True:
                _make_shards(bench, feeding, committer, on_begin)
                if not len(pending):
                    break
                # Others hold what is left: they commit it, or die.
                time.sleep(PACE.poll)
            tidy(folder, claims, finished=work.shards is None)
        except SystemExit as error:
            # It would end the program without a word, with 0 even as if all were done.
            raise GeneratorError(
                f"a generator, a recipe or a reader called sys.exit({error.code!r}): let it raise an exception, which "
                "fails its rows. What was committed is safe"
            ) from error


def load(work: Work, generator: Generator | None = None) -> tuple[RunPlan, Materials]:
    """Return the plan of the run, and what its rows are made with; no image is opened yet.

    Args:
        work: what is to be done.
        generator: of its config; loaded where None.

    Raises:
        RunMismatchError: the generator is not the one that the run was planned with.
    """
    config, folder = work.config, RunFolder(work.run)
    plan = folder.read_plan()
    generator = generator or load_generator(config.generator, images=len(plan.plan))
    identity = generator.identity
    for planned, found in (
        (plan.columns.generator, f"{identity.name}:{identity.model}"),
        (plan.columns.revision, identity.revision),
    ):
        if planned != found:
            raise RunMismatchError(f"the run was planned with the generator {planned}, and {found} is what lies here")
    recorded = {key: sha256 for key, (_, sha256) in folder.read_sources().items()}
    return plan, Materials(
        RecordedReader(list_images(config.data).reader, recorded),
        DecodeSettings.of(config.data),
        config.conditioning,
        generator,
        ImageFormat.resolve(config.output, generator.image_size),
    )


def _device(config: RunConfig) -> str:
    """Return what a worker says it makes images on."""
    device = str(resolve_device(config.generator.device))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"{device} ({shown})" if shown and device.startswith("cuda") else device


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads on a CPU (as many as before where None), and afterwards as many as before."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


class _Tallied:
    """A progress that counts what this worker has made, too."""

    def __init__(self, progress: Progress, tally: Tally) -> None:
        self._progress, self._tally = progress, tally
        self._since = time.monotonic()

    def start(self, total: int, what: str | None = None) -> None:
        """`total` rows are to be made; see `Progress`."""
        self._since = time.monotonic()
        self._progress.start(total, what)

    def advance(self, made: int, failed: int) -> None:
        """This worker has made `made` more; see `Progress`."""
        self._tally.images += made
        self._tally.seconds = time.monotonic() - self._since
        self._progress.advance(made, failed)

    def by_others(self, made: int, failed: int) -> None:
        """Other workers have made `made` more."""
        self._progress.advance(made, failed)


@dataclass(frozen=True, slots=True)
class _Bench:
    folder: RunFolder
    plan: RunPlan
    materials: Materials
    claims: Claims
    pending: PendingShards
    batch_size: BatchSize
    reusable: ReusableRows | None
    progress: _Tallied
    max_failed_share: float


def _reusable(work: Work, folder: RunFolder, plan: RunPlan) -> ReusableRows | None:
    runs = [RunFolder(path) for path in work.reuse]
    if work.retry_failed:
        runs.append(folder)
    return ReusableRows(plan, folder.read_source_facts(plan.versions), runs) if runs else None


class _Shard:
    """A shard, from when its first row is readied until it is committed."""

    def __init__(self, claimed: ClaimedShard, bench: _Bench) -> None:
        self.number = claimed.number
        self._claimed = claimed
        self._bench = bench
        self._rows = bench.plan.plan.shard(self.number)
        self._reused = bench.reusable(self._rows) if bench.reusable else {}
        self.missing = [row for row in self._rows if row.key not in self._reused]
        self._notes: tuple[str, ...] = ()

    def make(self, feeding: Feeding, ahead: Ahead) -> Iterator[None]:
        """Put the missing rows through the generator, a batch for each step."""
        batch_size = self._bench.batch_size
        first_note = len(batch_size.notes)
        if self._reused:
            self._bench.progress.advance(len(self._reused), 0)
        self._making = Making(
            len(self.missing), feeding, ahead, batch_size, count_for(self._bench.progress), self._is_hopeless
        )
        while not self._making.complete:
            self._making.step()
            yield
            self._making.settle(leave=1)
        self._notes = tuple(dict.fromkeys(batch_size.notes[first_note:]))
        self._batch_size = batch_size.current

    def _is_hopeless(self, failed: int) -> bool:
        # The job stops after such a shard, so that no search for the culprits of what fails in it is worth its time.
        return most_failed(failed, len(self._rows), self._bench.max_failed_share)

    def ends_the_job(self) -> bool:
        """Return whether so many rows failed, as far as is known, that no other shard need be begun."""
        return self._is_hopeless(self._making.failed)

    def finish(self, seconds: float) -> None:
        """Wait for the last images to be encoded; the shard took so long."""
        self._making.settle(leave=0)
        self._seconds = seconds

    def commit(self) -> ShardMarker | None:
        """Write the shard and its marker, and give the claim back; None where another worker was quicker."""
        bench, notes = self._bench, self._notes
        by_key = {row.row.key: row for row in self._making.made} | self._reused
        if self._reused:
            notes += ("1 row reused" if len(self._reused) == 1 else f"{len(self._reused)} rows reused",)
        made = MadeRows([by_key[row.key] for row in self._rows], self._batch_size, notes, self._seconds)
        marker = commit_rows(made, self._claimed, bench.folder, bench.plan)
        bench.claims.give_back(self._claimed.claim)
        if marker is None:
            bench.pending.put_back(self.number)
        return marker


class _Shards:
    """Shards as this worker claims them, while there are any; each is opened as soon as its rows are readied."""

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench
        self._opened: deque[_Shard] = deque()
        self._unread: deque[_Shard] = deque()
        self._ended = False

    def __iter__(self) -> Iterator[_Shard]:
        while self._opened or self._open():
            yield self._opened.popleft()

    def missing(self) -> Iterator[PlanRow]:
        """Yield the rows of all shards that are to be made."""
        while self._unread or self._open():
            yield from self._unread.popleft().missing

    def _open(self) -> bool:
        # What comes free after the end was reached is for the next round: its rows must come in one order for both.
        claimed = None if self._ended else self._bench.pending.take()
        if claimed is None:
            self._ended = True
            return False
        shard = _Shard(claimed, self._bench)
        self._opened.append(shard)
        self._unread.append(shard)
        return True


class _Committer:
    """A thread that commits shards while the next ones are made; leaving the context waits for what it has."""

    def __init__(self, on_shard: Callable[[int, ShardMarker], None]) -> None:
        self._on_shard = on_shard
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="committing")
        self._handed_in: deque[tuple[int, Future[ShardMarker | None]]] = deque()
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def add(self, shard: _Shard) -> None:
        """Have a shard committed that is through the generator; waits for the one before."""
        now = time.monotonic()
        shard.finish(now - self._since)
        self._since = now
        self._handed_in.append((shard.number, self._pool.submit(shard.commit)))
        self.tell(leave=1)

    def tell(self, *, leave: int) -> None:
        """Tell of the shards that are committed, and wait for all but the last `leave`."""
        while self._handed_in and (len(self._handed_in) > leave or self._handed_in[0][1].done()):
            number, committed = self._handed_in.popleft()
            marker = committed.result()
            if marker is not None:
                self._on_shard(number, marker)


def _make_shards(bench: _Bench, feeding: Feeding, committer: _Committer, on_begin: Callable[[int], None]) -> None:
    shards = _Shards(bench)
    ahead = feeding.ahead(shards.missing())
    before: _Shard | None = None  # its last images are encoded while the first batch of the next shard is made
    for shard in shards:
        on_begin(shard.number)
        for _ in shard.make(feeding, ahead):
            if before is not None:
                committer.add(before)
                before = None
            committer.tell(leave=1)
        if before is not None:
            committer.add(before)
        before = shard
        if shard.ends_the_job():
            committer.add(shard)
            committer.tell(leave=0)
            before = None
    if before is not None:
        committer.add(before)
    committer.tell(leave=0)
