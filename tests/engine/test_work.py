"""What is sent to where shards are made, and that it makes the same shards there."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from augcond import engine, registry
from augcond.config import EngineConfig, GeneratorConfig
from augcond.engine import Work, do_work, load_engine
from augcond.engine.local import LocalEngine
from augcond.errors import RunError, RunMismatchError
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run
from tests.engine.killing import in_a_process
from tests.toy import shard_bytes, toy_config


def made_elsewhere(sent: bytes) -> None:
    work = pickle.loads(sent)  # noqa: S301 - of this test
    do_work(work, lambda number, marker: None)


def unmade(config, numbers) -> RunFolder:
    """Make a run and delete some of its shards again."""
    generate(config)
    folder = RunFolder(config.run)
    for number in numbers:
        folder.shard_path(number).unlink()
        folder.marker_path(number).unlink()
    return folder


def test_work_that_was_sent_makes_the_very_same_shards(tmp_path):
    config = toy_config(tmp_path)
    generate(config)
    before = shard_bytes(config.run)
    folder = unmade(config, (0, 2))
    work = Work(config.run, config, (0, 2))
    assert in_a_process(made_elsewhere, pickle.dumps(work)) == 0
    assert shard_bytes(config.run) == before
    assert (audit_run(folder).problems, audit_run(folder).shards_left) == ((), 0)


def test_work_that_was_sent_takes_rows_of_other_runs(tmp_path):
    first = toy_config(tmp_path)
    generate(first)
    second = toy_config(tmp_path, run=tmp_path / "second")
    folder = unmade(second, (1,))
    assert in_a_process(made_elsewhere, pickle.dumps(Work(second.run, second, (1,), (first.run,)))) == 0
    marker = folder.markers(folder.read_plan())[1]
    assert marker.notes == ("16 rows reused",)


def test_another_generator_than_the_planned_one_is_refused(tmp_path):
    config = toy_config(tmp_path)
    folder = unmade(config, (1,))
    other = config.model_copy(update={"generator": GeneratorConfig()})
    with pytest.raises(RunMismatchError, match=r"planned with the generator fake:fake, and stable-unclip"):
        do_work(Work(config.run, other, (1,)), lambda number, marker: None)
    assert not folder.shard_path(1).exists()


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_threads_is_as_before_when_the_work_ends(tmp_path, fails):
    before = torch.get_num_threads()
    model = "fail_every=1" if fails else "fake"
    config = toy_config(tmp_path, generator={"model": model}, engine={"threads": before + 1})
    try:
        if fails:
            with pytest.raises(RunError, match="rows of shard 00000 failed"):
                generate(config)
        else:
            generate(config)
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)
    folder = RunFolder(config.run)
    assert folder.markers(folder.read_plan())[0].threads == before + 1


def test_every_engine_that_a_config_can_name_is_there():
    assert all(isinstance(load_engine(name), engine.Engine) for name in registry.engines.names())
    with pytest.raises(ValueError, match=r"no engine 'locl'; did you mean 'local'\?"):
        EngineConfig(name="locl")


class Backwards(LocalEngine):
    """Makes the last shard first, one piece of work per shard."""

    order: list[int]

    def schedule(self, job, work, on_shard):
        Backwards.order = []
        for number in reversed(range(len(job.plan.fingerprints))):
            Backwards.order.append(number)
            super().schedule(job, replace(work, shards=(number,)), on_shard)


def test_the_engine_is_the_one_that_the_config_names(tmp_path):
    plain = toy_config(tmp_path)
    generate(plain)
    own = {"name": "tests.engine.test_work:Backwards"}
    config = toy_config(tmp_path, run=tmp_path / "backwards", engine=own)
    assert generate(config).ok == 40
    assert Backwards.order == [2, 1, 0]
    assert shard_bytes(config.run) == shard_bytes(plain.run)
