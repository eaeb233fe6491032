"""The named recipes: which there are, and what each is made of.

A recipe is a composition: what is mixed in pixels, what is mixed in embeddings, whether features are dropped. A recipe
of one's own composes the same operations, or brings a function in place of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from augcond import registry
from augcond.conditioning.base import Draws
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

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
        across: its second source is of another class; the row keeps the class of its first, which has the larger share.
        revision: of a function of one's own: another one makes other images, so change it when the function changes.
    """

    name: str
    with_image: bool = True
    initial: bool = False
    pixels: Mix | Operation | None = None
    embeddings: Mix | Operation | None = None
    dropout: bool = False
    sources: int | None = None
    across: bool = False
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
        if self.across and not (operation == "cutmix" or (operation == "mixup" and self.sources == 2)):
            raise ValueError(f"recipe {self.name!r}: across is of a cutmix, or of a mixup with sources=2")
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

_ACROSS = (
    Recipe("mixup-across", pixels="mixup", sources=2, across=True),
    Recipe("cutmix-across", pixels="cutmix", across=True),
    Recipe("embed-mixup-across", embeddings="mixup", sources=2, across=True),
    Recipe("embed-cutmix-across", embeddings="cutmix", across=True),
    Recipe("embed-mixup-dropout-across", embeddings="mixup", sources=2, dropout=True, across=True),
    Recipe("embed-cutmix-dropout-across", embeddings="cutmix", dropout=True, across=True),
)

ACROSS_RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ACROSS})
"""Those that mix images of two classes: their second sources are not those of the others, so they compare unpaired."""


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
