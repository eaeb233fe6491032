from collections import Counter

import numpy as np

from augcond.report.sample import gallery_positions, read_groups, read_rows, real_positions, recipe_positions


def test_the_gallery_takes_the_classes_in_turn(facts):
    table = facts.plan.plan.table
    chosen = gallery_positions(facts, 10_000)
    assert sorted(position for group in chosen for position in group) == list(range(len(facts.plan.plan)))

    first = gallery_positions(facts, 20, failed_groups=0)
    labels = [table["label"][group[0]].as_py() for group in first]
    assert len(set(labels)) == len(labels) <= 4
    assert first == chosen[: len(first)]


def test_failed_groups_are_shown_beyond_the_limit(facts):
    few, with_failed = gallery_positions(facts, 1, failed_groups=0), gallery_positions(facts, 1, failed_groups=2)
    assert with_failed[: len(few)] == few and len(with_failed) == len(few) + 2
    assert all(not facts.made[group].all() for group in with_failed[len(few) :])


def test_rows_come_with_what_the_plan_says_of_them(facts):
    wanted = [3, 70, 11]
    rows = list(read_rows(facts, wanted))

    assert [row.position for row in rows] == sorted(wanted)
    planned = list(facts.plan.plan.rows())
    for row in rows:
        plan_row = planned[row.position]
        assert (row.key, row.index, row.prompt, row.seed) == (
            plan_row.key, plan_row.index, plan_row.prompt, plan_row.seed
        )  # fmt: skip
        assert (row.image is None) == (row.error is not None)
    assert list(read_rows(facts, [])) == []


def test_groups_hold_every_recipe_in_order_and_the_longest_list_of_sources(facts):
    for group in read_groups(facts, gallery_positions(facts, 60)):
        assert [row.recipe for row in group.rows] == list(facts.recipes)
        assert {row.seed for row in group.rows} == {group.seed}
        assert len(group.source_keys) == 2


def test_a_recipes_sample_is_stratified(facts):
    positions = recipe_positions(facts, "mixup", 8)
    table = facts.plan.plan.table
    assert {table["recipe"][position].as_py() for position in positions} == {"mixup"}
    assert facts.made[positions].all()
    counts = Counter(table["label"][position].as_py() for position in positions)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_real_images_are_taken_from_the_classes_in_turn():
    labels = [2, 2, 2, 0, 0, 1]
    assert real_positions(labels, 4) == [3, 5, 0, 4]
    assert sorted(real_positions(labels, 99)) == list(range(6))
    assert real_positions(np.array([], dtype=int), 5) == []
