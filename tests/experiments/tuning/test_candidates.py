"""Candidates are named apart, are configs, and leave out what no fold could judge."""

from augcond.conditioning import ACROSS_RECIPES, RECIPES
from augcond.experiments.tuning.candidates import (
    candidate_of,
    config_of,
    designed,
    parameters,
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
    sets, left_out = designed(config, 6)
    found = with_models(config, sets, 24)
    assert len(sets) >= 12 and len(found) == 24
    assert len({each.name for each in found}) == len(found)
    assert len({each.set_name for each in found}) == len(sets)
    assert left_out == []
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


def test_with_one_image_left_nothing_that_mixes_two_is_tried(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"})
    sets, left_out = designed(config, 1)
    tried = {each.settings["conditioning.recipe"] for each in sets}
    # One of two classes takes one image of each.
    assert tried == {"image", "dropout", "text", "real-guidance", "embed-mixup-across"}
    assert any(text.startswith("mixup: it takes 2 images") for text in left_out)


def test_counts_are_tried_only_where_a_loss_uses_them(tmp_path):
    config = toy_run(tmp_path, conditioning={"recipe": "mixup"}, training={"loss": "cross-entropy"})
    assert not any("training.counts" in each.settings for each in with_models(config, designed(config, 6)[0], 24))
