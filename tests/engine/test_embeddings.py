"""Embeddings of whole views: computed once for all rows, with bits that depend on source and generator alone."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augcond.config import GeneratorConfig
from augcond.engine import Work, do_work, embeddings
from augcond.engine.embeddings import BLOCK, are_kept
from augcond.generators import load_generator
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from augcond.testing import FakeGenerator
from tests.toy import shard_bytes, toy_config

RECIPES = ["text", "image", "dropout", "mixup", "embed-mixup"]


@pytest.fixture
def encoded(monkeypatch):
    """Counts the calls of the fake encoder, by the number of views."""
    calls = Counter()
    original = FakeGenerator.encode_images

    def counting(self, views):
        calls[len(views)] += 1
        return original(self, views)

    monkeypatch.setattr(FakeGenerator, "encode_images", counting)
    return calls


def config_of(root, run="run", **sections):
    given = {"conditioning": {"recipe": RECIPES}, "plan": {"per_class": 8}, **sections}
    return toy_config(root, {"a": 9, "b": 14, "one": 1}, run=root / run, **given)


def test_each_block_is_encoded_once_and_kept_with_the_run(tmp_path, encoded):
    config = config_of(tmp_path, conditioning={"recipe": ["image", "embed-mixup"]})
    generate(config)
    assert encoded[BLOCK] == 2 and not set(encoded) - {BLOCK, *range(1, 9)}  # crops of the class with one image
    folder, before = RunFolder(config.run), shard_bytes(config.run)
    kept = sorted((config.run / "embeddings").iterdir())
    assert [path.name for path in kept] == ["00000.parquet", "00001.parquet"]
    for number in (0, 2):
        folder.marker_path(number).unlink()
    encoded.clear()
    generate(config)
    assert encoded[BLOCK] == 0
    assert shard_bytes(config.run) == before
    assert audit_run(folder).problems == ()


def test_what_is_damaged_or_of_others_is_computed_anew(tmp_path, encoded, caplog):
    config = config_of(tmp_path, conditioning={"recipe": ["image"]})
    generate(config)
    folder, before = RunFolder(config.run), shard_bytes(config.run)
    first, second = sorted((config.run / "embeddings").iterdir())
    good = first.read_bytes(), second.read_bytes()
    first.write_bytes(good[0][:-40] + b"\0" + good[0][-39:])
    second.write_bytes(good[0])  # whole, and of other sources
    assert any("embeddings/00000" in problem for problem in audit_run(folder).problems)
    for number in range(len(before)):
        folder.marker_path(number).unlink()
    encoded.clear()
    generate(config)
    assert encoded[BLOCK] == 2
    assert "00000.parquet" in caplog.text
    assert shard_bytes(config.run) == before
    assert (first.read_bytes(), second.read_bytes()) == good


@pytest.mark.parametrize("threads", [1, 8])
def test_bytes_depend_neither_on_threads_nor_on_memory_nor_on_what_is_resumed(tmp_path, threads):
    whole = config_of(tmp_path, "whole", engine={"shard_size": 7, "batch_size": 3, "feeding_threads": 2})
    generate(whole)
    engine = {"shard_size": 7, "batch_size": 3, "feeding_threads": threads, "max_memory_gb": 0}
    other = config_of(tmp_path, "other", engine=engine)
    generate(other)
    assert shard_bytes(other.run) == shard_bytes(whole.run)
    for path in (other.run / "embeddings").iterdir():
        path.unlink()
    for number in range(3, 9):
        RunFolder(other.run).marker_path(number).unlink()
    generate(other)
    assert shard_bytes(other.run) == shard_bytes(whole.run)


def test_a_source_that_cannot_be_read_fails_its_own_rows_alone(tmp_path):
    config = config_of(tmp_path, conditioning={"recipe": ["image"]}, engine={"max_failed_share": 1})
    generate(config)
    images = {row["key"]: row["image"] for row in rows_of(config)}
    for path in (config.run / "shards").iterdir():
        path.unlink()
    for path in (config.run / "embeddings").iterdir():
        path.unlink()
    gone = tmp_path / "photos" / "a" / "3.png"
    gone.unlink()
    do_work(Work(config.run, config), lambda number, marker: None)
    rows = rows_of(config)
    failed = {row["key"] for row in rows if row["error"]}
    assert failed == {row["key"] for row in rows if "a/3.png" in row["source_keys"]} != set()
    assert {row["error"] for row in rows if row["error"]} == {"source image unreadable: No such file or directory"}
    assert all(row["image"] == images[row["key"]] for row in rows if row["key"] not in failed)


def rows_of(config):
    return [
        row for path in sorted((config.run / "shards").glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("no"), ValueError("not so many")])
def test_a_block_that_cannot_be_encoded_at_once_is_encoded_one_by_one(tmp_path, monkeypatch, fault):
    generate(config_of(tmp_path, "well"))
    original = FakeGenerator.encode_images

    def limited(self, views):
        if len(views) >= BLOCK:
            raise fault
        return original(self, views)

    monkeypatch.setattr(FakeGenerator, "encode_images", limited)
    config = config_of(tmp_path, "limited")
    assert generate(config).failed == 0
    assert shard_bytes(config.run) == shard_bytes(tmp_path / "well")
    assert not (config.run / "embeddings").exists()


def test_large_embeddings_are_not_kept(tmp_path, monkeypatch, encoded):
    monkeypatch.setattr(embeddings, "LARGEST", 47)  # of 12 numbers
    assert not are_kept(FakeGenerator())
    config = config_of(tmp_path, conditioning={"recipe": ["image"]})
    generate(config)
    assert not (config.run / "embeddings").exists() and encoded[BLOCK] == 0


@pytest.fixture(scope="module")
def builtin():
    return load_generator(GeneratorConfig(model="builtin", device="cpu"))


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(0, BLOCK - 1), st.integers(0, BLOCK))
def test_an_embedding_has_the_same_bits_at_any_place_and_beside_anything(builtin, seed, place, others):
    generator = torch.Generator().manual_seed(seed)
    view = torch.rand(3, 32, 32, generator=generator)
    blocks = torch.zeros(2, BLOCK, 3, 32, 32)
    blocks[0, :others] = torch.rand(others, 3, 32, 32, generator=generator)
    blocks[0, place], blocks[1, 0] = view, view
    first, second = builtin.encode_images(blocks[0])[place], builtin.encode_images(blocks[1])[0]
    assert torch.equal(first, second)
    assert (first - builtin.encode_images(view[None])[0]).abs().max() < 1e-5
