"""Copies of sources: how many generated images are a real one again: a source, any training image, or a test image.

A generator that repeats its sources adds nothing to them, and one that repeats test images has seen these. The real
images are cut to the shape of the generated ones, as the generator saw them; what counts as a copy is what
`augcond.datasets.look_alikes` is certain of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from augcond.datasets import DecodeSettings, decode
from augcond.datasets.loading import list_held_out
from augcond.datasets.look_alikes import VIEW_ERROR, compare, nearest_views, view_of_image
from augcond.errors import AugcondError, ImageError
from augcond.report.pictures import SourceImages
from augcond.report.sample import SampledRow, read_rows, real_positions, recipe_positions
from augcond.store.images import decode_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from augcond.report.facts import RunFacts

_MOST_REAL = 5000
"""Training images, and test images, that generated ones are compared with."""

NEAREST = 4
"""Pairs that are shown of each recipe."""


@dataclass(frozen=True, slots=True)
class NearestPair:
    """A generated image and the real one that it looks most like.

    Attributes:
        position: its row in the plan.
        row: its key in the plan.
        recipe: how it was conditioned.
        key: of the real image.
        of: `source`, `training` or `test`: what the real image is to it.
        error: of their views, see `view_errors`.
        copy: whether it is that picture again.
        mirrored: whether it is nearest to its mirror image.
    """

    position: int
    row: str
    recipe: str
    key: str
    of: str
    error: float
    copy: bool
    mirrored: bool


@dataclass(frozen=True, slots=True)
class RecipeCopies:
    """Of one recipe, the images that were looked at, and the shares of them that are copies; None: not comparable."""

    recipe: str
    images: int
    of_source: float
    of_training: float
    of_test: float | None


@dataclass(frozen=True, slots=True)
class Copies:
    """What generated images repeat.

    Attributes:
        recipes: one entry per recipe with images.
        training_images: so many they were compared with, their own sources among them or not.
        test_images: so many; 0 where there are none to read.
        nearest: of each recipe, the pairs that look most alike.
    """

    recipes: tuple[RecipeCopies, ...]
    training_images: int
    test_images: int
    nearest: tuple[NearestPair, ...]


def measure_copies(facts: RunFacts, sources: SourceImages, *, samples: int) -> Copies | None:
    """Return what a bounded, stratified sample of the generated images repeats; None without any, or without sources.

    Args:
        facts: the run.
        sources: opens the real images.
        samples: images per recipe.
    """
    first = next(iter(_made(facts, facts.recipes[0], 1) if facts.recipes else ()), None)
    if first is None or sources.problem:
        return None
    shape = first.opened().size
    listed = facts.folder.read_sources()
    keys = list(listed)
    chosen = real_positions([label for label, _ in listed.values()], min(_MOST_REAL, len(keys)))
    training = _Views([keys[place] for place in chosen], sources.open, shape)
    test = _test_views(facts, shape)
    recipes, pairs = [], []
    for recipe in facts.recipes:
        made = _made(facts, recipe, samples)
        if made:
            own = ((one, _Views(one.row.source_keys, sources.open, shape)) for one in made)
            found = [pair for one, views in own for pair in views.nearest([one], "source")]
            found += training.nearest(made, "training")
            found += test.nearest(made, "test") if test else ()
            recipes.append(_shares(recipe, len(made), found, compared=bool(test and test.keys)))
            pairs += sorted(found, key=lambda pair: (not pair.copy, pair.error, pair.position))[:NEAREST]
    if not recipes:
        return None
    return Copies(tuple(recipes), len(training.keys), len(test.keys) if test else 0, tuple(pairs))


@dataclass(frozen=True, slots=True)
class _Made:
    """A generated image, of which as little is kept as it takes: a decoded WebP holds a megabyte."""

    row: SampledRow
    image: bytes
    view: NDArray[np.uint8]

    def opened(self) -> Image:
        return decode_stored(self.image)


def _made(facts: RunFacts, recipe: str, samples: int) -> list[_Made]:
    rows = read_rows(facts, recipe_positions(facts, recipe, samples))
    return [_Made(row, row.image, view_of_image(decode_stored(row.image))) for row in rows if row.image is not None]


class _Views:
    """Real images cut to one shape, as views; those that cannot be read are left out."""

    def __init__(self, keys: Sequence[str], opener: Callable[[str], Image | None], shape: tuple[int, int]) -> None:
        self._open, self._shape = opener, shape
        found = [(key, view_of_image(_cut(image, shape))) for key in keys if (image := opener(key)) is not None]
        self.keys = tuple(key for key, _ in found)
        self._views = [view for _, view in found]

    def nearest(self, made: Sequence[_Made], of: str) -> Iterator[NearestPair]:
        """Yield what each generated image looks most like; nothing where there are no real ones."""
        if not self.keys:
            return
        views = np.stack([one.view for one in made])
        for one, error, place, mirrored in zip(made, *nearest_views(views, np.stack(self._views)), strict=True):
            key = self.keys[place]
            real = self._open(key) if error < VIEW_ERROR else None
            same = real is not None and compare(one.opened(), _cut(real, self._shape), mirrored=bool(mirrored))[1]
            row = one.row
            yield NearestPair(row.position, row.key, row.recipe, key, of, float(error), same, bool(mirrored))


def _test_views(facts: RunFacts, shape: tuple[int, int]) -> _Views | None:
    try:
        listing = list_held_out(facts.config.data, "test")
    except AugcondError:
        return None  # they are not where the report is made
    if listing is None:
        return None
    settings, reader = DecodeSettings.of(facts.config.data), listing.reader

    def opened(key: str) -> Image | None:
        try:
            return decode(reader.read(key), settings)
        except (ImageError, OSError):
            return None

    chosen = real_positions(list(listing.labels), min(_MOST_REAL, len(listing.keys)))
    return _Views([listing.keys[place] for place in chosen], opened, shape)


def _shares(recipe: str, images: int, found: Sequence[NearestPair], *, compared: bool) -> RecipeCopies:
    copied: dict[str, set[int]] = {"source": set(), "training": set(), "test": set()}
    for pair in found:
        if pair.copy:
            copied[pair.of].add(pair.position)
    return RecipeCopies(
        recipe=recipe,
        images=images,
        of_source=len(copied["source"]) / images,
        # A copy of a source is one of a training image, though that be not among those compared with.
        of_training=len(copied["source"] | copied["training"]) / images,
        of_test=len(copied["test"]) / images if compared else None,
    )


def _cut(image: Image, shape: tuple[int, int]) -> Image:
    """Return the middle of a real image in the proportions of generated ones."""
    scale = min(image.width / shape[0], image.height / shape[1])
    width, height = round(shape[0] * scale), round(shape[1] * scale)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
