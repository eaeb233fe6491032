"""Plan rows -> generated images: decode, condition, generate, encode; in batches cut in plan order.

Threads decode and prepare what comes next, and encode what was made last, while the generator works (`feeding.py`). No
cache decides what is encoded or denoised together, so with the same batch size, threads and library versions the
same rows give the same bytes, however often a run was stopped or split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch.nn.utils.rnn import pad_sequence

from augcond.conditioning import Conditioning, Draws, Prepared, Recipe, combine, recipe_of_row
from augcond.engine.faults import FEWEST_TO_STOP, Faults, one_line
from augcond.engine.feeding import UNREADABLE, Ahead, Feeding, Materials, Readied, Unprepared
from augcond.engine.sources import Unreadable
from augcond.generators.checked import embed_images, generate_images, require_finite
from augcond.planning import PlanRow
from augcond.progress import Progress
from augcond.store.images import encode_image
from augcond.store.shards import ShardRow


@dataclass(slots=True)
class BatchSize:
    """The batch size of a worker; out of memory halves it, for good unless a single row was the cause.

    Attributes:
        current: rows per batch from now on.
        notes: one line for every time it changed.
    """

    current: int
    notes: list[str] = field(default_factory=list)

    def halve(self) -> None:
        """Halve the batch size and note it."""
        self.current = max(1, self.current // 2)
        self.notes.append(f"out of memory: batch size halved to {self.current}")

    def restore(self, size: int) -> None:
        """Take back what a row caused that does not fit into memory alone."""
        self.current = size
        self.notes.append(f"a row alone was out of memory: batch size {size} again")


def generate_rows(
    rows: Sequence[PlanRow],
    materials: Materials,
    batch_size: BatchSize,
    on_batch: Callable[[list[ShardRow]], None] = lambda made: None,
    is_hopeless: Callable[[int], bool] = lambda failed: False,
    feeding: Feeding | None = None,
) -> list[ShardRow]:
    """Return one shard row per plan row, in order: made, or failed with the reason.

    A batch that raises is tried once more and then halved until the rows that cannot be made are found; the others are
    made. Later batches are cut as if nothing had happened.

    Args:
        rows: consecutive rows of the plan.
        materials: what they are made with.
        batch_size: rows per batch; halved where a batch does not fit into memory.
        on_batch: called with each finished batch, in order.
        is_hopeless: told how many rows failed so far; once it is true, a batch that raises fails as a whole.
        feeding: of `materials`; one for this call alone where None.

    Raises:
        GeneratorError: a GPU failed, so that nothing more can be computed in this process.
    """
    if feeding is None:
        with Feeding(materials) as own:
            return generate_rows(rows, materials, batch_size, on_batch, is_hopeless, own)
    making = Making(len(rows), feeding, feeding.ahead(rows), batch_size, on_batch, is_hopeless)
    while not making.complete:
        making.step()
        making.settle(leave=1)
    making.settle(leave=0)
    return making.made


class Making:
    """Rows on their way through the generator, batch by batch.

    Args:
        count: number of rows.
        feeding: see `generate_rows`.
        ahead: gives the rows; those of others may follow.
        batch_size: see `generate_rows`.
        on_batch: see `generate_rows`.
        is_hopeless: see `generate_rows`.

    Attributes:
        made: the rows of all batches that are settled, in order.
    """

    def __init__(
        self,
        count: int,
        feeding: Feeding,
        ahead: Ahead,
        batch_size: BatchSize,
        on_batch: Callable[[list[ShardRow]], None],
        is_hopeless: Callable[[int], bool],
    ) -> None:
        self.made: list[ShardRow] = []
        self._count = count
        self._ahead = ahead
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._maker = _Maker(feeding, is_hopeless)
        self._waiting: list[Readied] = []
        self._done = 0  # rows that are through the generator
        self._halved: list[_Halving] = []
        self._too_large: int | None = None  # the first of the rows just before that do not fit even alone

    @property
    def complete(self) -> bool:
        """Whether all rows are through the generator; the images of the last ones may still be encoded."""
        return self._done == self._count

    @property
    def failed(self) -> int:
        """Number of rows that failed, as far as is known while images are being encoded."""
        return self._maker.failures(wait=False)

    def step(self) -> None:
        """Put a batch through the generator; where it does not fit into memory, only halve the batch size.

        Raises:
            GeneratorError: a GPU failed.
        """
        size = self._batch_size.current
        missing = min(size, self._count - self._done) - len(self._waiting)
        self._waiting += self._ahead.take(max(0, missing), size)
        batch = self._waiting[:size]
        try:
            self._maker.make(batch)
        except torch.OutOfMemoryError:
            _free_memory()
            if len(batch) > 1:
                self._halved.append(_Halving(size, self._done + len(batch)))
                self._batch_size.halve()
                return
            self._too_large = self._done if self._too_large is None else self._too_large
            self._maker.fail(batch[0].row, "out of memory in a batch of one row")
        else:
            self._restore()
        del self._waiting[: len(batch)]
        self._done += len(batch)

    def _restore(self) -> None:
        """Undo halvings for batches that did not fit because a row that does not fit alone was among them."""
        size = self._batch_size.current
        while self._too_large is not None and self._halved and self._halved[-1].stop > self._too_large:
            size = self._halved.pop().size
        if size != self._batch_size.current:
            self._batch_size.restore(size)
        self._too_large = None

    def settle(self, *, leave: int) -> None:
        """Wait for the images of all batches but the last `leave` to be encoded, and tell `on_batch`."""
        for finished in self._maker.settle(leave):
            self.made += finished
            self._on_batch(finished)


@dataclass(frozen=True, slots=True)
class _Halving:
    """A batch that did not fit: how large batches were, and the place behind its last row."""

    size: int
    stop: int


_Ready = tuple[PlanRow, Prepared]


@dataclass(slots=True)
class _Encoding:
    """A row whose image is being encoded."""

    row: PlanRow
    draws: Draws
    future: Future[bytes]


class _Maker:
    """Makes batches, and finds the rows that cannot be made.

    Args:
        feeding: gives threads and materials.
        is_hopeless: see `generate_rows`.
    """

    def __init__(self, feeding: Feeding, is_hopeless: Callable[[int], bool]) -> None:
        self._feeding = feeding
        self._materials = feeding.materials
        self._threads = feeding.threads
        self._is_hopeless = is_hopeless
        self._faults = Faults()
        self._failed = 0  # of batches that are settled
        self._unsettled: list[list[ShardRow | _Encoding]] = []
        self._batch: dict[str, ShardRow | _Encoding] = {}  # what became of the rows of the batch in hand, by key
        self._alone = 0  # rows that raised even alone, since anything was made

    def make(self, batch: Sequence[Readied]) -> None:
        """Make the rows of a batch, or find out why they cannot be made.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        self._batch = {}
        ready: list[_Ready] = []
        for each in batch:
            prepared = each.future.result()
            if isinstance(prepared, Unprepared):
                self._fail(each.row, self._faults.reason(prepared.error, prepared.where))
            else:
                ready.append((each.row, prepared))
        if ready:
            self._settle(ready, again=True)
        self._unsettled.append([self._batch[each.row.key] for each in batch])
        self._batch = {}

    def fail(self, row: PlanRow, reason: str) -> None:
        """Take `row` for a batch that failed."""
        self._batch = {}
        self._unsettled.append([ShardRow(row, None, Draws(), one_line(reason))])

    def settle(self, leave: int) -> Iterator[list[ShardRow]]:
        """Yield the rows of all batches but the last `leave`, made or failed, once their images are encoded."""
        while len(self._unsettled) > leave:
            rows = [self._encoded(row) for row in self._unsettled[0]]
            del self._unsettled[0]
            self._failed += sum(row.image is None for row in rows)
            yield rows

    def failures(self, *, wait: bool = True) -> int:
        """Return how many rows failed so far, of the batch in hand too; or what is known of it without waiting."""
        rows = [row for batch in (*self._unsettled, self._batch.values()) for row in batch]
        known = [self._encoded(row) for row in rows if wait or isinstance(row, ShardRow)]
        return self._failed + sum(row.image is None for row in known)

    def _encoded(self, row: ShardRow | _Encoding) -> ShardRow:
        if isinstance(row, ShardRow):
            return row
        try:
            return ShardRow(row.row, row.future.result(), row.draws)
        except Exception as error:  # of Pillow, such as an edge that WebP cannot hold
            reason = self._faults.reason(error, f"the image cannot be stored as {self._materials.image_format.name}")
            return ShardRow(row.row, None, row.draws, one_line(reason))

    def _fail(self, row: PlanRow, reason: str, draws: Draws | None = None) -> None:
        self._batch[row.key] = ShardRow(row, None, draws or Draws(), one_line(reason))

    def _settle(self, ready: Sequence[_Ready], *, again: bool) -> None:
        """Find out what becomes of rows: of the smallest batches that raise, even `again`, all fail."""
        for _ in range(2 if again and self._alone < FEWEST_TO_STOP else 1):
            try:
                return self._attempt(ready)
            except torch.OutOfMemoryError:
                self._batch = {}  # the rows are cut into smaller batches, and made there
                raise
            except Exception as error:  # a generator raises what it likes
                reason = self._faults.reason(error, "the generator")
        if len(ready) == 1 or self._is_hopeless(self.failures()):
            self._alone += len(ready)
            for row, _ in ready:
                self._fail(row, reason)
            return None
        # Where row after row cannot be made, halving finds nothing sooner than one row after the other.
        size = 1 if self._alone >= FEWEST_TO_STOP else (len(ready) + 1) // 2
        for start in range(0, len(ready), size):
            part = ready[start : start + size]
            self._settle(part, again=len(part) == 1)
        return None

    def _attempt(self, ready: Sequence[_Ready]) -> None:
        failures, conditioned = self._condition(ready)
        if conditioned:
            conditioning = _stack(conditioned, self._materials)
            rows = [each.row for each in conditioned]
            generated = generate_images(self._materials.generator, conditioning, [row.seed for row in rows])
            for each, pixels, problem in zip(conditioned, generated.images, generated.errors, strict=True):
                self._store(each, pixels, problem)
            self._alone = 0
        for row, reason in failures:
            self._fail(row, reason)

    def _condition(self, ready: Sequence[_Ready]) -> tuple[list[tuple[PlanRow, str]], list[_Conditioned]]:
        """Encode all views in one batch and combine each row's embeddings; return the rows that fail, and the rest."""
        encoded = embed_images(self._materials.generator, torch.cat([prepared.views for _, prepared in ready]))
        viewed = torch.split(encoded, [len(prepared.views) for _, prepared in ready])
        settings = self._materials.conditioning
        failures: list[tuple[PlanRow, str]] = []
        conditioned: list[_Conditioned] = []
        for (row, prepared), views in zip(ready, viewed, strict=True):
            recipe = recipe_of_row(settings, row.recipe)
            raised = "the generator"
            try:
                own = self._embeddings(row, prepared, views)
                raised = f"recipe {row.recipe}"
                embedding, draws = combine(recipe, settings, require_finite(own, "encode_images"), prepared, row.seed)
            except torch.OutOfMemoryError:
                raise
            except Unreadable as error:
                failures.append((row, self._faults.reason(error.reason, UNREADABLE)))
            except Exception as error:  # a recipe of one's own, or a generator
                failures.append((row, self._faults.reason(error, raised)))
            else:
                conditioned.append(_Conditioned(row, prepared, recipe, embedding, draws, with_image=len(own) > 0))
        return failures, conditioned

    def _embeddings(self, row: PlanRow, prepared: Prepared, viewed: torch.Tensor) -> torch.Tensor:
        """Return all embeddings of a row, of which `viewed` are those of its views."""
        if not prepared.known:
            return viewed
        own = iter(viewed)
        found = [next(own) if n is None else self._feeding.embedding(row.source_keys[n]) for n in prepared.known]
        return torch.stack(found)

    def _store(self, each: _Conditioned, pixels: torch.Tensor, problem: str | None) -> None:
        if problem:
            self._fail(each.row, problem, each.draws)
        else:
            # A generator may use its memory again for the next batch.
            encoding = self._threads.submit(encode_image, pixels.numpy().copy(), self._materials.image_format)
            self._batch[each.row.key] = _Encoding(each.row, each.draws, encoding)


