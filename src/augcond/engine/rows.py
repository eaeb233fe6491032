"""Plan rows -> generated images: decode, condition, generate, encode; in batches cut in plan order.

No cache decides what is encoded or denoised together, so with the same batch size, threads and library versions the
same rows give the same bytes, however often a run was stopped or split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from PIL.Image import Image

from augcond.conditioning import Conditioning, Draws, Prepared, combine, prepare, recipe_of_row
from augcond.config import ConditioningConfig
from augcond.datasets import DecodeSettings, Reader, decode
from augcond.errors import ConfigError, ImageError
from augcond.generators import Generator
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
    """The batch size of a worker; out of memory halves it for good.

    Attributes:
        current: rows per batch from now on.
        notes: one line for every time it was halved.
    """

    current: int
    notes: list[str] = field(default_factory=list)

    def halve(self) -> None:
        """Halve the batch size and note it."""
        self.current = max(1, self.current // 2)
        self.notes.append(f"out of memory: batch size halved to {self.current}")


def generate_rows(
    rows: Sequence[PlanRow],
    materials: Materials,
    batch_size: BatchSize,
    on_batch: Callable[[list[ShardRow]], None] = lambda made: None,
) -> list[ShardRow]:
    """Return one shard row per plan row, in order: made, or failed with the reason.

    Args:
        rows: consecutive rows of the plan.
        materials: what they are made with.
        batch_size: rows per batch; halved where a batch does not fit into memory.
        on_batch: called with each finished batch.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
    """
    made: list[ShardRow] = []
    while len(made) < len(rows):
        batch = rows[len(made) : len(made) + batch_size.current]
        try:
            finished = _generate_batch(batch, materials)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            _free_memory()
            batch_size.halve()
            continue
        made += finished
        on_batch(finished)
    return made


def count_for(progress: Progress) -> Callable[[list[ShardRow]], None]:
    """Return a function that counts finished batches for `progress`."""
    return lambda batch: progress.advance(len(batch), sum(row.image is None for row in batch))


def _generate_batch(batch: Sequence[PlanRow], materials: Materials) -> list[ShardRow]:
    ready: list[tuple[PlanRow, Prepared]] = []
    finished: dict[str, ShardRow] = {}
    for row in batch:
        try:
            ready.append((row, _prepare(row, materials)))
        except (ImageError, OSError) as error:
            finished[row.key] = ShardRow(row, None, error=f"source image unreadable: {_reason(error)}")
        except ConfigError as error:
            # Settings were checked before: what is left is a transform that one image is too small for, or the like.
            finished[row.key] = ShardRow(row, None, error=str(error))
    if ready:
        conditioning, draws = _condition(ready, materials)
        generated = materials.generator.generate(conditioning, [row.seed for row, _ in ready])
        for (row, _), drawn, pixels, problem in zip(ready, draws, generated.images, generated.errors, strict=True):
            image = None if problem else encode_image(pixels.numpy(), materials.image_format)
            finished[row.key] = ShardRow(row, image, drawn, problem)
    return [finished[row.key] for row in batch]


def _prepare(row: PlanRow, materials: Materials) -> Prepared:
    images = _decode_sources(row, materials)
    recipe = recipe_of_row(materials.conditioning, row.recipe)
    return prepare(recipe, materials.conditioning, images, row.source_keys, row.seed, materials.generator)


def _condition(ready: Sequence[tuple[PlanRow, Prepared]], materials: Materials) -> tuple[Conditioning, list[Draws]]:
    """Encode the views of all rows in one batch, and combine each row's embeddings."""
    views = torch.cat([prepared.views for _, prepared in ready])
    shape = materials.generator.embedding_shape
    encoded = materials.generator.encode_images(views) if len(views) else torch.zeros(0, *shape)
    per_row = torch.split(encoded, [len(prepared.views) for _, prepared in ready])
    settings = materials.conditioning
    recipes = [recipe_of_row(settings, row.recipe) for row, _ in ready]
    combined = [
        combine(recipe, settings, own, prepared, row.seed)
        for recipe, (row, prepared), own in zip(recipes, ready, per_row, strict=True)
    ]
    conditioning = Conditioning(
        embeddings=torch.stack([embedding for embedding, _ in combined]),
        with_image=torch.tensor([len(own) > 0 for own in per_row]),
        prompts=tuple(row.prompt for row, _ in ready),
        dropout=tuple(settings.dropout if recipe.dropout else 0.0 for recipe in recipes),
        initial=tuple(prepared.initial for _, prepared in ready),
    )
    return conditioning, [draws for _, draws in combined]


def _decode_sources(row: PlanRow, materials: Materials) -> list[Image]:
    decoded: dict[str, Image] = {}
    for key in row.source_keys:
        if key not in decoded:
            decoded[key] = decode(materials.reader.read(key), materials.decoding)
    return [decoded[key] for key in row.source_keys]


def _reason(error: Exception) -> str:
    """Return the reason without the file's name, so that equal reasons are counted together."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
