"""Commands given while workers are at it, as a user would: nothing is lost, and what cannot be is said."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from augcond.config import kept_text
from augcond.pipeline import generate
from augcond.store import RunFolder, audit_run, run_status
from tests.engine.lethal import FLAKY
from tests.tampering import flip_bit
from tests.toy import shard_bytes, toy_config

ENGINE = {"shard_size": 8, "batch_size": 4, "threads": 1}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "augcond", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, said = process.communicate(timeout=240)
    return process.returncode, out + said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_repairing_training_retrying_and_growing_beside_workers(tmp_path, monkeypatch):
    switch = tmp_path / "flaky"
    monkeypatch.setenv(FLAKY, str(switch))
    generator = {"name": "tests.engine.lethal:flaky"}

    def config_of(run, per_class, workers=1):
        engine = {**ENGINE, "workers": workers, "max_failed_share": 1.0}
        plan = {"per_class": per_class}
        return toy_config(tmp_path, run=tmp_path / run, plan=plan, engine=engine, generator=generator)

    generate(config_of("one", 30))
    generate(config_of("one", 40))
    files = {}
    for name, config in (("small", config_of("many", 30, 2)), ("large", config_of("many", 40))):
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(kept_text(config))
    folder = RunFolder(tmp_path / "many")

    switch.touch()
    workers = start("generate", files["small"])
    while not (folder.plan_path.exists() and (status := run_status(folder)).shards_done >= 4 and status.failed):
        assert workers.poll() is None, workers.communicate()
        time.sleep(0.05)

    # Not yet: the run is not there.
    code, said = ended(start("train", files["small"], "--set", "data.test=null"))
    assert (code, workers.poll()) == (1, None), said
    assert "are not generated yet" in said

    flip_bit(next(folder.shards.glob("*.parquet")))
    code, said = ended(start("check", folder.path, "--repair"))
    assert (code, workers.poll()) == (1, None), said
    assert "shard" in said

    switch.unlink()
    others = [start("generate", files["small"], "--retry-failed"), start("generate", files["large"])]
    for process in (workers, *others):
        code, said = ended(process)
        # Who comes with the smaller config when the plan has grown is refused.
        assert code == 0 or "a run can grow, not shrink" in said, said

    code, said = ended(start("generate", files["large"], "--retry-failed"))
    assert code == 0, said
    audit = audit_run(folder)
    assert (audit.problems, audit.shards_left, audit.ok, audit.failed) == ((), 0, 8 * 40, 0)
    assert shard_bytes(folder.path) == shard_bytes(tmp_path / "one")
    assert not list(folder.locks.iterdir())
    assert not list(folder.path.rglob("*.tmp"))
