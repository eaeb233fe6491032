"""Candidates are named apart, are configs, and leave out what no fold could judge."""

import itertools

import pytest

from augcond.checks import ensure_ready
from augcond.conditioning import ACROSS_RECIPES, RECIPES
from augcond.experiments.tuning.candidates import (
    candidate_of,
    config_of,
    designed,
    obstacle,
    parameters,
    recipe_of,
    source_count,
    suggested,
    value_of,
    with_models,
)
from tests.training.toys import toy_run


class Fixed:
    """Proposes the values that it is given, as an enqueued trial does."""

    def __init__(self, values):
        self.values = values

    def suggest_categorical(self, name, choices):
        assert self.values[name] in choices, name
        return self.values[name]


def test_every_candidate_is_a_config_of_its_own(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"})
    sets, left_out = designed(config)
    found = with_models(config, sets, 24)
    assert len(sets) >= 12 and len(found) == 24
    assert len({each.name for each in found}) == len(found)
    assert len({each.set_name for each in found}) == len(sets)
    assert [text.partition(":")[0] for text in left_out] == ["embed-mixup-across"]
    for each in found:
        own = config_of(config, each.settings, tmp_path / "x", {"a": 2, "b": 1, "c": 0})
        assert all(value_of(own, key) == value for key, value in each.settings.items() if key != "amount")
        assert own.plan.per_class == {"a": 2, "b": 1, "c": 0}
        # The study keeps all that decides a candidate.
        again = suggested(config, Fixed(parameters(config, each)), [*RECIPES, *ACROSS_RECIPES])
        assert dict(again.settings) == dict(each.settings) and again.name == each.name


def test_a_candidate_knows_its_images(tmp_path):
    one = candidate_of({"conditioning.recipe": "image", "training.synthetic_share": 0.25, "amount": 0.5})
    assert dict(one.images) == {"conditioning.recipe": "image"}
    assert (one.set_name, one.amount) == ("image", 0.5)
    assert one.name == "image,share=0.25,amount=0.5"
    assert candidate_of({}).name == "as-configured"


def test_what_takes_images_of_other_classes_is_left_out(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "embed-mixup-across"})
    sets, left_out = designed(config)
    assert not any("across" in recipe_of(config, each) for each in sets)
    assert [text.partition(":")[0] for text in left_out] == ["embed-mixup-across"]
    assert [source_count(config, each) > 0 for each in sets] == [recipe_of(config, each) != "text" for each in sets]


def test_counts_are_tried_only_where_a_loss_uses_them(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"}, training={"loss": "cross-entropy"})
    assert not any("training.counts" in each.settings for each in with_models(config, designed(config)[0], 24))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("conditioning", {"recipe": "mixup", "sources": 3}),
        ("conditioning", {"recipe": "embed-mixup", "interpolation": "slerp"}),
        ("generator", {"away_from": "similar-class"}),
        ("generator", {"guidance_scale": 1.0}),
        ("generator", {"steps": 2}),
    ],
)
def test_no_candidate_is_a_config_that_is_refused(tmp_path, section, values):
    config = toy_run(tmp_path, **{"conditioning": {"recipe": "mixup"}, section: values})
    sets, left_out = designed(config)
    # Each is written to tuned.yaml as it is here, whatever keys its recipe does not take.
    for each in with_models(config, sets, 24):
        ensure_ready(config_of(config, each.settings, tmp_path / "x", None), {"generate"})
    recipes = {recipe_of(config, each) for each in sets}
    assert recipes >= {config.conditioning.recipe[0], "text", "dropout", "embed-cutmix-dropout"}
    guided = config.generator.guidance_scale > 1
    assert len(sets) >= (12 if guided else 7)
    assert any(text.startswith("generator.guidance_scale") for text in left_out) != guided
    assert all("generator.guidance_scale" not in each.settings for each in sets) or guided


def test_words_alone_are_left_out_where_no_prompt_names_the_class(tmp_path):
    for prompt, tried in (["a garment"], False), (["a garment", "a {class_name}"], True):
        config = toy_run(tmp_path, conditioning={"recipe": "mixup"}, prompt=prompt)
        sets, left_out = designed(config)
        assert any(recipe_of(config, each) == "text" for each in sets) == tried
        assert ("text: no prompt names the class, so all classes would get the same images" in left_out) != tried


def test_a_candidate_whose_values_do_not_go_together_is_refused(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"}, generator={"steps": 4})
    found = {
        (strength, steps): obstacle(
            config,
            candidate_of(
                {"conditioning.recipe": "real-guidance", "conditioning.strength": strength, "generator.steps": steps}
            ),
        )
        for strength, steps in itertools.product((0.3, 0.7), (2, 4))
    }
    assert [values for values, why in found.items() if why] == [(0.3, 2)]
    assert "leaves none to do" in found[0.3, 2]
