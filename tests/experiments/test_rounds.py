"""Images in rounds: what a judge's losses choose, what a plan makes of it, and that a stopped run goes on."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.amounts import ChosenImages, rounds_content
from augcond.config import ConditioningConfig, PlanConfig
from augcond.errors import ConfigError, PlanError
from augcond.experiments import rounds as module
from augcond.experiments.rounds import generate_in_rounds, next_round
from augcond.pipeline import generate, train
from augcond.planning import make_plan
from augcond.sealed import write_json
from augcond.store import RunFolder, audit_run
from tests.toy import shard_bytes, toy_dataset
from tests.training.toys import toy_run

judged = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 2.5]), st.integers(0, 2)), min_size=1, max_size=10)


@settings(max_examples=60, deadline=None)
@given(judged, st.integers(0, 5))
def test_the_next_round_is_that_of_a_slow_reckoning(images, per_class):
    keys = [f"{place:02d}" for place in range(len(images))]
    losses, labels = (torch.tensor(column) for column in zip(*images, strict=True))
    found = next_round(losses, labels, keys, "abc", per_class)
    own = {name: [p for p, (_, label) in enumerate(images) if "abc"[label] == name] for name in "abc"}
    held = [name for name in "abc" if own[name]]
    means = {name: sum(images[p][0] for p in own[name]) / len(own[name]) for name in held}
    total, weight = per_class * len(held), sum(means.values())
    due = {name: total * (means[name] / weight if weight else 1 / len(held)) for name in held}
    assert sum(chosen.count for chosen in found.values()) == total
    for name in held:
        count = found[name].count if name in found else 0
        assert abs(count - due[name]) < 1
        if count:
            hard = sorted(own[name], key=lambda p: (-images[p][0], p))[: (len(own[name]) + 1) // 2]
            assert found[name].sources == tuple(keys[p] for p in hard)


def plan_with(tmp_path, dataset, rounds):
    write_json(tmp_path / "rounds.json", rounds_content(rounds))
    config = PlanConfig(per_class=3, rounds=tmp_path / "rounds.json")
    return make_plan(dataset, config, ConditioningConfig(recipe=("embed-mixup",)), prompts=("x",))


def test_a_plan_makes_what_rounds_chose_behind_what_it_had(tmp_path):
    dataset = toy_dataset({"cat": 5, "dog": 3})
    plain = make_plan(dataset, PlanConfig(per_class=3), ConditioningConfig(recipe=("embed-mixup",)), prompts=("x",))
    first = {"cat": ChosenImages(4, ("cat/1.png", "cat/4.png"))}
    second = {"cat": ChosenImages(2, ("cat/0.png",)), "dog": ChosenImages(1, ("dog/2.png", "dog/0.png"))}
    one = {row.key: row for row in plan_with(tmp_path, dataset, [first]).rows()}
    two = {row.key: row for row in plan_with(tmp_path, dataset, [first, second]).rows()}
    assert {row.key: row for row in plain.rows()}.items() <= one.items() <= two.items()
    assert (len(one), len(two)) == (10, 13)
    for index in range(3, 7):
        assert set(two[f"cat/{index}/embed-mixup"].source_keys) == {"cat/1.png", "cat/4.png"}
    assert two["cat/7/embed-mixup"].source_keys == ("cat/0.png",) * 2
    assert set(two["dog/3/embed-mixup"].source_keys) == {"dog/0.png", "dog/2.png"}
    for wrong, message in (
        ({"eel": ChosenImages(1, ("eel/0.png",))}, "round 1 names the class 'eel'"),
        ({"dog": ChosenImages(1, ("cat/0.png",))}, r"'cat/0\.png' is no training image of the class 'dog'"),
        ({"dog": ChosenImages(1, ())}, "there are no sources of the class 'dog'"),
    ):
        with pytest.raises(PlanError, match=message):
            plan_with(tmp_path, dataset, [wrong])
    path = tmp_path / "empty.json"
    path.write_text("{}")
    with pytest.raises(PlanError, match="holds no rounds"):
        make_plan(dataset, PlanConfig(rounds=path), ConditioningConfig(recipe=("image",)), prompts=("x",))


def test_a_run_in_rounds_resumes_and_is_what_its_choices_say(tmp_path, monkeypatch):
    about = {"conditioning": {"recipe": ["image"]}, "plan": {"per_class": 2}, "training": {"seeds": 1, "steps": 4}}
    config = toy_run(tmp_path, **about)
    asked = []
    original = module.choose_round

    def stopped(*given):
        if asked:
            raise KeyboardInterrupt
        asked.append(given)
        return original(*given)

    monkeypatch.setattr(module, "choose_round", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate_in_rounds(config, rounds=2, per_class=2)
    monkeypatch.setattr(module, "choose_round", original)
    first = json.loads((config.run / "rounds.json").read_text())["rounds"]
    before = shard_bytes(config.run)
    done = generate_in_rounds(config, rounds=2, per_class=2)
    chosen = json.loads((config.run / "rounds.json").read_text())["rounds"]
    assert chosen[:1] == first
    assert before.items() <= shard_bytes(config.run).items()
    assert len(RunFolder(config.run).read_plan().plan) == 6 + 2 * 6
    assert not audit_run(RunFolder(config.run)).problems
    assert generate_in_rounds(done, rounds=2, per_class=2) == done
    # The same choices make the same images, with no judge.
    plan = {"per_class": 2, "rounds": done.plan.rounds}
    again = toy_run(tmp_path, **{**about, "plan": plan, "run": tmp_path / "again"})
    generate(again)
    made, told = ({row.key: row for row in RunFolder(run).read_plan().plan.rows()} for run in (config.run, again.run))
    assert made == told
    assert {card.arm: card.synthetic_images for card in train(done)} == {"real-only": 0, "image": 18}
    with pytest.raises(ConfigError, match=r"plan\.rounds: .* was chosen elsewhere"):
        generate_in_rounds(again, rounds=1, per_class=1)
    more = toy_run(tmp_path, plan={"oversample": 2}, screening={"by": "encoder"}, run=tmp_path / "more")
    with pytest.raises(ConfigError, match=r"plan\.oversample: rounds choose what is made"):
        generate_in_rounds(more, rounds=1, per_class=1)
    assert not more.run.exists()
    # What the images are made of outlives them.
    generate(done, overwrite=True)
    assert {row.key: row for row in RunFolder(config.run).read_plan().plan.rows()} == told