@dataclass(frozen=True, slots=True)
class _Conditioned:
    row: PlanRow
    prepared: Prepared
    recipe: Recipe
    embedding: torch.Tensor
    draws: Draws
    with_image: bool


def _stack(rows: Sequence[_Conditioned], materials: Materials) -> Conditioning:
    settings, away = materials.conditioning, materials.away
    return Conditioning(
        # Of reference images, rows may have other numbers; tokens of zeros are none.
        embeddings=pad_sequence([each.embedding for each in rows], batch_first=True),
        with_image=torch.tensor([each.with_image for each in rows]),
        prompts=tuple(each.row.prompt for each in rows),
        dropout=tuple(settings.dropout if each.recipe.dropout else 0.0 for each in rows),
        initial=tuple(each.prepared.initial for each in rows),
        away=torch.stack([_away(each, away) for each in rows]) if away else None,
    )


def _away(each: _Conditioned, away: Mapping[int, torch.Tensor]) -> torch.Tensor:
    return away[each.row.label] if each.with_image else torch.zeros_like(each.embedding)


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def count_for(progress: Progress) -> Callable[[list[ShardRow]], None]:
    """Return a function that counts finished batches for `progress`."""
    return lambda batch: progress.advance(len(batch), sum(row.image is None for row in batch))
