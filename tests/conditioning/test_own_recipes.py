"""Recipes of one's own: compositions of augcond's operations, and functions in place of one."""

import pytest
import torch

from augcond.conditioning import RECIPES, Draws, Recipe, combine, find_recipe, prepare, recipe_of_row, recipes_of
from augcond.conditioning.drop import dropout_mask
from augcond.config import ConditioningConfig
from augcond.errors import ConfigError
from tests.conditioning.test_recipes import KEYS, PICTURES, SIZE, TinyGenerator


def run(recipe, seed=5, images=3, **parameters):
    """Run one row through both functions; returns what was prepared, the embedding and the final draws."""
    config, generator = ConditioningConfig(**parameters), TinyGenerator()
    prepared = prepare(recipe, config, PICTURES[:images], KEYS[:images], seed, generator)
    embedding, draws = combine(recipe, config, generator.encode(prepared.views), prepared, seed)
    return prepared, embedding, draws


def test_a_composition_makes_what_ours_of_the_same_parts_makes():
    for name in ("mixup", "embed-cutmix-dropout", "image"):
        ours = RECIPES[name]
        own = Recipe("own", pixels=ours.pixels, embeddings=ours.embeddings, dropout=ours.dropout)
        (_, expected, expected_draws), (_, made, draws) = run(ours), run(own)
        assert torch.equal(made, expected)
        assert draws == expected_draws


def test_a_function_of_embeddings_is_given_all_of_them_and_dropout_follows():
    seen = []

    def last(embeddings, settings, seed):
        seen.append((embeddings.shape, settings.alpha, seed))
        return embeddings[-1].double(), Draws(lam=0.25, share=0.25, weights=(0.0, 0.0, 1.0))

    prepared, embedding, draws = run(Recipe("last", embeddings=last, sources=3, dropout=True), alpha=0.5)
    assert seen == [((3, 12), 0.5, 5)]
    assert len(prepared.views) == 3
    assert draws == Draws(0.25, 0.25, (0.0, 0.0, 1.0))
    whole = TinyGenerator().encode(prepared.views)[-1]
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, torch.where(dropout_mask(5, 12, 0.4), whole, 0.0))


def test_a_function_of_pixels_is_given_crops():
    crops = run(RECIPES["mixup"], mix_probability=0.0)[0].views

    def first(views, settings, seed):
        return views[0] / 2, Draws(weights=(1.0, 0.0))

    prepared, _, draws = run(Recipe("first", pixels=first))
    assert prepared.views.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(prepared.views, crops / 2)
    assert draws.weights == (1.0, 0.0)


def test_how_many_sources_a_row_takes():
    def operation(tensor, settings, seed):
        return tensor[0], Draws()

    settings = ConditioningConfig(recipe="mixup", sources=3)
    assert Recipe("own", embeddings=operation).source_count(settings) == 3
    assert Recipe("own", embeddings=operation, sources=1).source_count(settings) == 1
    assert Recipe("own", pixels="mixup", sources=4).source_count(settings) == 4
    assert Recipe("own", pixels="cutmix").source_count(settings) == 2


def test_a_function_of_one_source_acts_on_it_unless_the_row_stays_unmixed():
    def negative(embeddings, settings, seed):
        return -embeddings[0], Draws(weights=(1.0,))

    recipe = Recipe("negative", embeddings=negative, sources=1)
    plain = run(RECIPES["image"])[1]
    assert torch.equal(run(recipe, images=1)[1], -plain)
    _, unmixed, draws = run(recipe, images=1, mix_probability=0.0)
    assert torch.equal(unmixed, plain)
    assert draws.weights == (1.0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": "mixup", "embeddings": "mixup"}, "mixes pixels or embeddings, not both"),
        ({"pixels": "mixup", "with_image": False}, "with_image must be True"),
        ({"embeddings": "slerp"}, "'slerp' is neither mixup, cutmix nor a function"),
        ({"sources": 2}, "sources is of a mixup"),
        ({"pixels": "cutmix", "sources": 2}, "sources is of a mixup"),
        ({"pixels": "mixup", "sources": 1}, r"sources is of a mixup \(2 or more\)"),
        ({"pixels": lambda *_: None, "sources": 0}, r"a function of one's own \(1 or more\)"),
    ],
)
def test_compositions_that_mean_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe("own", **arguments)


@pytest.mark.parametrize("made", [torch.zeros(3), torch.full((12,), float("nan"))])
def test_a_function_that_gives_something_else_is_named(made):
    with pytest.raises(ConfigError, match=r"recipe wrong: its function gave .* numbers of shape \(12,\)"):
        run(Recipe("wrong", embeddings=lambda *_: (made, Draws())))


swapped = Recipe("any name", embeddings="cutmix")


def test_recipes_are_found_by_the_names_of_the_config_and_of_rows():
    settings = ConditioningConfig(recipe=("mixup", "tests.conditioning.test_own_recipes:swapped"))
    assert settings.recipe_names == ("mixup", "swapped")
    assert recipes_of(settings) == [RECIPES["mixup"], Recipe("swapped", embeddings="cutmix")]
    assert recipe_of_row(settings, "swapped").embeddings == "cutmix"
    assert recipe_of_row(settings, "mixup") is RECIPES["mixup"]
    with pytest.raises(ConfigError, match="is of type list, not a Recipe"):
        find_recipe("tests.conditioning.test_recipes:PICTURES")
