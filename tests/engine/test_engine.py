from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from augcond.errors import DatasetError, RunError, RunLockedError, RunMismatchError
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run, run_status
from tests.toy import png, shard_bytes, toy_config


def markers(run):
    return {path.name: json.loads(path.read_text()) for path in sorted((run / "shards").glob("*.done.json"))}


def test_run_ends_complete_and_a_second_call_does_nothing(tmp_path):
    config = toy_config(tmp_path)
    first = generate(config)
    assert (first.ok, first.failed, first.skipped) == (40, 0, 0)
    before = shard_bytes(config.run)
    second = generate(config)
    assert (second.shards, second.skipped, second.ok) == (0, 3, 0)
    assert shard_bytes(config.run) == before
    assert audit_run(RunFolder(config.run)).problems == ()


def test_status_counts_add_up_at_every_moment(tmp_path):
    config = toy_config(tmp_path, generator={"model": "fail_every=3"}, engine={"max_failed_share": 1.0})
    folder = RunFolder(config.run)
    generate(config)
    folder.marker_path(1).unlink()
    status = run_status(folder)
    assert status.planned == 40
    assert status.attempted + status.left == status.planned
    assert status.shards_done == 2
    generate(config)
    status = run_status(RunFolder(config.run))
    assert (status.attempted, status.left) == (40, 0)
    assert status.failed == sum(status.reasons.values()) > 0
    assert audit_run(RunFolder(config.run)).problems == ()


