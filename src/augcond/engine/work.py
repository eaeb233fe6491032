"""Making shards, wherever that is: what is sent there, and what is done with it.

What travels is a run folder, shard numbers and a config; plan, reader and generator are loaded where they are used.
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import torch

from augcond.config import RunConfig
from augcond.datasets import DecodeSettings, list_images
from augcond.datasets.contents import RecordedReader
from augcond.engine.faults import most_failed
from augcond.engine.feeding import Ahead, Feeding, Materials
from augcond.engine.rows import BatchSize, Making, count_for
from augcond.errors import GeneratorError, RunMismatchError
from augcond.generators import load_generator
from augcond.planning import PlanRow
from augcond.progress import NoProgress, Progress
from augcond.store.commit import ShardFacts, ShardMarker, commit_shard
from augcond.store.folder import RunFolder
from augcond.store.images import ImageFormat
from augcond.store.plans import RunPlan
from augcond.store.reuse import ReusableRows
from augcond.store.shards import shard_tables

_LIBRARIES = ("augcond", "torch", "torchvision", "diffusers", "transformers", "pillow", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Work:
    """Shards to make; it can be pickled and done in any process that sees the run folder.

    Attributes:
        run: the run folder, with its plan.
        config: of the run.
        shards: their numbers.
        reuse: run folders; rows that they hold already are taken.
    """

    run: Path
    config: RunConfig
    shards: tuple[int, ...]
    reuse: tuple[Path, ...] = ()


def do_work(
    work: Work,
    on_shard: Callable[[int, ShardMarker], None],
    *,
    plan: RunPlan | None = None,
    materials: Materials | None = None,
    progress: Progress | None = None,
) -> None:
    """Make and commit every shard of `work`; whoever calls this holds them against other processes.

    Args:
        work: what is to be done.
        on_shard: told of each shard once it is committed; what it raises ends the work.
        plan: of the run; read from its folder where None.
        materials: what rows are made with; loaded where None.
        progress: is told how many rows are made.

    Raises:
        RunMismatchError: the generator that is loaded here is not the one that the run was planned with.
        RunError: a shard cannot be written.
        GeneratorError: a GPU failed, so that nothing more can be computed in this process; or something in it asked to
            end it.
    """
    folder = RunFolder(work.run)
    plan = plan or folder.read_plan()
    bench = _Bench(
        folder,
        plan,
        materials or load_materials(work.config, folder, plan),
        BatchSize(work.config.engine.batch_size),
        _reusable(work, folder, plan),
        progress or NoProgress(),
        work.config.engine.max_failed_share,
    )
    settings = work.config.engine
    with (
        torch_threads(settings.threads),
        Feeding(bench.materials, settings.feeding_threads, settings.max_memory_gb) as feeding,
        _Committer(on_shard) as committer,
    ):
        try:
            _make_shards(work.shards, bench, feeding, committer)
        except SystemExit as error:
            # It would end the program without a word, with 0 even as if all were done.
            raise GeneratorError(
                f"a generator, a recipe or a reader called sys.exit({error.code!r}): let it raise an exception, which "
                "fails its rows. What was committed is safe"
            ) from error


def load_materials(config: RunConfig, folder: RunFolder, plan: RunPlan) -> Materials:
    """Return what the rows of `plan`, of the run in `folder`, are made with; no image is opened yet.

    Raises:
        RunMismatchError: the generator is not the one that the run was planned with.
    """
    generator = load_generator(config.generator, images=len(plan.plan))
    identity = generator.identity
    for planned, found in (
        (plan.columns.generator, f"{identity.name}:{identity.model}"),
        (plan.columns.revision, identity.revision),
    ):
        if planned != found:
            raise RunMismatchError(f"the run was planned with the generator {planned}, and {found} is what lies here")
    recorded = {key: sha256 for key, (_, sha256) in folder.read_sources().items()}
    return Materials(
        RecordedReader(list_images(config.data).reader, recorded),
        DecodeSettings.of(config.data),
        config.conditioning,
        generator,
        ImageFormat.resolve(config.output, generator.image_size),
    )


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


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide an image's bytes."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


@dataclass(frozen=True, slots=True)
class _Bench:
    folder: RunFolder
    plan: RunPlan
    materials: Materials
    batch_size: BatchSize
    reusable: ReusableRows | None
    progress: Progress
    max_failed_share: float


def _reusable(work: Work, folder: RunFolder, plan: RunPlan) -> ReusableRows | None:
    if not work.reuse:
        return None
    return ReusableRows(plan, folder.read_source_facts(plan.versions), [RunFolder(path) for path in work.reuse])


class _Shard:
    """A shard, from when its first row is readied until it is committed."""

    def __init__(self, number: int, bench: _Bench) -> None:
        self.number = number
        self._bench = bench
        self._rows = bench.plan.plan.shard(number)
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
        self._threads = torch.get_num_threads()

    def commit(self) -> ShardMarker:
        """Write the shard and its marker."""
        bench, plan, notes = self._bench, self._bench.plan, self._notes
        by_key = {row.row.key: row for row in self._making.made} | self._reused
        if self._reused:
            notes += ("1 row reused" if len(self._reused) == 1 else f"{len(self._reused)} rows reused",)
        marker = commit_shard(
            shard_tables([by_key[row.key] for row in self._rows], plan.classes, plan.columns),
            bench.folder.shard_path(self.number),
            bench.folder.marker_path(self.number),
            ShardFacts(
                fingerprint=plan.fingerprints[self.number],
                batch_size=self._batch_size,
                threads=self._threads,
                notes=notes,
                seconds=self._seconds,
                versions=library_versions(),
            ),
        )
        bench.folder.unfit_path(self.number).unlink(missing_ok=True)
        return marker


class _Shards:
    """Shards in the order in which they are made; each is opened as soon as its rows are readied."""

    def __init__(self, numbers: Sequence[int], bench: _Bench) -> None:
        self._numbers, self._bench = numbers, bench
        self._opened: dict[int, _Shard] = {}

    def __iter__(self) -> Iterator[_Shard]:
        for number in self._numbers:
            self._open(number)
            yield self._opened.pop(number)

    def missing(self) -> Iterator[PlanRow]:
        """Yield the rows of all shards that are to be made."""
        for number in self._numbers:
            yield from self._open(number).missing

    def _open(self, number: int) -> _Shard:
        if number not in self._opened:
            self._opened[number] = _Shard(number, self._bench)
        return self._opened[number]


class _Committer:
    """A thread that commits shards while the next ones are made; leaving the context waits for what it has."""

    def __init__(self, on_shard: Callable[[int, ShardMarker], None]) -> None:
        self._on_shard = on_shard
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="committing")
        self._handed_in: deque[tuple[int, Future[ShardMarker]]] = deque()
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
            number, marker = self._handed_in.popleft()
            self._on_shard(number, marker.result())


def _make_shards(numbers: Sequence[int], bench: _Bench, feeding: Feeding, committer: _Committer) -> None:
    shards = _Shards(numbers, bench)
    ahead = feeding.ahead(shards.missing())
    before: _Shard | None = None  # its last images are encoded while the first batch of the next shard is made
    for shard in shards:
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
