from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.conditioning import RECIPES
from augcond.conditioning.streams import CLASS_NAME, row_seed, stream_seed
from augcond.config import ConditioningConfig, PlanConfig
from augcond.errors import PlanError, RunMismatchError
from augcond.planning import Plan, draw_sources, grow_plan, images_to_make, make_plan
from tests.toy import toy_dataset

PROMPTS = ("a photo of a {class_name}",)

datasets = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/"), min_size=1, max_size=8),
    st.integers(1, 5),
    min_size=1,
    max_size=4,
).map(toy_dataset)
recipes = st.lists(st.sampled_from(list(RECIPES)), min_size=1, max_size=4, unique=True).map(tuple)


def plan_of(dataset, amount, recipe=("image",), *, prompts=PROMPTS, sources=2, shard_size=7, seed=0) -> Plan:
    config = PlanConfig(per_class=amount, seed=seed)
    conditioning = ConditioningConfig(recipe=recipe, sources=sources)
    return make_plan(dataset, config, conditioning, prompts=prompts, shard_size=shard_size)


@settings(max_examples=40, deadline=None)
@given(datasets, recipes, st.integers(0, 9), st.integers(2, 4), st.integers(0, 2**40))
def test_plan_holds_every_class_index_and_recipe_once(dataset, recipe, amount, sources, seed):
    plan = plan_of(dataset, amount, recipe, sources=sources, seed=seed)
    rows = list(plan.rows())
    expected = {(label, i, name) for label in range(len(dataset.classes)) for i in range(amount) for name in recipe}
    assert Counter((row.label, row.index, row.recipe) for row in rows) == Counter(expected)
    assert len({row.key for row in rows}) == len(rows)
    labels = {image.key: image.label for image in dataset.images}
    for row in rows:
        conditioning = ConditioningConfig(recipe=recipe, sources=sources)
        assert len(row.source_keys) == RECIPES[row.recipe].source_count(conditioning)
        assert all(labels[key] == row.label for key in row.source_keys)
        distinct = min(len(row.source_keys), dataset.counts()[row.label])
        assert len(set(row.source_keys)) == distinct
        assert row.seed == row_seed(seed, row.class_id, row.index)
        assert row.class_id == dataset.classes[row.label]
        assert row.prompt == f"a photo of a {row.class_name}"


@settings(max_examples=30, deadline=None)
@given(datasets, recipes, st.integers(0, 6), st.integers(0, 6))
def test_larger_plan_holds_the_smaller_ones_rows(dataset, recipe, small, extra):
    smaller = {row.key: row for row in plan_of(dataset, small, recipe).rows()}
    larger = {row.key: row for row in plan_of(dataset, small + extra, recipe).rows()}
    assert smaller.items() <= larger.items()


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 4), st.integers(0, 99))
def test_every_source_is_used_equally_often_in_every_place(n, count, takes, seed):
    drawn = draw_sources(seed, "cat", np.arange(n), count, takes)
    assert drawn.shape == (count, takes)
    for place in range(takes):
        uses = Counter(drawn[:, place].tolist())
        assert max(uses.values(), default=0) - min((uses[i] for i in range(n)), default=0) <= 1
    for row in drawn:
        assert len(set(row.tolist())) == min(n, takes)


def test_source_rounds_differ_from_each_other_and_between_seeds():
    members = np.arange(50)
    first, second = np.split(draw_sources(0, "cat", members, 100, 2), 2)
    assert (first != second).any()
    assert (first != draw_sources(1, "cat", members, 50, 2)).any()
    assert (first != draw_sources(0, "dog", members, 50, 2)).any()
    # The second source is no fixed neighbour of the first: its distance changes between rounds.
    assert len({tuple(draw_sources(s, "cat", members, 50, 2)[:, 1]) for s in range(20)}) == 20


def test_listing_order_does_not_change_the_plan():
    dataset = toy_dataset({"cat": 4, "dog": 3})
    shuffled = replace(dataset, images=tuple(reversed(dataset.images)))
    assert plan_of(dataset, 6, ("mixup",)).table.equals(plan_of(shuffled, 6, ("mixup",)).table)


def test_recipes_compare_in_pairs():
    plan = plan_of(toy_dataset({"cat": 4}), 6, ("image", "mixup", "embed-cutmix"))
    rows = defaultdict(list)
    for row in plan.rows():
        rows[row.index].append(row)
    for image, mixup, cutmix in rows.values():
        assert image.seed == mixup.seed == cutmix.seed
        assert image.source_keys == mixup.source_keys[:1]
        assert mixup.source_keys == cutmix.source_keys


def test_rows_go_by_index_so_that_a_stopped_run_holds_every_class():
    rows = list(plan_of(toy_dataset({"a": 2, "b": 2}), 3, ("image", "text")).rows())
    places = [(row.index, row.label) for row in rows]
    assert places == sorted(places)


def test_shards_cut_the_rows_in_order():
    plan = plan_of(toy_dataset({"a": 2, "b": 2}), 5, ("image",), shard_size=4)
    assert [len(plan.shard(n)) for n in range(plan.shard_count)] == [4, 4, 2]
    assert [row for n in range(plan.shard_count) for row in plan.shard(n)] == list(plan.rows())