def test_other_settings_are_refused_by_name_and_overwrite_is_explicit(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    other = toy_config(tmp_path, generator={"guidance_scale": 7.0}, plan={"seed": 1})
    with pytest.raises(RunMismatchError) as caught:
        generate(other)
    assert "generator.guidance_scale: the run has 3.0, this config 7.0" in str(caught.value)
    assert "plan.seed: the run has 0, this config 1" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    (config.run / "notes.txt").write_text("mine")
    assert generate(other, overwrite=True).ok == 40
    assert (config.run / "notes.txt").exists()


def test_settings_that_define_no_image_may_change(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    other = toy_config(tmp_path, engine={"batch_size": 3, "shard_size": 8}, generator={"dtype": "float32"})
    assert generate(other).shards == 0


def test_a_run_grows_by_images_and_by_recipes(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    before = shard_bytes(config.run)
    more = toy_config(
        tmp_path,
        plan={"per_class": 7},
        conditioning={"recipe": ["text", "image", "mixup", "embed-cutmix-dropout", "cutmix"]},
    )
    assert generate(more).ok == 7 * 2 * 5 - 40
    assert before.items() <= shard_bytes(config.run).items()
    assert audit_run(RunFolder(config.run)).problems == ()
    with pytest.raises(RunMismatchError, match="can grow, not shrink"):
        generate(config)


def test_changed_or_vanished_sources_are_named(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    photo = config.data.path / "cat" / "0.png"
    original = photo.read_bytes()
    photo.write_bytes(png(99))
    with pytest.raises(RunMismatchError, match=r"source image 'cat/0.png' has other contents"):
        generate(config)
    photo.unlink()
    with pytest.raises(RunMismatchError, match=r"training image 'cat/0.png' is gone"):
        generate(config)
    photo.write_bytes(original)
    assert generate(config).shards == 0


def test_reuse_takes_equal_rows_and_makes_the_rest(tmp_path):
    first = toy_config(tmp_path)
    generate(first)
    second = toy_config(tmp_path, run=tmp_path / "second", plan={"per_class": 8}, engine={"shard_size": 64})
    generate(second, reuse=[first.run])
    third = toy_config(tmp_path, run=tmp_path / "third", plan={"per_class": 8}, engine={"shard_size": 64})
    generate(third)
    assert markers(second.run)["00000.done.json"]["notes"] == ["40 rows reused"]
    assert shard_bytes(second.run) == shard_bytes(third.run)


def test_nothing_is_reused_from_a_run_of_other_settings(tmp_path, caplog):
    first = toy_config(tmp_path)
    generate(first)
    second = toy_config(tmp_path, run=tmp_path / "second", generator={"steps": 3})
    generate(second, reuse=[first.run])
    assert "generator.steps: the run has 20, this config 3" in caplog.text
    assert not markers(second.run)["00000.done.json"]["notes"]


def test_a_bad_image_is_recorded_and_stops_nothing(tmp_path):
    config = toy_config(tmp_path, {"cat": 20, "dog": 20})
    (config.data.path / "cat" / "bad.png").write_bytes(png(0)[:50])
    assert generate(config).failed == 0
    sources = pq.read_table(config.run / "sources.parquet").to_pylist()
    assert [row["reason"] is not None for row in sources if row["key"] == "cat/bad.png"] == [True]


def test_too_many_bad_images_stop_the_job(tmp_path):
    config = toy_config(tmp_path)
    for name in ("1.png", "2.png"):
        (config.data.path / "cat" / name).write_bytes(b"rubbish")
    with pytest.raises(DatasetError, match="2 of 7"):
        generate(config)


def test_job_stops_where_most_rows_fail_and_retry_mends_it(tmp_path):
    config = toy_config(tmp_path, generator={"model": "fail_every=1"})
    with pytest.raises(RunError, match=r"16 of 16 rows of shard 00000 failed: 16 x made to fail.*--retry-failed"):
        generate(config)
    assert run_status(RunFolder(config.run)).failed == 16
    mended = toy_config(tmp_path)
    summary = generate(mended, retry_failed=True)
    assert (summary.shards, summary.failed) == (3, 0)
    whole = toy_config(tmp_path, run=tmp_path / "whole")
    generate(whole)
    assert shard_bytes(mended.run) == shard_bytes(whole.run)


def test_a_few_failures_of_a_small_shard_stop_nothing(tmp_path):
    config = toy_config(tmp_path, generator={"model": "fail_every=1"}, engine={"shard_size": 4})
    assert generate(config).failed == 40


def test_retry_keeps_what_was_made(tmp_path):
    config = toy_config(tmp_path, generator={"model": "fail_every=5"})
    failed = generate(config).failed
    assert failed
    summary = generate(toy_config(tmp_path), retry_failed=True)
    notes = [marker["notes"] for marker in markers(config.run).values()]
    reused = sum(int(note.split()[0]) for shard_notes in notes for note in shard_notes)
    assert summary.ok - reused == failed


def test_a_run_that_others_work_on_is_not_made_anew(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    with RunFolder(config.run).claims():
        with pytest.raises(RunLockedError, match=r"other processes work on .*: stop them first \(process \d+ on"):
            generate(config, overwrite=True)
        assert generate(config).shards == 0
    assert generate(config, overwrite=True).shards == 3


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    config = toy_config(tmp_path)
    config.run.mkdir()
    (config.run / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds files but no run"):
        generate(config)
    config = toy_config(tmp_path, run=tmp_path / "photos" / "cat" / "0.png")
    with pytest.raises(RunError, match="is a file"):
        generate(config)


def test_a_shard_that_was_cut_short_is_made_anew(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    before = shard_bytes(config.run)
    shard = config.run / "shards" / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    (config.run / "shards" / "00002.done.json").unlink()
    assert generate(config).shards == 2
    assert shard_bytes(config.run) == before


def test_out_of_memory_is_noted_in_the_marker(tmp_path):
    config = toy_config(tmp_path, generator={"model": "max_batch=3"})
    generate(config)
    marker = markers(config.run)["00000.done.json"]
    assert marker["batch_size"] == 3
    assert marker["notes"] == ["out of memory: batch size halved to 3"]


def test_who_joins_a_run_takes_its_plan_as_it_is_if_it_was_made_of_the_same(tmp_path, monkeypatch):
    config = toy_config(tmp_path)
    generate(config)
    plan = (config.run / "plan.parquet").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("planned again")

    monkeypatch.setattr("augcond.pipeline.make_plan", refuse)
    assert generate(config).shards == 0
    assert (config.run / "plan.parquet").read_bytes() == plan
    with pytest.raises(AssertionError, match="planned again"):
        generate(toy_config(tmp_path, plan={"per_class": 6}))
    (config.data.path / "cat" / "0.png").write_bytes(png(1))
    with pytest.raises(AssertionError, match="planned again"):
        generate(config)
