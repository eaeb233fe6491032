"""Whatever befalls commands, at any call that changes files: one line says what was wrong, and the same one goes on.

In the end everything is, byte for byte, as if nothing had happened.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.faults.commands import HURRIED, Circumstances
from tests.faults.project import BEFALLS, DEAR, STAGES, project
from tests.toy import shard_bytes, write_photos

OTHERS = [what for what in BEFALLS if what != "SIGKILL"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The project, each stage of which was done once, with 40 open files at most."""
    with project(tmp_path_factory.mktemp("small"), *STAGES) as made:
        yield made


MANY = pytest.param(20, 40, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


@pytest.mark.parametrize(("kills", "others"), [(5, 3), MANY])
@pytest.mark.parametrize("stage", STAGES)
def test_what_befalls_a_command_again_and_again_leaves_no_trace(small, stage, kills, others):
    rng = random.Random(f"{stage} {kills}")
    if stage in DEAR and kills == 5:
        kills, others = 2, 1
    small.reset(stage)
    # Of what takes long a part is done before each, and the rest after the last.
    most = small.calls[stage] // (6 if stage in DEAR else 1)
    left = [*["SIGKILL"] * kills, *rng.choices(OTHERS, k=others)]
    rng.shuffle(left)
    while left:
        code = small.befall(stage, left[-1], rng.randint(1, most))
        if code == 0:  # it was at its end: once more from the start
            small.reset(stage)
        if code or left[-1] != "SIGKILL":
            left.pop()
    small.check_goes_on(stage)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("what", BEFALLS)
@pytest.mark.parametrize("stage", STAGES)
def test_at_every_call(small, stage, what):
    """At every one; of what takes long, at twenty of them."""
    calls = small.calls[stage]
    for nth in range(1, calls + 1, calls // 20 if stage in DEAR else 1):
        small.reset(stage)
        code = small.befall(stage, what, nth)
        small.check_goes_on(stage, done=code == 0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_signals_at_random_moments_lose_nothing(small):
    """Between calls that change files, too; see tests/cli/test_program.py for imports."""
    rng = random.Random(7)
    for stage in rng.choices(list(STAGES), k=140):
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        small.reset(stage)
        command = small.host.start(small.folder, *STAGES[stage])
        small.host.listen(rng.uniform(0.05, 2.0))
        command.send(number)
        small.host.wait(command)
        # In its first moments, before anything was begun, it ends as any program does.
        assert command.code in (0, 75, -number), command.said
        assert "Traceback" not in command.said
        small.check_goes_on(stage, done=command.code == 0)


@pytest.mark.parametrize("stage", ["generate", "train"])
def test_what_stands_still_for_long_and_wakes_up_harms_nothing(small, stage):
    """Its claims are taken over meanwhile (not that of a training on this very machine), and its shard is made."""
    small.reset(stage)
    # In the midst of shards; before, it may find its half-written plan gone, and say so.
    under = Circumstances(("s", small.calls[stage] * 3 // 4, signal.SIGSTOP), pace=HURRIED)
    stopped = small.host.start(small.folder, *STAGES[stage], under=under)
    end = time.monotonic() + 60
    while stopped.pid is None or ") T " not in Path(f"/proc/{stopped.pid}/stat").read_text():
        assert stopped.code is None and time.monotonic() < end, stopped.said
        small.host.listen(0.02)
    other = small.host.run(small.folder, *STAGES[stage], under=Circumstances(pace=HURRIED))
    assert other.code == 0 or "another process trains" in other.said, other.said
    stopped.send(signal.SIGCONT)
    small.host.wait(stopped)
    assert stopped.code == 0, stopped.said
    small.check_goes_on(stage)


@pytest.mark.parametrize("arguments", [("status", "run"), ("check", "run"), ("plan", "c.yaml"), ("inspect", "c.yaml")])
def test_who_only_reads_needs_no_disk_that_can_be_written(small, arguments):
    small.reset("export")
    done = small.host.run(small.folder, *arguments, under=Circumstances(("f", 1, errno.EROFS)))
    assert done.code == 0, done.said


SMALL_DISK = """
    set -e
    mount -t tmpfs -o size="$1"k none disk
    "$0" -m augcond generate c.yaml 2> said && code=0 || code=$?
    mount -o remount,size=64m none disk
    "$0" -m augcond generate c.yaml
    cp -r disk/run kept
    exit "$code"
"""


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 16, 36, 52, 64])
def test_on_a_disk_of_little_room(tmp_path, kilobytes):
    """A real one, where the system lets a test mount it."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("the system lets nobody mount a file system here")
    write_photos(tmp_path / "photos", {"cat": 3, "dog": 4})
    (tmp_path / "disk").mkdir()
    values = {
        "data": {"path": "photos"},
        "run": "disk/run",
        "plan": {"per_class": 10},
        "conditioning": {"recipe": "mixup"},
        "generator": {"name": "fake"},
        "engine": {"shard_size": 4, "batch_size": 4, "threads": 1},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    command = [unshare, "-rm", "sh", "-c", SMALL_DISK, sys.executable, str(kilobytes)]
    done = subprocess.run(command, cwd=tmp_path, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    said = (tmp_path / "said").read_text()
    assert done.returncode == 1, said
    assert re.search(r"error: .*No space left on device", said) and "disk/run" in said, said
    assert "Traceback" not in said
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values | {"run": "whole"}))
    subprocess.run([sys.executable, "-m", "augcond", "generate", "c.yaml"], cwd=tmp_path, check=True)
    assert shard_bytes(tmp_path / "kept") == shard_bytes(tmp_path / "whole")
    assert list((tmp_path / "kept").rglob("*.tmp")) == []
