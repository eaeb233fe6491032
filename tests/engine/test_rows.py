from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.config import ConditioningConfig, PlanConfig
from augcond.datasets import DecodeSettings
from augcond.engine import BatchSize, Materials, generate_rows
from augcond.generators import recipes_for
from augcond.planning import make_plan
from augcond.store.images import ImageFormat, decode_stored
from augcond.testing import FakeGenerator
from tests.toy import MemoryReader, png, toy_dataset

ALL = ConditioningConfig(recipe=recipes_for("fake"))
DATASET = toy_dataset({"cat": 3, "dog": 1})
ROWS = list(make_plan(DATASET, PlanConfig(per_class=2), ALL, prompts=("{class_name}",)).rows())


def materials(generator=None, reader=DATASET.reader) -> Materials:
    return Materials(reader, DecodeSettings(), ALL, generator or FakeGenerator(), ImageFormat("png", 90, None))


REFERENCE = generate_rows(ROWS, materials(), BatchSize(len(ROWS)))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(len(ROWS))), st.integers(1, 50))
def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order(order, batch_size):
    made = generate_rows([ROWS[i] for i in order], materials(), BatchSize(batch_size))
    for i, shard_row in zip(order, made, strict=True):
        assert shard_row == REFERENCE[i]


def test_every_row_is_made():
    assert [row.row for row in REFERENCE] == ROWS
    assert all(row.status == "ok" for row in REFERENCE)
    assert decode_stored(REFERENCE[0].image).size == (16, 16)


def test_unreadable_source_fails_its_rows_and_no_others():
    class Reader:
        def read(self, key: str) -> bytes:
            if key == "cat/0.png":
                raise FileNotFoundError(2, "No such file or directory", "/secret/path")
            return png(1)[:100] if key == "cat/1.png" else DATASET.reader.read(key)

    made = generate_rows(ROWS, materials(reader=Reader()), BatchSize(5))
    assert len(made) == len(ROWS)
    for shard_row in made:
        broken = {"cat/0.png", "cat/1.png"} & set(shard_row.row.source_keys)
        assert (shard_row.status == "failed") == bool(broken)
    errors = {shard_row.error for shard_row in made if shard_row.error}
    assert any("No such file" in error for error in errors)
    assert not any("secret" in error for error in errors)


def test_out_of_memory_halves_the_batch_and_loses_nothing():
    batch_size = BatchSize(16)
    made = generate_rows(ROWS, materials(FakeGenerator(max_batch=5)), batch_size)
    assert made == REFERENCE
    assert batch_size.current == 4
    assert batch_size.notes == ["out of memory: batch size halved to 8", "out of memory: batch size halved to 4"]


def test_failed_generation_is_a_row_with_the_reason():
    made = generate_rows(ROWS, materials(FakeGenerator(fails=lambda seed: seed % 2 == 0)), BatchSize(4))
    for shard_row in made:
        assert (shard_row.status == "failed") == (shard_row.row.seed % 2 == 0)
    assert {row.error for row in made} == {None, "made to fail"}


def test_a_transform_that_does_not_fit_one_image_fails_its_rows_only():
    conditioning = ConditioningConfig(recipe=("image",), augment=({"name": "RandomCrop", "size": 24},))
    reader = MemoryReader({"a/0.png": png(0, (30, 30)), "a/1.png": png(1, (10, 10))})
    dataset = toy_dataset({"a": 2})
    rows = list(make_plan(dataset, PlanConfig(per_class=4), conditioning, prompts=("x",)).rows())
    made = generate_rows(rows, replace(materials(reader=reader), conditioning=conditioning), BatchSize(4))
    for shard_row in made:
        assert (shard_row.status == "failed") == (shard_row.row.source_keys == ("a/1.png",))


def test_rows_draw_nothing_from_global_generators():
    import random

    import numpy as np

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    generate_rows(ROWS, materials(), BatchSize(4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
