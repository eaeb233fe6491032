"""Making shards, wherever that is: what is sent there, and what is done with it.

What travels is a run folder, shard numbers and a config; plan, reader and generator are loaded where they are used.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from augcond.config import RunConfig
from augcond.datasets import DecodeSettings, list_images
from augcond.datasets.contents import RecordedReader
from augcond.engine.faults import most_failed
from augcond.engine.rows import BatchSize, Materials, count_for, generate_rows
from augcond.errors import GeneratorError, RunMismatchError
from augcond.generators import load_generator
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
    with torch_threads(work.config.engine.threads):
        for number in work.shards:
            try:
                made = _make_shard(number, bench)
            except SystemExit as error:
                # It would end the program without a word, with 0 even as if all were done.
                raise GeneratorError(
                    f"a generator, a recipe or a reader called sys.exit({error.code!r}) at shard {number:05d}: let it "
                    "raise an exception, which fails its rows. What was committed is safe"
                ) from error
            on_shard(number, made)


def load_materials(config: RunConfig, folder: RunFolder, plan: RunPlan) -> Materials:
    """Return what the rows of `plan`, of the run in `folder`, are made with; no image is opened yet.

    Raises:
        RunMismatchError: the generator is not the one that the run was planned with.
    """
    generator = load_generator(config.generator)
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


def _make_shard(number: int, bench: _Bench) -> ShardMarker:
    started = time.monotonic()
    plan, batch_size = bench.plan, bench.batch_size
    rows = plan.plan.shard(number)
    reused = bench.reusable(rows) if bench.reusable else {}
    if reused:
        bench.progress.advance(len(reused), 0)
    first_note = len(batch_size.notes)
    made = generate_rows(
        [row for row in rows if row.key not in reused],
        bench.materials,
        batch_size,
        count_for(bench.progress),
        # The job stops after such a shard, so that no search for the culprits of what fails in it is worth its time.
        lambda failed: most_failed(failed, len(rows), bench.max_failed_share),
    )
    by_key = {row.row.key: row for row in made} | reused
    notes = tuple(dict.fromkeys(batch_size.notes[first_note:]))
    if reused:
        notes += ("1 row reused" if len(reused) == 1 else f"{len(reused)} rows reused",)
    marker = commit_shard(
        shard_tables([by_key[row.key] for row in rows], plan.classes, plan.columns),
        bench.folder.shard_path(number),
        bench.folder.marker_path(number),
        ShardFacts(
            fingerprint=plan.fingerprints[number],
            batch_size=batch_size.current,
            threads=torch.get_num_threads(),
            notes=notes,
            seconds=time.monotonic() - started,
            versions=library_versions(),
        ),
    )
    bench.folder.unfit_path(number).unlink(missing_ok=True)
    return marker
