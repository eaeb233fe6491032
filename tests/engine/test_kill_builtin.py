"""The kill test with the real, built-in checkpoint: minutes, so not in the normal suite."""

from __future__ import annotations

import pytest

from augcond.config import RunConfig, parse_config
from augcond.store import RunFolder, audit_run
from tests.engine.killing import KILLED, generate_alone, generate_and_kill
from tests.toy import shard_bytes

pytestmark = pytest.mark.slow


def config_in(run) -> RunConfig:
    """20 rows in two shards and six batches, over several recipes."""
    return parse_config(
        {
            "data": {"source": "builtin"},
            "run": run,
            "plan": {"per_class": 1},
            "conditioning": {"recipe": ["text", "embed-cutmix-dropout"]},
            "generator": {"steps": 4},
            "engine": {"shard_size": 10, "batch_size": 4, "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    config = config_in(tmp_path_factory.mktemp("whole") / "run")
    assert generate_alone(config) == 0
    return shard_bytes(config.run)


@pytest.mark.parametrize(
    ("point", "nth"), [*(("batch", n) for n in range(1, 7)), ("write", 2), ("fsync", 6), ("rename", 5), ("link", 8)]
)
def test_resumed_shards_are_those_of_an_uninterrupted_run(tmp_path, uninterrupted, point, nth):
    config = config_in(tmp_path / "run")
    assert generate_and_kill(config, point, nth, after=True) == KILLED
    assert generate_alone(config) == 0
    assert shard_bytes(config.run) == uninterrupted
    assert audit_run(RunFolder(config.run)).problems == ()
    assert not list(config.run.rglob("*.tmp"))
