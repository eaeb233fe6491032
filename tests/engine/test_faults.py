"""Generators, recipes and readers that misbehave: every row is made or has a reason, and only culprits fail."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.conditioning import Draws, Recipe
from augcond.config import ConditioningConfig, PlanConfig
from augcond.engine import BatchSize, generate_rows
from augcond.engine.faults import FEWEST_TO_STOP, most_failed
from augcond.errors import GeneratorError, RunError
from augcond.generators.base import Generated, GeneratorIdentity
from augcond.generators.checked import check_declared
from augcond.pipeline import generate
from augcond.planning import make_plan
from augcond.store import RunFolder, audit_run, run_status
from augcond.testing import FakeGenerator
from tests.engine.test_rows import DATASET, ROWS, materials
from tests.toy import shard_bytes, toy_config

# Recipes share their seeds; of one recipe every row has its own, by which culprits are named.
ONE = ConditioningConfig(recipe=("embed-cutmix",))
PLAN = list(make_plan(DATASET, PlanConfig(per_class=12), ONE, prompts=("{class_name}",)).rows())
REFERENCE = generate_rows(PLAN, materials(), BatchSize(len(PLAN)))
SEEDS = [row.seed for row in PLAN]


class Spoilt(FakeGenerator):
    """A fake generator whose batches go through `spoil`; counts calls and remembers batch sizes."""

    def __init__(self, spoil=lambda made, seeds: made, **knobs):
        super().__init__(**knobs)
        self.spoil = spoil
        self.batches = []

    def generate(self, conditioning, seeds):
        self.batches.append(len(seeds))
        return self.spoil(super().generate(conditioning, seeds), list(seeds))


def raising(culprits, error=lambda: ValueError("cannot")):
    def spoil(made, seeds):
        if culprits & set(seeds):
            raise error()
        return made

    return spoil


def made_with(generator, batch_size=6, is_hopeless=lambda failed: False):
    size = batch_size if isinstance(batch_size, BatchSize) else BatchSize(batch_size)
    return generate_rows(PLAN, materials(generator), size, is_hopeless=is_hopeless)


def failed_seeds(made):
    return {row.row.seed for row in made if row.status == "failed"}


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(SEEDS), st.sampled_from(["raises", "error", "shape", "count"])),
    st.integers(1, 30),
)
def test_whatever_fails_attempted_is_ok_plus_failed_and_exactly_the_culprits_fail(faults, batch_size):
    def spoil(made, seeds):
        kinds = {faults.get(seed) for seed in seeds}
        if "raises" in kinds:
            raise KeyError("odd")
        if "shape" in kinds:
            return Generated(made.images[:, :8], made.errors)
        if "count" in kinds:
            return Generated(made.images[1:], made.errors)
        errors = tuple("no" if faults.get(seed) == "error" else None for seed in seeds)
        return Generated(made.images, errors)

    counted = []
    made = generate_rows(PLAN, materials(Spoilt(spoil)), BatchSize(batch_size), counted.extend)
    assert [row.row for row in made] == PLAN
    assert counted == made
    assert failed_seeds(made) == set(faults)
    for row, whole in zip(made, REFERENCE, strict=True):
        assert (row.error is None) == (row.image is not None)
        assert row.status == "failed" or row == whole


def test_what_fails_once_is_tried_again_and_changes_nothing():
    generator = Spoilt()
    failures = iter([True, False, False, True] + [False] * 99)

    def spoil(made, seeds):
        if next(failures):
            raise OSError("a hiccup")
        return made

    generator.spoil = spoil
    assert made_with(generator) == REFERENCE
    assert set(generator.batches[:-1]) == {6}


def test_rows_of_other_batches_are_computed_in_the_batches_of_a_run_without_the_fault():
    generator = Spoilt(raising({SEEDS[8]}))
    made_with(generator, 6)
    untouched = Spoilt()
    made_with(untouched, 6)
    # The culprit is the third of its batch: twice whole, its half, the two before it, twice alone, the other half.
    assert generator.batches == [6, 6, 6, 3, 2, 1, 1, 3, *untouched.batches[2:]]


BLACK = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "generate gave a NoneType, not a Generated"),
        (BLACK, "generate gave a Tensor, not a Generated"),
        (Generated(BLACK.numpy(), (None,)), "generate gave a ndarray; expected a tensor"),
        (
            Generated(BLACK[:, :8], (None,)),
            "uint8 (8, 16, 3) on cpu for each row; expected uint8 (16, 16, 3)",
        ),
        (Generated(BLACK[..., :2], (None,)), "uint8 (16, 16, 2) on cpu"),
        (Generated(BLACK.float(), (None,)), "generate gave float32 (16, 16, 3) on cpu for each row; expected uint8"),
        (
            Generated(BLACK.to("meta"), (None,)),
            "on meta for each row; expected uint8 (16, 16, 3) on the CPU",
        ),
        (Generated(BLACK[0], (None,)), "gave a tensor (16, 16, 3) for 1 rows"),
        (Generated(BLACK.repeat(2, 1, 1, 1), (None,)), "gave a tensor (2, 16, 16, 3) for 1 rows"),
        (Generated(BLACK, ()), "gave errors: 0; expected one for each of 1"),
        (Generated(BLACK, None), "gave errors: NoneType"),
        (Generated(BLACK, (7,)), "gave the error 7; expected None or a reason"),
        (Generated(BLACK, ("",)), "gave the error ''; expected None or a reason"),
        (Generated(BLACK, ("two\nlines \ud800",)), "two lines ?"),
        (Generated(BLACK, ("x" * 10**6,)), "x" * 299 + "…"),
        (Generated(BLACK, (None,)), "constant image"),
    ],
)
def test_a_wrong_result_is_a_failed_row_with_the_reason(returned, reason):
    generator = Spoilt(lambda made, seeds: returned)
    made = generate_rows(ROWS[:1], materials(generator), BatchSize(4))
    assert made[0].status == "failed"
    assert reason in made[0].error


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (lambda found: None, "encode_images gave a NoneType; expected a tensor"),
        (lambda found: found[:, :5], "encode_images gave float32 (5,) on cpu for each row; expected float32 (12,)"),
        (lambda found: found.double(), "encode_images gave float64"),
        (lambda found: found * math.nan, "encode_images gave NaN or infinite numbers for 1 of 1 inputs"),
    ],
)
def test_wrong_embeddings_are_failed_rows_with_the_reason(monkeypatch, returned, reason):
    generator = FakeGenerator()
    encode = generator.encode_images
    monkeypatch.setattr(generator, "encode_images", lambda views: returned(encode(views)))
    rows = [row for row in ROWS if row.recipe in ("text", "image")]
    for row in generate_rows(rows, materials(generator), BatchSize(6)):
        assert (row.status == "ok") == (row.row.recipe == "text")
        assert row.error is None or reason in row.error


def test_an_embedding_that_is_not_finite_fails_its_row_alone(monkeypatch):
    generator = Spoilt()
    encode = generator.encode_images

    def spoil(views):
        found = encode(views)
        found[0] = math.inf
        return found

    monkeypatch.setattr(generator, "encode_images", spoil)
    rows = [row for row in ROWS if row.recipe == "image"]
    made = generate_rows(rows, materials(generator), BatchSize(len(rows)))
    assert [row.status for row in made] == ["failed"] + ["ok"] * (len(rows) - 1)


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (None, "view gave a NoneType"),
        (torch.zeros(3, 15, 16), "view gave float32 (3, 15, 16) on cpu; expected floating point (3, 16, 16)"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "view gave uint8"),
        (torch.full((3, 16, 16), 255.0), "view gave values outside of [0, 1]"),
        (torch.full((3, 16, 16), math.nan), "view gave values outside of [0, 1]"),
    ],
)
def test_wrong_views_are_failed_rows_with_the_reason(monkeypatch, view, reason):
    generator = FakeGenerator()
    monkeypatch.setattr(generator, "view", lambda image: view)
    rows = [row for row in ROWS if row.recipe in ("text", "image")]
    made = generate_rows(rows, materials(generator), BatchSize(6))
    for row in made:
        assert (row.status == "ok") == (row.row.recipe == "text")
        assert row.error is None or reason in row.error


def own_recipe(returned):
    def operate(embeddings, settings, seed):
        return returned(embeddings)

    return Recipe("own", embeddings=operate, sources=2)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (lambda found: 1 / 0, "recipe own: ZeroDivisionError: division by zero"),
        (lambda found: found[0], "recipe own: its function gave a Tensor; expected (tensor, Draws)"),
        (lambda found: ([1.0], Draws()), "recipe own: its function gave a tuple; expected (tensor, Draws)"),
        (lambda found: (found, Draws()), "gave a tensor of shape (2, 12)"),
        (lambda found: (found[0] * math.nan, Draws()), "expected finite numbers"),
        (lambda found: (found[0], None), "recipe own: its function drew None"),
        (lambda found: (found[0], Draws(weights=("a", "b"))), "recipe own: its function drew Draws("),
    ],
)
def test_a_recipe_of_ones_own_that_misbehaves_fails_its_rows_alone(monkeypatch, returned, reason):
    monkeypatch.setattr("augcond.conditioning.recipes.find_recipe", lambda name: own_recipe(returned))
    rows = [dataclasses.replace(row, recipe="own") for row in ROWS if row.recipe == "mixup"]
    materials_ = dataclasses.replace(materials(), conditioning=ConditioningConfig())
    made = generate_rows(rows, materials_, BatchSize(4))
    assert [row.status for row in made] == ["failed"] * len(rows)
    assert all(reason in row.error for row in made)


@pytest.mark.parametrize("error", [KeyError("cat/0.png"), ZeroDivisionError(), MemoryError(), RuntimeError("torn")])
def test_a_reader_that_raises_something_odd_fails_its_rows_alone(error):
    class Reader:
        def read(self, key):
            if key == "cat/0.png":
                raise error
            return DATASET.reader.read(key)

    made = generate_rows(ROWS, materials(reader=Reader()), BatchSize(5))
    for row in made:
        assert (row.status == "failed") == ("cat/0.png" in row.row.source_keys)
        assert row.error is None or row.error.startswith(f"source image unreadable: {type(error).__name__}")


def test_a_reader_that_gives_no_bytes_fails_its_rows():
    class Reader:
        def read(self, key):
            return None

    made = generate_rows(ROWS, materials(reader=Reader()), BatchSize(5))
    assert all((row.status == "ok") == (not row.row.source_keys) for row in made)


def test_a_row_that_is_out_of_memory_alone_fails_and_batches_are_as_large_as_before():
    def error():
        return torch.OutOfMemoryError("CUDA out of memory")

    size = BatchSize(8)
    generator = Spoilt(raising({SEEDS[6], SEEDS[7]}, error))
    made = made_with(generator, size)
    assert failed_seeds(made) == {SEEDS[6], SEEDS[7]}
    assert {row.error for row in made if row.error} == {"out of memory in a batch of one row"}
    assert size.current == 8
    assert size.notes[-1] == "a row alone was out of memory: batch size 8 again"
    assert generator.batches == [8, 4, 4, 2, 2, 1, 1, 1, 8, 7]


def test_what_does_not_fit_for_other_reasons_stays_halved():
    size = BatchSize(8)
    made = made_with(Spoilt(raising({SEEDS[6]}, MemoryError), max_batch=4), size)
    assert failed_seeds(made) == {SEEDS[6]}
    assert size.current == 4


def test_where_no_row_fits_every_row_fails_in_few_calls():
    generator = Spoilt(max_batch=0)
    generator._max_batch = 0.5
    made = made_with(generator, 16)
    assert all(row.error == "out of memory in a batch of one row" for row in made)
    assert len(generator.batches) == len(PLAN) + 4


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_failed_gpu_ends_the_process_with_what_to_do_and_is_not_tried_again(tmp_path, monkeypatch, error, wrapped):
    config = toy_config(tmp_path)
    calls = []

    def lost(self, conditioning, seeds):
        calls.append(seeds)
        if len(calls) > 4:
            if not wrapped:
                raise error
            try:
                raise error
            except RuntimeError as cause:
                raise ValueError("step 3") from cause
        return whole(self, conditioning, seeds)

    whole = FakeGenerator.generate
    monkeypatch.setattr(FakeGenerator, "generate", lost)
    with pytest.raises(GeneratorError, match=r"the GPU failed \(CUDA error: .*is safe: run the same command again"):
        generate(config)
    assert len(calls) == 5
    assert run_status(RunFolder(config.run)).shards_done == 1
    monkeypatch.setattr(FakeGenerator, "generate", whole)
    generate(config)
    other = toy_config(tmp_path, run=tmp_path / "other")
    generate(other)
    assert shard_bytes(config.run) == shard_bytes(other.run)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_process_ends_it(stop):
    with pytest.raises(stop):
        made_with(Spoilt(raising(set(SEEDS), stop)))

    class Reader:
        def read(self, key):
            raise stop

    with pytest.raises(stop):
        generate_rows(ROWS, materials(reader=Reader()), BatchSize(5))


@pytest.mark.parametrize("code", [0, 3, "no licence"])
def test_a_generator_that_ends_the_program_is_said_to(tmp_path, monkeypatch, code):
    monkeypatch.setattr(FakeGenerator, "generate", lambda self, conditioning, seeds: sys.exit(code))
    with pytest.raises(GeneratorError, match=rf"called sys\.exit\({code!r}\): let it raise"):
        generate(toy_config(tmp_path))


def test_an_exception_that_cannot_say_what_it_is_is_a_reason():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    made = made_with(Spoilt(raising({SEEDS[3]}, Mute)))
    assert [row.error for row in made if row.status == "failed"] == ["the generator: Mute"]


def test_the_traceback_is_logged_once_per_kind_and_no_warning(caplog):
    caplog.set_level(logging.INFO, "augcond")
    made_with(Spoilt(raising(set(SEEDS[:5]))))
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.levelname for record in logged] == ["INFO"]
    assert "raise error()" in caplog.text


def hopeless(rows, share=0.5):
    return lambda failed: most_failed(failed, rows, share)


def test_a_generator_that_always_raises_costs_little():
    rows = PLAN * 11  # about a shard
    generator = Spoilt(raising(set(SEEDS)))
    made = generate_rows(rows, materials(generator), BatchSize(16), is_hopeless=hopeless(len(rows)))
    assert {row.error for row in made} == {"the generator: ValueError: cannot"}
    assert sum(size == 1 for size in generator.batches) <= len(rows) // 2 + FEWEST_TO_STOP + 16
    assert sum(size > 1 for size in generator.batches) <= len(rows) / 16 + 10
    # All that was computed before the job stops is worth less than two shards that are made.
    assert sum(generator.batches) < 2 * len(rows)


def test_a_few_culprits_cost_little():
    generator = Spoilt(raising({SEEDS[20]}))
    made_with(generator, 16)
    assert sum(generator.batches) <= len(PLAN) + 3 * 16


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_job_stops_or_goes_on_by_the_share_that_fails(tmp_path, monkeypatch, share):
    monkeypatch.setattr(FakeGenerator, "generate", lambda self, conditioning, seeds: {}["no such key"])
    config = toy_config(tmp_path, engine={"max_failed_share": share})
    if share < 1:
        with pytest.raises(RunError, match=r"16 of 16 rows of shard 00000 failed: 16 x the generator: KeyError: 'no"):
            generate(config)
    else:
        assert (generate(config).ok, run_status(RunFolder(config.run)).failed) == (0, 40)
    folder = RunFolder(config.run)
    assert audit_run(folder).problems == ()
    monkeypatch.undo()
    assert generate(config, retry_failed=True).failed == 0


def test_many_reasons_are_counted_and_few_said(tmp_path, monkeypatch):
    numbers = iter(range(10**6))

    def different(self, conditioning, seeds):
        raise ValueError(f"call {next(numbers)}")

    monkeypatch.setattr(FakeGenerator, "generate", different)
    config = toy_config(tmp_path)
    with pytest.raises(RunError, match=r"; \d+ x \d+ other reasons\. Mend the cause"):
        generate(config)
    status = run_status(RunFolder(config.run))
    assert sum(Counter(status.reasons).values()) == status.failed == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": (16,)}, "the image_size of 'own'"),
        ({"image_size": [16, 16]}, "the image_size of 'own'"),
        ({"embedding_shape": 12}, "the embedding_shape of 'own'"),
        ({"embedding_shape": (12.0,)}, "the embedding_shape of 'own'"),
        ({"encoder_size": None}, "the encoder_size of 'own'"),
        ({"identity": GeneratorIdentity("a", "b", None)}, "the identity of 'own'"),
        ({"inputs": "text"}, "the inputs of 'own'"),
    ],
)
def test_a_generator_that_does_not_say_what_it_makes_is_refused_at_load(change, words):
    generator = FakeGenerator()
    for name, value in change.items():
        setattr(generator, name, value)
    with pytest.raises(GeneratorError, match=words):
        check_declared(generator, "own")
    with pytest.raises(GeneratorError, match="loads a dict, not a Generator"):
        check_declared({}, "own")
