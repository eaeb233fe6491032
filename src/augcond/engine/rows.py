"""Plan rows -> generated images: decode, condition, generate, encode; in batches cut in plan order.

No cache decides what is encoded or denoised together, so with the same batch size, threads and library versions the
same rows give the same bytes, however often a run was stopped or split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from PIL.Image import Image

from augcond.conditioning import Conditioning, Draws, Prepared, Recipe, combine, prepare, recipe_of_row
from augcond.config import ConditioningConfig
from augcond.datasets import DecodeSettings, Reader, decode
from augcond.engine.faults import FEWEST_TO_STOP, Faults, one_line
from augcond.generators import Generator
from augcond.generators.checked import embed_images, generate_images, require_finite
from augcond.planning import PlanRow
from augcond.progress import Progress
from augcond.store.images import ImageFormat, encode_image
from augcond.store.shards import ShardRow


@dataclass(frozen=True, slots=True)
class Materials:
    """What every row of a run is made with.

    Attributes:
        reader: gives the bytes of a source image.
        decoding: how they become images.
        conditioning: parameters of the recipes.
        generator: makes the images.
        image_format: how they are stored.
    """

    reader: Reader
    decoding: DecodeSettings
    conditioning: ConditioningConfig
    generator: Generator
    image_format: ImageFormat


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
) -> list[ShardRow]:
    """Return one shard row per plan row, in order: made, or failed with the reason.

    A batch that raises is tried once more and then halved until the rows that cannot be made are found; the others are
    made. Later batches are cut as if nothing had happened.

    Args:
        rows: consecutive rows of the plan.
        materials: what they are made with.
        batch_size: rows per batch; halved where a batch does not fit into memory.
        on_batch: called with each finished batch.
        is_hopeless: told how many rows failed so far; once it is true, a batch that raises fails as a whole.

    Raises:
        GeneratorError: a GPU failed, so that nothing more can be computed in this process.
    """
    maker = _Maker(materials, is_hopeless)
    halved: list[_Halving] = []
    too_large: int | None = None  # the first of the rows just before that do not fit even alone
    made: list[ShardRow] = []
    while len(made) < len(rows):
        batch = rows[len(made) : len(made) + batch_size.current]
        try:
            finished = maker.make(batch)
        except torch.OutOfMemoryError:
            _free_memory()
            if len(batch) > 1:
                halved.append(_Halving(batch_size.current, len(made) + len(batch)))
                batch_size.halve()
                continue
            too_large = len(made) if too_large is None else too_large
            finished = [maker.failed(batch[0], "out of memory in a batch of one row")]
        else:
            # Batches that did not fit because such a row was among them may be as large again.
            size = batch_size.current
            while too_large is not None and halved and halved[-1].stop > too_large:
                size = halved.pop().size
            if size != batch_size.current:
                batch_size.restore(size)
            too_large = None
        made += finished
        on_batch(finished)
    return made


@dataclass(frozen=True, slots=True)
class _Halving:
    """A batch that did not fit: how large batches were, and the place behind its last row."""

    size: int
    stop: int


_Ready = tuple[PlanRow, Prepared]


class _Maker:
    """Makes batches, and finds the rows that cannot be made.

    Args:
        materials: what rows are made with.
        is_hopeless: see `generate_rows`.
    """

    def __init__(self, materials: Materials, is_hopeless: Callable[[int], bool]) -> None:
        self._materials = materials
        self._is_hopeless = is_hopeless
        self._faults = Faults()
        self._failed = 0
        self._alone = 0  # rows that raised even alone, since anything was made

    def make(self, batch: Sequence[PlanRow]) -> list[ShardRow]:
        """Return the rows of a batch, made or failed.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        before = self._failed
        finished: dict[str, ShardRow] = {}
        ready: list[_Ready] = []
        for row in batch:
            prepared = self._prepare(row)
            if isinstance(prepared, ShardRow):
                finished[row.key] = prepared
            else:
                ready.append((row, prepared))
        try:
            made = self._settle(ready, again=True) if ready else []
        except torch.OutOfMemoryError:
            self._failed = before  # the rows are cut into smaller batches, and made there
            raise
        finished |= {row.row.key: row for row in made}
        return [finished[row.key] for row in batch]

    def failed(self, row: PlanRow, reason: str, draws: Draws | None = None) -> ShardRow:
        """Return `row` without an image."""
        self._failed += 1
        return ShardRow(row, None, draws or Draws(), one_line(reason))

    def _prepare(self, row: PlanRow) -> Prepared | ShardRow:
        materials = self._materials
        try:
            images = _decode_sources(row, materials)
        except Exception as error:  # readers of one's own raise what they like
            return self.failed(row, self._faults.reason(error, "source image unreadable"))
        try:
            recipe = recipe_of_row(materials.conditioning, row.recipe)
            return prepare(recipe, materials.conditioning, images, row.source_keys, row.seed, materials.generator)
        except Exception as error:  # a transform that one image is too small for, a recipe of one's own
            return self.failed(row, self._faults.reason(error, f"recipe {row.recipe}"))

    def _settle(self, ready: Sequence[_Ready], *, again: bool) -> list[ShardRow]:
        """Return what becomes of rows: of the smallest batches that raise, even `again`, all fail."""
        for _ in range(2 if again and self._alone < FEWEST_TO_STOP else 1):
            try:
                return self._attempt(ready)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a generator raises what it likes
                reason = self._faults.reason(error, "the generator")
        if len(ready) == 1 or self._is_hopeless(self._failed):
            self._alone += len(ready)
            return [self.failed(row, reason) for row, _ in ready]
        # Where row after row cannot be made, halving finds nothing sooner than one row after the other.
        size = 1 if self._alone >= FEWEST_TO_STOP else (len(ready) + 1) // 2
        parts = [ready[start : start + size] for start in range(0, len(ready), size)]
        return [row for part in parts for row in self._settle(part, again=len(part) == 1)]

    def _attempt(self, ready: Sequence[_Ready]) -> list[ShardRow]:
        failures, conditioned = self._condition(ready)
        made: list[ShardRow] = []
        if conditioned:
            conditioning = _stack(conditioned, self._materials.conditioning)
            rows = [each.row for each in conditioned]
            generated = generate_images(self._materials.generator, conditioning, [row.seed for row in rows])
            results = zip(conditioned, generated.images, generated.errors, strict=True)
            made = [self._encode(each, pixels, problem) for each, pixels, problem in results]
            self._alone = 0
        return made + [self.failed(row, reason) for row, reason in failures]

    def _condition(self, ready: Sequence[_Ready]) -> tuple[list[tuple[PlanRow, str]], list[_Conditioned]]:
        """Encode all views in one batch and combine each row's embeddings; return the rows that fail, and the rest."""
        encoded = embed_images(self._materials.generator, torch.cat([prepared.views for _, prepared in ready]))
        per_row = torch.split(encoded, [len(prepared.views) for _, prepared in ready])
        settings = self._materials.conditioning
        failures: list[tuple[PlanRow, str]] = []
        conditioned: list[_Conditioned] = []
        for (row, prepared), own in zip(ready, per_row, strict=True):
            recipe = recipe_of_row(settings, row.recipe)
            try:
                embedding, draws = combine(recipe, settings, require_finite(own, "encode_images"), prepared, row.seed)
            except Exception as error:  # a recipe of one's own
                failures.append((row, self._faults.reason(error, f"recipe {row.recipe}")))
            else:
                conditioned.append(_Conditioned(row, prepared, recipe, embedding, draws, with_image=len(own) > 0))
        return failures, conditioned

    def _encode(self, each: _Conditioned, pixels: torch.Tensor, problem: str | None) -> ShardRow:
        if problem:
            return self.failed(each.row, problem, each.draws)
        try:
            image = encode_image(pixels.numpy(), self._materials.image_format)
        except Exception as error:  # of Pillow, such as an edge that WebP cannot hold
            reason = self._faults.reason(error, f"the image cannot be stored as {self._materials.image_format.name}")
            return self.failed(each.row, reason, each.draws)
        return ShardRow(each.row, image, each.draws)


@dataclass(frozen=True, slots=True)
class _Conditioned:
    row: PlanRow
    prepared: Prepared
    recipe: Recipe
    embedding: torch.Tensor
    draws: Draws
    with_image: bool


def _stack(rows: Sequence[_Conditioned], settings: ConditioningConfig) -> Conditioning:
    return Conditioning(
        embeddings=torch.stack([each.embedding for each in rows]),
        with_image=torch.tensor([each.with_image for each in rows]),
        prompts=tuple(each.row.prompt for each in rows),
        dropout=tuple(settings.dropout if each.recipe.dropout else 0.0 for each in rows),
        initial=tuple(each.prepared.initial for each in rows),
    )


def _decode_sources(row: PlanRow, materials: Materials) -> list[Image]:
    decoded: dict[str, Image] = {}
    for key in row.source_keys:
        if key not in decoded:
            decoded[key] = decode(materials.reader.read(key), materials.decoding)
    return [decoded[key] for key in row.source_keys]


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def count_for(progress: Progress) -> Callable[[list[ShardRow]], None]:
    """Return a function that counts finished batches for `progress`."""
    return lambda batch: progress.advance(len(batch), sum(row.image is None for row in batch))
