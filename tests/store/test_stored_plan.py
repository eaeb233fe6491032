"""A plan whose rows are read group by group is the plan that was written."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.datasets import load_dataset
from augcond.engine.embeddings import Blocks
from augcond.errors import CorruptRunError
from augcond.pipeline import generate
from augcond.sealed import write_table
from augcond.store import RunFolder, folder
from augcond.store.stored_plan import Groups, StoredPlan
from tests.toy import toy_config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 40 rows in shards of 16; and its config."""
    config = toy_config(tmp_path_factory.mktemp("stored"))
    generate(config)
    return RunFolder(config.run), config


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """The same plan in groups of 10 rows, so that shards lie in two and three of them."""
    monkeypatch.setattr(folder, "GROUP", 10)
    copy = RunFolder(tmp_path / "run")
    copy.path.mkdir()
    table = pq.read_table(made[0].plan_path)
    write_table(copy.plan_path, table, 10)
    return copy


def test_rows_shards_and_blocks_are_those_of_the_plan_read_whole(made, run):
    whole, stored = made[0].read_plan(), run.read_plan()
    assert isinstance(stored.plan, StoredPlan) and not isinstance(whole.plan, StoredPlan)
    assert replace(stored, plan=whole.plan) == whole
    assert stored.plan.bounds() == whole.plan.bounds() == [(0, 16), (16, 32), (32, 40)]
    assert stored.plan.shard_count == 3 and len(stored.plan) == 40
    for number in (2, 0, 1):
        assert stored.plan.shard(number) == whole.plan.shard(number)
    assert list(stored.plan.rows()) == list(whole.plan.rows())
    assert stored.plan.table.to_pylist() == whole.plan.table.to_pylist()
    conditioning = made[1].conditioning
    assert Blocks.of(stored.plan, conditioning) == Blocks.of(whole.plan, conditioning)


def test_a_shard_is_read_of_the_groups_that_it_lies_in(run, monkeypatch):
    read = []
    checked = Groups._read
    monkeypatch.setattr(
        Groups, "_read", lambda groups, number, *names: read.append(number) or checked(groups, number, *names)
    )
    plan = run.read_plan().plan
    read.clear()
    # What was there is what is read, whatever another process writes meanwhile.
    run.plan_path.unlink()
    assert [row.key for row in plan.shard(2)] == [row.key for row in plan.rows()][32:]
    assert read == [3, 0, 1, 2, 3]


def test_the_plan_that_is_written_lies_in_groups(made, run):
    plan = made[0].read_plan()
    path = run.plan_path
    run.write_plan(plan, made[1], load_dataset(made[1].data))
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 4
    assert run.read_plan().plan.table.to_pylist() == plan.plan.table.to_pylist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda columns, about: columns | {"label": [9] * 40}, "do not fit its classes"),
        (lambda columns, about: (about["fingerprints"].append("0"), columns)[1], "do not fit its classes"),
        (lambda columns, about: columns | {"key": [None] * 40}, "rows lack values"),
    ],
)
def test_a_strangers_rows_are_refused_at_the_latest_as_they_are_read(run, change, says):
    table = pq.read_table(run.plan_path)
    about = json.loads(table.schema.metadata[b"augcond"])
    columns = change(table.to_pydict(), about)
    changed = pa.table(columns, schema=table.schema.remove_metadata())
    write_table(run.plan_path, changed.replace_schema_metadata({b"augcond": json.dumps(about).encode()}), 10)
    with pytest.raises(CorruptRunError, match=says):
        run.read_plan().plan.shard(1)
