"""What feeds the generator: threads that ready the rows that come next and encode the images that were made last.

The generator is called by the main thread alone. A row is prepared, and an image encoded, by a function of that row, so
their bytes do not depend on which thread did it, or when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from augcond.conditioning import Prepared, prepare, recipe_of_row
from augcond.config import ConditioningConfig
from augcond.datasets import DecodeSettings, Reader
from augcond.datasets.decoding import available_cores, quiet_pillow
from augcond.engine.embeddings import Blocks, Embeddings, KeptBlocks, are_kept
from augcond.engine.sources import Sources, Unreadable
from augcond.generators import Generator
from augcond.planning import Plan, PlanRow
from augcond.store.images import ImageFormat

if TYPE_CHECKING:
    from torch import Tensor

    from augcond.store.folder import RunFolder
    from augcond.store.plans import RunPlan

P = ParamSpec("P")
R = TypeVar("R")

UNREADABLE = "source image unreadable"
"""Why a row fails."""

BATCHES_AHEAD = 2
"""So many batches of rows are being readied at most while one is with the generator."""

_BYTES_AHEAD = 128 * 2**20
"""Of prepared rows beyond the batch that comes next."""

_MOST_THREADS = 8
"""By default: what a generator can make use of."""


MAX_MEMORY_GB = 1.0
"""Of decoded sources and views that are kept, where the config says nothing else."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What every row of a run is made with.

    Attributes:
        reader: gives the bytes of a source image.
        decoding: how they become images.
        conditioning: parameters of the recipes.
        generator: makes the images.
        image_format: how they are stored.
        away: by label, the mean embedding that guidance leads away from in images of that class; empty where it leads
            away from no image.
    """

    reader: Reader
    decoding: DecodeSettings
    conditioning: ConditioningConfig
    generator: Generator
    image_format: ImageFormat
    away: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unprepared:
    """A row that could not be prepared: what was raised, and by what."""

    error: Exception
    where: str


@dataclass(frozen=True, slots=True)
class Readied:
    """A row that is being prepared, or is."""

    row: PlanRow
    future: Future[Prepared | Unprepared]

    def bytes(self) -> int:
        """Return the memory that the prepared row takes; 0 while it is not known."""
        if not self.future.done() or self.future.exception() is not None:
            return 0
        found = self.future.result()
        if isinstance(found, Unprepared):
            return 0
        return found.views.nbytes + (0 if found.initial is None else found.initial.pixels.nbytes)


class Threads:
    """The feeding threads; leaving the context waits for what they are at, and drops what they have not begun.

    Args:
        count: of threads; one per core, up to 8, where None.
    """

    def __init__(self, count: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(count or min(available_cores(), _MOST_THREADS), thread_name_prefix="feeding")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have `function` called by a thread."""
        return self._pool.submit(function, *args, **kwargs)


class Ahead:
    """Rows in order, readied before they are asked for.

    Args:
        rows: all of them, in the order in which they will be taken; read no further than is readied.
        prepare: what readies one; called by the threads.
        threads: that do it.
        meanwhile: whether they ready the rows that come next while those that are taken are made.
    """

    def __init__(
        self,
        rows: Iterable[PlanRow],
        prepare: Callable[[PlanRow], Prepared | Unprepared],
        threads: Threads,
        *,
        meanwhile: bool = True,
    ) -> None:
        self._rows, self._prepare, self._threads, self._meanwhile = iter(rows), prepare, threads, meanwhile
        self._begun: deque[Readied] = deque()
        self._largest = 0  # bytes of a prepared row, of those that were taken

    def take(self, count: int, batch: int) -> list[Readied]:
        """Return the next `count` rows, and have those after them readied meanwhile: some batches of `batch` rows.

        Raises:
            Exception: what the iterable of rows raises.
        """
        self._begin(count)
        taken = [self._begun.popleft() for _ in range(min(count, len(self._begun)))]
        if not self._meanwhile:
            wait(readied.future for readied in taken)
            return taken
        self._largest = max([self._largest, *(readied.bytes() for readied in (*taken, *self._begun))])
        self._begin(min(BATCHES_AHEAD * batch, _BYTES_AHEAD // max(1, self._largest)))
        return taken

    def _begin(self, count: int) -> None:
        """Have as many rows begun as `count`."""
        while len(self._begun) < count:
            row = next(self._rows, None)
            if row is None:
                return
            self._begun.append(Readied(row, self._threads.submit(self._prepare, row)))


class Feeding:
    """What feeds the generator while it makes the rows of one or more shards, and stores what it makes.

    Leaving the context waits for what its threads are at.

    Args:
        materials: what rows are made with.
        threads: that feed; one per core, up to 8, where None.
        max_memory_gb: of decoded sources and of views that are kept for the rows that use them next.
        reducing: whether large sources may be decoded at a fraction of their size; see `Sources`.
    """

    def __init__(
        self,
        materials: Materials,
        threads: int | None = None,
        max_memory_gb: float = MAX_MEMORY_GB,
        *,
        reducing: bool = True,
    ) -> None:
        self.materials = materials
        self.threads = Threads(threads)
        self._limit = max_memory_gb * 1e9
        reader, decoding, generator = materials.reader, materials.decoding, materials.generator
        self._sources = Sources(reader, decoding, generator, self._limit, reducing=reducing)

    def __enter__(self) -> Self:
        quiet_pillow.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.threads.__exit__()
        finally:
            quiet_pillow.__exit__()

    def embed_once(self, folder: RunFolder, plan: RunPlan) -> None:
        """Have embeddings of whole views computed once for all rows of a run, and kept with it, if they are small."""
        if plan.embedding_once and are_kept(self.materials.generator):
            blocks = Blocks.of(plan.plan, self.materials.conditioning)
            self._embed(replace(blocks, kept=KeptBlocks.of(folder, plan, self.materials.generator)))

    def embed_in_memory(self, plan: Plan) -> None:
        """Have them computed once for all rows of a plan that is no run's, if they are small."""
        if are_kept(self.materials.generator):
            self._embed(Blocks.of(plan, self.materials.conditioning))

    def _embed(self, blocks: Blocks) -> None:
        generator = self.materials.generator
        self._sources.embeddings = Embeddings(blocks, self._sources, generator, self.threads, self._limit / 8)

    def embedding(self, key: str) -> Tensor:
        """Return the embedding of a source whose rows are prepared without its view."""
        if self._sources.embeddings is None:
            raise RuntimeError("embeddings are computed with each batch here")
        return self._sources.embeddings.get(key)

    def ahead(self, rows: Iterable[PlanRow]) -> Ahead:
        """Return `rows` in their order, readied before they are asked for."""
        return Ahead(rows, self._prepare, self.threads, meanwhile=not self.materials.generator.on_cpu)

    def _prepare(self, row: PlanRow) -> Prepared | Unprepared:
        images = self._sources.row(row.source_keys)
        settings, generator = self.materials.conditioning, self.materials.generator
        try:
            recipe = recipe_of_row(settings, row.recipe)
            return prepare(recipe, settings, images, row.source_keys, row.seed, generator, images)
        except Unreadable as error:
            return Unprepared(error.reason, UNREADABLE)
        except Exception as error:  # a transform that one image is too small for, a recipe of one's own
            return Unprepared(error, f"recipe {row.recipe}")
