"""Tamper with a finished run; the audit must say so."""

from __future__ import annotations

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.errors import CorruptRunError, RunError
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from tests.tampering import rewrite_sources, vouch_for_shard
from tests.toy import Counted, toy_config


@pytest.fixture
def run(tmp_path):
    config = toy_config(tmp_path, plan={"per_class": 3}, engine={"shard_size": 12})
    generate(config)
    return RunFolder(config.run)


def rewrite_shard(run: RunFolder, number: int, change) -> None:
    """Change a shard's table and make its marker agree, as a careless script would."""
    path = run.shard_path(number)
    pq.write_table(change(pq.read_table(path)), path)
    vouch_for_shard(run, number)


def set_value(table: pa.Table, column: str, row: int, value) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def test_sound_run(run):
    audit = audit_run(run)
    assert (audit.problems, audit.shards, audit.shards_left, audit.ok, audit.failed) == ((), 2, 0, 24, 0)


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("image", {"bytes": b"rubbish", "path": "x.png"}, "does not decode"),
        ("image", None, "holds no image"),
        ("key", "cat/99/image", "its keys are not those of the plan"),
        ("label", 1, "label or sources are not those of the plan"),
        ("source_keys", ["dog/0.png"], "label or sources are not those of the plan"),
        ("status", "failed", "its marker says"),
    ],
)
def test_changed_row(run, column, value, complaint):
    rewrite_shard(run, 0, lambda table: set_value(table, column, 1, value))
    assert any(complaint in problem for problem in audit_run(run).problems)


def test_changed_bytes(run):
    path = run.shard_path(1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any("sha256 differs" in problem for problem in audit_run(run).problems)


def test_source_that_is_no_training_image(run):
    sources = pq.read_table(run.sources_path)
    kept = [key != "cat/0.png" for key in sources["key"].to_pylist()]
    rewrite_sources(run, sources.filter(pa.array(kept)))
    assert any("'cat/0.png' is no training image" in problem for problem in audit_run(run).problems)


def test_source_of_another_class(run):
    sources = pq.read_table(run.sources_path)
    rewrite_sources(run, set_value(sources, "label", sources["key"].to_pylist().index("cat/0.png"), 1))
    assert any("'cat/0.png' is of another class" in problem for problem in audit_run(run).problems)


def test_stray_and_temporary_files(run):
    (run.shards / "00000.parquet.tmp").write_bytes(b"")
    (run.shards / "00009.parquet").write_bytes(b"")
    problems = audit_run(run).problems
    assert any("temporary file 00000.parquet.tmp" in problem for problem in problems)
    assert any("00009.parquet belongs to no shard" in problem for problem in problems)


def test_shard_cut_short(run):
    path = run.shard_path(0)
    path.write_bytes(path.read_bytes()[:-1])
    audit = audit_run(run)
    assert any("shard 00000: its marker is broken" in problem for problem in audit.problems)
    assert audit.shards_left == 1


def test_unfinished_run_is_no_problem(run):
    run.marker_path(1).unlink()
    run.shard_path(1).unlink()
    told = Counted()
    audit = audit_run(run, progress=told)
    assert (audit.problems, audit.shards_left) == ((), 1)
    assert (told.total, told.done) == (1, 1)


def test_a_run_whose_shards_are_gone_is_read(run):
    shutil.rmtree(run.shards)
    audit = audit_run(run)
    assert (audit.problems, audit.shards_left) == ((), 2)


def test_no_run(tmp_path):
    with pytest.raises(RunError, match=r"has no plan\.parquet"):
        audit_run(RunFolder(tmp_path))


def test_foreign_plan(run):
    pq.write_table(pa.table({"a": [1]}), run.plan_path)
    for content in (run.plan_path.read_bytes(), b"rubbish"):
        run.plan_path.write_bytes(content)
        audit = audit_run(run)
        assert any(f"{run.plan_path} " in line for line in audit.uncovered)
        assert (audit.shards, audit.sources) == (0, 0)
        with pytest.raises(CorruptRunError, match=r"plan\.parquet"):
            run.read_plan()


@pytest.mark.parametrize(
    "name", ["config.yaml", "plan.parquet", "log.txt", "locks/plan.lock", "models/mixup/seed-0/model.safetensors"]
)
@pytest.mark.parametrize("what", ["folder", "pipe", "lost link"])
def test_what_is_no_file_in_the_place_of_one(run, name, what):
    path = run.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "lost link":
            path.symlink_to("nowhere")
    assert any(f"{name} is no file: remove it" in problem for problem in audit_run(run).problems)


@pytest.mark.parametrize("name", ["config.yaml", "plan.parquet", "sources.parquet"])
def test_a_run_that_lacks_what_says_what_it_is_is_not_sound(run, name):
    (run.path / name).unlink()
    assert any(f"{name} is missing" in problem for problem in audit_run(run).problems)


def test_shards_that_lie_on_another_disk_are_a_problem_as_they_are_for_who_writes_there(run, tmp_path):
    run.shards.rename(tmp_path / "elsewhere")
    run.shards.symlink_to(tmp_path / "elsewhere")
    (problem,) = audit_run(run).problems
    assert problem.startswith(f"{run.shards} is a link that leads out of the run folder: remove it")
