"""The two functions that turn one plan row's sources into its conditioning, as its recipe says.

    source images --prepare--> views --the generator's image encoder--> embeddings --combine--> one embedding

What is drawn comes from the row's own streams: it is the same in any batch, order or worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from augcond.conditioning.base import Draws, InitialImage, Prepared
from augcond.conditioning.recipes import Operation, Recipe
from augcond.conditioning.returned import checked_operation, checked_view
from augcond.conditioning.streams import BOX, LAMBDA, MIX, RUN, numpy_stream

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Shown, Viewer
    from augcond.conditioning.framing import Picture
    from augcond.config import ConditioningConfig

# PyTorch is imported by the functions that compute: planning, --help and status look recipes up and need none of it.


def prepare(
    recipe: Recipe,
    settings: ConditioningConfig,
    images: Sequence[Image],
    source_keys: Sequence[str],
    seed: int,
    generator: Viewer,
    shown: Shown | None = None,
) -> Prepared:
    """Return the views of one row that the image encoder has to see, what was drawn, and what to start from.

    Recipes that mix pixels give one view, mixed from random resized crops. The others give whole views: one, or one per
    source for recipes that mix embeddings. A source that is there before (a class with one image) is a random resized
    crop of itself, so that there is something to mix. A row that `mix_probability` leaves unmixed gives one view, its
    first source as the recipe would have viewed it: a crop where pixels are mixed, whole where embeddings are. A recipe
    that starts from its source gives no view but the source at the generator's image size.

    Args:
        recipe: one of `RECIPES`, or one's own.
        settings: the recipes' parameters.
        images: the row's sources, RGB, as many as `recipe.source_count(settings)`; further ones are not used, and none
            is looked at of which a whole view is enough.
        source_keys: the sources' keys, one per image.
        seed: the row's seed; nothing else decides what is drawn.
        generator: gives the whole view, the edge length of the encoder's input, and the size of the images it makes;
            says whether it takes reference images.
        shown: gives views of the sources as they are, where none of `augment:` changes them, without all of `images`.

    Raises:
        ConfigError: a transform of `augment:` is wrong or does not apply to one of the images, or the recipe's own
            operation gives something else than a view.
        GeneratorError: the generator gives something else than a view.
        ValueError: too few images, or keys do not match them.
    """
    import torch

    from augcond.conditioning.augment import build_augment
    from augcond.conditioning.views import initial_view, random_crop
    from augcond.datasets.reduced import whole

    count = recipe.source_count(settings)
    if len(images) < count or len(source_keys) != len(images):
        raise ValueError(
            f"recipe {recipe.name} takes {count} images and a key for each "
            f"(got {len(images)} images and {len(source_keys)} keys)"
        )
    size = generator.encoder_size
    augment = build_augment(settings) if count else None
    as_they_are = None if augment is not None else shown

    def source(index: int) -> Image:
        return images[index] if augment is None else augment(images[index], seed, index + 1)

    def picture(index: int) -> Picture:
        return whole(source(index)) if as_they_are is None else as_they_are.picture(index)

    if not recipe.with_image:
        none = torch.zeros(0, 3, size, size)
        if not recipe.initial:
            return Prepared(none, Draws())
        initial = InitialImage(initial_view(picture(0), generator.image_size), settings.strength)
        return Prepared(none, _draws_of_first(recipe, count), initial)

    whole_tokens = "reference-image" in generator.inputs
    mixed = _is_mixed(recipe, settings, seed)
    draws = _draw(recipe, settings, count, seed) if mixed else _draws_of_first(recipe, count)
    views: list[Tensor] = []
    known: list[int | None] = []
    for index in range(count if mixed else 1):
        position = index + 1  # as in x1, x2
        cropped = recipe.pixels is not None or source_keys[index] in source_keys[:index]
        view: Tensor | None
        if cropped:
            view = random_crop(picture(index), size, settings, seed, position)
        elif as_they_are is not None:
            view = as_they_are.whole_view(index)
        else:
            view = checked_view(generator.view(source(index)), size)
        known.append(index if view is None else None)
        views += [] if view is None else [view]
    stacked = torch.stack(views) if views else torch.zeros(0, 3, size, size)
    if recipe.pixels is None or not mixed:
        places = tuple(known) if len(views) < len(known) else ()
        return Prepared(stacked, draws, known=places, whole_tokens=whole_tokens)
    if callable(recipe.pixels):
        view, draws = _operate(recipe, recipe.pixels, stacked, settings, seed)
    else:
        view, draws = _mix_pixels(recipe, stacked, draws, seed)
    return Prepared(view[None], draws, whole_tokens=whole_tokens)


def combine(
    recipe: Recipe, settings: ConditioningConfig, embeddings: Tensor, prepared: Prepared, seed: int
) -> tuple[Tensor, Draws]:
    """Return the image embedding that one row is conditioned on, and all that was drawn for it.

    Args:
        recipe: as given to `prepare`.
        settings: as given to `prepare`.
        embeddings: of the views, (n, *shape), in their order; shape is (D,) or (T, D).
        prepared: what `prepare` returned for this row.
        seed: as given to `prepare`.

    Returns:
        float32, (*shape), zeros where the recipe takes no image, (2 T, D) of a pair; and the final draws.

    Raises:
        ConfigError: the recipe's own operation gives something else than an embedding.
    """
    import torch

    from augcond.conditioning.drop import dropout, dropout_mask

    if len(embeddings) != prepared.embeddings:
        raise ValueError(f"{prepared.embeddings} views have as many embeddings (got {len(embeddings)})")
    if not recipe.with_image:
        return torch.zeros(embeddings.shape[1:]), prepared.draws
    embeddings = embeddings.float()
    if callable(recipe.embeddings) and _is_mixed(recipe, settings, seed):
        embedding, draws = _operate(recipe, recipe.embeddings, embeddings, settings, seed)
    elif len(embeddings) == 1:  # nothing is left to mix: one source, pixels mixed before, or a row left unmixed
        embedding, draws = embeddings[0], prepared.draws
    elif recipe.embeddings == "mixup":
        embedding, draws = _mix_embeddings(settings, embeddings, prepared.draws)
    elif recipe.embeddings == "pair":
        embedding, draws = embeddings.flatten(0, 1), Draws(share=0.5, weights=(0.5, 0.5))
    else:
        embedding, draws = _cut_embeddings(recipe, embeddings, prepared.draws, seed)
    if recipe.dropout:
        decisions = len(embedding) if prepared.whole_tokens else embedding.numel()
        kept = dropout_mask(seed, decisions, settings.dropout)
        scale = 1.0 / (1.0 - settings.dropout) if settings.rescale else 1.0
        embedding = dropout(embedding, kept, scale)
    return embedding, draws


def _is_mixed(recipe: Recipe, settings: ConditioningConfig, seed: int) -> bool:
    return recipe.mixes and float(numpy_stream(seed, MIX).random()) < settings.mix_probability


def _operate(
    recipe: Recipe, operation: Operation, sources: Tensor, settings: ConditioningConfig, seed: int
) -> tuple[Tensor, Draws]:
    """Return what an operation of one's own makes of a row's views or embeddings, float32, and its draws."""
    return checked_operation(recipe.name, operation(sources, settings, seed), sources.shape[1:])


def _draws_of_first(recipe: Recipe, count: int) -> Draws:
    """Return the draws of a row that is conditioned on its first source alone."""
    alone = 1.0 if recipe.mixes else None
    return Draws(lam=alone, share=alone, weights=(1.0,) + (0.0,) * (count - 1))


def _draw(recipe: Recipe, settings: ConditioningConfig, count: int, seed: int) -> Draws:
    """Return what is known before the mixing; the share stays open where a cut decides it."""
    from augcond.conditioning.mix import draw_weights

    if callable(recipe.pixels) or callable(recipe.embeddings):
        return Draws()  # it draws for itself

    lam, weights = draw_weights(numpy_stream(seed, LAMBDA), settings.alpha, count)
    lam, weights = (max(weights), (max(weights), min(weights))) if recipe.across else (lam, weights)
    cuts = "cutmix" in (recipe.pixels, recipe.embeddings)
    return Draws(lam=lam, share=None if cuts else weights[0], weights=weights)


def _centre(seed: int) -> tuple[float, float]:
    vertical, horizontal = numpy_stream(seed, BOX).random(2)
    return float(vertical), float(horizontal)


def _cut_draws(draws: Draws, share: float) -> Draws:
    return Draws(lam=draws.lam, share=share, weights=(share, 1.0 - share))


def _drawn_lambda(draws: Draws) -> float:
    if draws.lam is None:
        raise ValueError("several embeddings without a lambda: were they prepared for another recipe?")
    return draws.lam


def _mix_pixels(recipe: Recipe, views: Tensor, draws: Draws, seed: int) -> tuple[Tensor, Draws]:
    from augcond.conditioning.cut import cutmix, cutmix_box
    from augcond.conditioning.mix import mixup

    if recipe.pixels == "mixup":
        return mixup(views, draws.weights), draws
    box = cutmix_box(_drawn_lambda(draws), _centre(seed), views.shape[-2], views.shape[-1])
    view, share = cutmix(views[0], views[1], box)
    if recipe.across and share < 0.5:  # edges are rounded to whole pixels
        view, share = cutmix(views[1], views[0], box)[0], 1.0 - share
    return view, _cut_draws(draws, share)


def _mix_embeddings(settings: ConditioningConfig, embeddings: Tensor, draws: Draws) -> tuple[Tensor, Draws]:
    from augcond.conditioning.mix import mixup, slerp

    if settings.interpolation == "slerp":
        return slerp(embeddings[0], embeddings[1], _drawn_lambda(draws)), draws
    return mixup(embeddings, draws.weights), draws


def _cut_embeddings(recipe: Recipe, embeddings: Tensor, draws: Draws, seed: int) -> tuple[Tensor, Draws]:
    from augcond.conditioning.cut import embed_cutmix, grid_edge, grid_mask, run_mask

    lam = _drawn_lambda(draws)
    first, second = embeddings[0], embeddings[1]
    shape = first.shape
    if first.dim() == 2 and shape[0] == 1:  # a single token is cut like a vector
        first, second = first[0], second[0]
    if first.dim() == 2 and grid_edge(len(first)) is not None:
        replaced = grid_mask(lam, _centre(seed), len(first))
    else:
        replaced = run_mask(lam, float(numpy_stream(seed, RUN).random()), len(first))
    replaced = ~replaced if recipe.across and 2 * int(replaced.sum()) > len(replaced) else replaced
    embedding, share = embed_cutmix(first, second, replaced)
    return embedding.reshape(shape), _cut_draws(draws, share)
