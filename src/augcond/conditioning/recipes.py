"""The named recipes, and the two functions that turn one plan row's sources into its conditioning.

    source images --prepare--> views --the generator's image encoder--> embeddings --combine--> one embedding

A recipe is a composition: what is mixed in pixels, what is mixed in embeddings, whether features are dropped. A recipe
of one's own composes the same operations, or brings a function in place of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from augcond import registry
from augcond.conditioning.base import Draws, InitialImage, Prepared
from augcond.conditioning.returned import checked_operation, checked_view
from augcond.conditioning.streams import BOX, LAMBDA, MIX, RUN, numpy_stream
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from augcond.conditioning.base import Shown, Viewer
    from augcond.conditioning.framing import Picture
    from augcond.config import ConditioningConfig

# PyTorch is imported by the functions that compute: planning, --help and status look recipes up and need none of it.

Mix = Literal["mixup", "cutmix", "pair"]
"""`pair` mixes nothing: the tokens of two sources, side by side."""

_OF_TWO = ("cutmix", "pair")

Operation = Callable[["Tensor", "ConditioningConfig", int], tuple["Tensor", Draws]]
"""An operation of one's own: views (n, 3, S, S) in [0, 1], or embeddings (n, *shape), of a row's n sources; the
settings; the row's seed, from whose streams (`augcond.conditioning.streams`) it draws all that is random -> one view
(3, S, S) or one embedding (*shape), and what was drawn."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to turn source images into one conditioning.

    Attributes:
        name: as in the config and in shards.
        with_image: whether an image embedding conditions; where not, the generator's unconditional image input does.
        initial: whether the generator starts from the source, noised, instead of from noise alone.
        pixels: how random resized crops of the sources are mixed before the encoder.
        embeddings: how the sources' embeddings are mixed, or put side by side.
        dropout: whether features of the embedding, or tokens of a reference image, are dropped at the end.
        sources: how many sources one row takes, where that is not for the operation and the config to say.
        revision: of a function of one's own: another one makes other images, so change it when the function changes.
    """

    name: str
    with_image: bool = True
    initial: bool = False
    pixels: Mix | Operation | None = None
    embeddings: Mix | Operation | None = None
    dropout: bool = False
    sources: int | None = None
    revision: str = ""

    def __post_init__(self) -> None:
        if self.pixels is not None and self.embeddings is not None:
            raise ValueError(f"recipe {self.name!r} mixes pixels or embeddings, not both")
        if self.mixes and not self.with_image:
            raise ValueError(f"recipe {self.name!r} mixes images, so it conditions by one: with_image must be True")
        operation = self.pixels if self.pixels is not None else self.embeddings
        known = (None, "mixup", "cutmix", *(("pair",) if self.pixels is None else ()))
        if not (operation in known or callable(operation)):
            raise ValueError(f"recipe {self.name!r}: {operation!r} is neither mixup, cutmix nor a function")
        fewest = 1 if callable(operation) else 2
        if self.sources is not None and (operation in (None, *_OF_TWO) or self.sources < fewest):
            raise ValueError(
                f"recipe {self.name!r}: sources is of a mixup (2 or more) or of a function of one's own (1 or more)"
            )

    @property
    def mixes(self) -> bool:
        """Whether the recipe mixes several sources, or does something of one's own."""
        return self.pixels is not None or self.embeddings is not None

    def source_count(self, settings: ConditioningConfig) -> int:
        """Return how many sources one row takes: 0, 1, 2, its own number, or that of `settings`.

        CutMix and pairs are of two: beside mixups of more, they use the first two of the row's sources.
        """
        if not self.mixes:
            return 1 if self.with_image or self.initial else 0
        if self.pixels in _OF_TWO or self.embeddings in _OF_TWO:
            return 2
        return settings.sources if self.sources is None else self.sources