def test_several_prompts_are_all_drawn_and_the_same_for_every_recipe():
    plan = plan_of(toy_dataset({"cat": 2}), 40, ("image", "text"), prompts=("a {class_name}", "one {class_name}, old"))
    prompts = defaultdict(set)
    for row in plan.rows():
        prompts[row.index].add(row.prompt)
    assert all(len(texts) == 1 for texts in prompts.values())
    assert set.union(*prompts.values()) == {"a cat", "one cat, old"}


def test_several_names_are_drawn_per_image_in_a_stream_that_moves_no_other():
    dataset = toy_dataset({"crane": 2, "dog": 2})
    several = replace(dataset, class_names=("bird|machine", "dog"), several_names=True)
    plain = list(plan_of(dataset, 40, ("image", "text")).rows())
    rows = list(plan_of(several, 40, ("image", "text")).rows())
    assert [replace(row, prompt="", class_name="") for row in rows] == [
        replace(row, prompt="", class_name="") for row in plain
    ]
    prompts = defaultdict(set)
    for row in rows:
        prompts[row.class_id, row.index].add(row.prompt)
        name = row.class_name.split("|")[stream_seed(row.seed, CLASS_NAME) % len(row.class_name.split("|"))]
        assert row.prompt == f"a photo of a {name}"
    assert all(len(texts) == 1 for texts in prompts.values())
    used = Counter(next(iter(texts)) for (class_id, _), texts in prompts.items() if class_id == "crane")
    assert set(used) == {"a photo of a bird", "a photo of a machine"}
    assert min(used.values()) > 8
    mixed = plan_of(several, 40, prompts=("a {class_name}", "old {class_name}"))
    assert {row.prompt for row in mixed.rows() if row.class_id == "crane"} == {
        "a bird", "a machine", "old bird", "old machine",
    }  # fmt: skip


def test_fill_to_and_mapping():
    dataset = toy_dataset({"cat": 5, "dog": 2, "eel": 9})
    assert images_to_make(PlanConfig(fill_to=6), dataset.classes, dataset.counts()) == [1, 4, 0]
    assert images_to_make(PlanConfig(per_class={"dog": 3}), dataset.classes, dataset.counts()) == [0, 3, 0]
    with pytest.raises(PlanError, match=r"names the class 'dgo'.*did you mean 'dog'"):
        images_to_make(PlanConfig(per_class={"dgo": 3}), dataset.classes, dataset.counts())


def test_class_without_images_is_named_unless_text_alone_or_nothing_is_asked_for():
    dataset = toy_dataset({"cat": 2, "unicorn": 0})
    with pytest.raises(PlanError, match="'unicorn' has no readable image"):
        plan_of(dataset, 1, ("text", "image"))
    assert len(plan_of(dataset, 1, ("text",))) == 2
    assert len(plan_of(dataset, {"cat": 1}, ("image",))) == 1


def test_classes_may_share_a_name_but_not_a_key():
    dataset = replace(toy_dataset({"n01": 1, "n02": 1}), class_names=("crane", "crane"))
    rows = list(plan_of(dataset, 1).rows())
    assert [row.prompt for row in rows] == ["a photo of a crane"] * 2
    assert [row.key for row in rows] == ["n01/0/image", "n02/0/image"]
    assert rows[0].seed != rows[1].seed


def test_odd_class_ids_make_keys_of_three_parts():
    dataset = toy_dataset({"<b>..x": 1, "50% off": 1, "ein Baum": 1})
    for row in plan_of(dataset, 1).rows():
        assert len(row.key.split("/")) == 3


@settings(max_examples=30, deadline=None)
@given(datasets, st.integers(0, 5), st.integers(0, 5), st.integers(1, 6))
def test_grown_plan_keeps_its_shards_and_appends(dataset, small, extra, shard_size):
    existing = plan_of(dataset, small, shard_size=shard_size)
    grown = grow_plan(existing, plan_of(dataset, small + extra, shard_size=shard_size), shard_size)
    assert grown.table.slice(0, len(existing)).to_pylist() == existing.table.to_pylist()
    wanted = {row.key: row for row in plan_of(dataset, small + extra).rows()}
    assert {row.key: row for row in grown.rows()} == wanted
    assert all(b - a in (0, 1) for a, b in pairwise(grown.table["shard"].to_pylist()))
    for number in range(existing.shard_count):
        assert grown.shard(number) == existing.shard(number)


def test_growing_refuses_rows_that_are_gone_or_differ():
    dataset = toy_dataset({"cat": 3})
    existing = plan_of(dataset, 3)
    with pytest.raises(RunMismatchError, match="can grow, not shrink"):
        grow_plan(existing, plan_of(dataset, 2), 7)
    with pytest.raises(RunMismatchError, match="seed of 'cat/0/image' differs"):
        grow_plan(existing, plan_of(dataset, 3, seed=1), 7)
    with pytest.raises(RunMismatchError, match="prompt of 'cat/0/image' differs"):
        grow_plan(existing, plan_of(dataset, 3, prompts=("{class_name}",)), 7)
    more = toy_dataset({"cat": 4})
    with pytest.raises(RunMismatchError, match="source_keys of"):
        grow_plan(plan_of(dataset, 9), plan_of(more, 9), 7)


def test_plan_of_nothing_is_empty():
    plan = plan_of(toy_dataset({"cat": 1}), 0)
    assert (len(plan), plan.shard_count, list(plan.rows())) == (0, 0, [])