_ALL = (
    Recipe("text", with_image=False),
    Recipe("real-guidance", with_image=False, initial=True),
    Recipe("image"),
    Recipe("dropout", dropout=True),
    Recipe("mixup", pixels="mixup"),
    Recipe("cutmix", pixels="cutmix"),
    Recipe("embed-mixup", embeddings="mixup"),
    Recipe("embed-cutmix", embeddings="cutmix"),
    Recipe("mixup-dropout", pixels="mixup", dropout=True),
    Recipe("cutmix-dropout", pixels="cutmix", dropout=True),
    Recipe("embed-mixup-dropout", embeddings="mixup", dropout=True),
    Recipe("embed-cutmix-dropout", embeddings="cutmix", dropout=True),
    Recipe("image-pair", embeddings="pair"),
)

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ALL})
"""augcond's own recipes by name, in the order in which they are shown."""


def register_recipe(name: str, target: str) -> None:
    """Make a recipe of your own known under `name`.

    Args:
        name: what configs call it, as `conditioning.recipe`.
        target: `module:object` of a `Recipe`, imported on first use.

    Raises:
        ConfigError: the name is taken by another target, or `target` is not `module:object`.
    """
    registry.recipes.register(name, target)


def find_recipe(name: str) -> Recipe:
    """Return the recipe that a config calls `name`, under its short name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    found = registry.recipes.load(name)
    if not isinstance(found, Recipe):
        raise ConfigError(f"conditioning.recipe: {name!r} is of type {type(found).__name__}, not a Recipe")
    short = registry.short_name(name)
    return found if found.name == short else replace(found, name=short)


def recipes_of(settings: ConditioningConfig) -> list[Recipe]:
    """Return the recipes of a config, in its order.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    return [find_recipe(name) for name in settings.recipe]


def recipe_of_row(settings: ConditioningConfig, short: str) -> Recipe:
    """Return the recipe whose short name stands in a row of a plan of `settings`."""
    return find_recipe(dict(zip(settings.recipe_names, settings.recipe, strict=True)).get(short, short))


def check_conditioning(settings: ConditioningConfig) -> None:
    """Check what the config's types cannot: call it before any work is done.

    Raises:
        ConfigError: a transform of `augment:` is wrong, or `sources` or `interpolation` is set for recipes that none of
            the run's recipes are.
    """
    recipes = recipes_of(settings)
    named = f"{'recipe' if len(recipes) == 1 else 'recipes'} {', '.join(settings.recipe_names)}"
    if settings.sources > 2 and all(recipe.source_count(settings) <= 2 for recipe in recipes):
        raise ConfigError(
            f"conditioning.sources: {settings.sources} does not apply to {named}, only to mixup and embed-mixup"
        )
    if settings.interpolation == "slerp" and all(recipe.embeddings != "mixup" for recipe in recipes):
        raise ConfigError(f"conditioning.interpolation: slerp does not apply to {named}, only to embed-mixup")
    if settings.augment:
        from augcond.conditioning.augment import build_augment

        build_augment(settings)


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
        view, draws = _mix_pixels(recipe.pixels, stacked, draws, seed)
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
        embedding, draws = _cut_embeddings(embeddings, prepared.draws, seed)
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


def _mix_pixels(operation: Mix, views: Tensor, draws: Draws, seed: int) -> tuple[Tensor, Draws]:
    from augcond.conditioning.cut import cutmix, cutmix_box
    from augcond.conditioning.mix import mixup

    if operation == "mixup":
        return mixup(views, draws.weights), draws
    box = cutmix_box(_drawn_lambda(draws), _centre(seed), views.shape[-2], views.shape[-1])
    view, share = cutmix(views[0], views[1], box)
    return view, _cut_draws(draws, share)


def _mix_embeddings(settings: ConditioningConfig, embeddings: Tensor, draws: Draws) -> tuple[Tensor, Draws]:
    from augcond.conditioning.mix import mixup, slerp

    if settings.interpolation == "slerp":
        return slerp(embeddings[0], embeddings[1], _drawn_lambda(draws)), draws
    return mixup(embeddings, draws.weights), draws


def _cut_embeddings(embeddings: Tensor, draws: Draws, seed: int) -> tuple[Tensor, Draws]:
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
    embedding, share = embed_cutmix(first, second, replaced)
    return embedding.reshape(shape), _cut_draws(draws, share)
