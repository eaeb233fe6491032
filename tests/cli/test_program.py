"""How the program ends: signals at any moment, errors of the system, and the exit codes that scripts go by."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import augcond.__main__ as program
from augcond.errors import ConfigError, RunError
from augcond.store import RunFolder, audit_run, run_status
from tests.toy import write_photos

GO_ON = "what was committed is safe, run the same command again to go on"
MEND = "what was committed is safe: mend the cause, and run the same command again to go on"


def end_of(monkeypatch, raised: BaseException | None) -> int:
    """Return the exit code where a command raises something."""

    def command() -> None:
        if raised is not None:
            raise raised
        raise SystemExit(0)

    monkeypatch.setattr("augcond.cli.app", command)
    with pytest.raises(SystemExit) as caught:
        program.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (None, 0, ""),
        (RunError("no run"), 1, "error: no run\n"),
        (ConfigError("no such key"), 2, "error: no such key\n"),
        (OSError(28, "No space left", "run/x"), 1, f"error: [Errno 28] No space left: 'run/x'; {MEND}\n"),
        (OSError(5, "Input/output error", "run/x"), 1, f"error: [Errno 5] Input/output error: 'run/x'; {MEND}\n"),
        (MemoryError(), 1, "error: out of memory (the machine has no more): lower engine.batch_size"),
        (RuntimeError("CUDA out of memory. Tried to"), 1, "error: out of memory (CUDA out of memory."),
        (RuntimeError("can't start new thread"), 1, "error: out of memory (can't start new thread): lower"),
        (OSError(12, "Cannot allocate memory"), 1, "error: out of memory ([Errno 12] Cannot allocate memory): lower"),
        (ImportError("x.so: cannot map: Cannot allocate memory"), 1, "error: out of memory (x.so: cannot map: "),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
    ],
)  # fmt: skip
def test_every_end_has_its_code_and_its_line(monkeypatch, capsys, raised, code, line):
    assert end_of(monkeypatch, raised) == code
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == (line != "")


def test_what_is_no_error_of_the_system_is_not_hidden(monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"):
        end_of(monkeypatch, RuntimeError("a bug"))


def test_a_signal_is_the_reason_whatever_a_library_makes_of_it(monkeypatch, capsys):
    def swallowing() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as stopped:
            raise ImportError("partially initialised module") from stopped

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("augcond.cli.app", swallowing)
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 75
    assert capsys.readouterr().err == f"stopped by SIGTERM; {GO_ON}\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("augcond.cli.app", lambda: signal.raise_signal(signal.SIGHUP))
        with pytest.raises(SystemExit) as caught:
            program.main()
        assert not caught.value.code
    finally:
        signal.signal(signal.SIGHUP, before)


def stop(project: Path, seconds: float, number: signal.Signals, *, importing: bool = False) -> str:
    """Start `generate`, stop it after so many seconds, and return what it said; its exit code has been checked."""
    command = [sys.executable, "-m", "augcond", "generate", "c.yaml"]
    before = sorted(project.rglob("*"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, env=environment)
    maps = Path(f"/proc/{process.pid}/maps")
    if importing and maps.exists():
        # On a busy machine Python itself may take as long to start.
        while "libtorch" not in maps.read_text():
            time.sleep(0.01)
    else:
        time.sleep(seconds)
    process.send_signal(number)
    _, said = process.communicate(timeout=100)
    if process.returncode == -number or (seconds < 0.5 and process.returncode == 1):
        # Python itself was still starting, and none of ours had run; or it was ending, and all was done.
        assert sorted(project.rglob("*")) == before or run_status(RunFolder(project / "run")).left == 0
        return said
    assert process.returncode in (0, 75), said
    assert "Traceback" not in said
    assert (f"stopped by {number.name}; {GO_ON}" in said) == (process.returncode == 75)
    return said


@pytest.fixture
def project(tmp_path):
    write_photos(tmp_path / "photos", {"cat": 3, "dog": 4})
    config = {
        "data": {"path": "photos"},
        "run": "run",
        "plan": {"per_class": 400},
        "conditioning": {"recipe": "embed-mixup"},
        "generator": {"name": "fake"},
        "engine": {"shard_size": 20, "batch_size": 4},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_ctrl_c_while_modules_are_imported_is_one_line(project):
    assert "stopped by SIGINT" in stop(project, 0.6, signal.SIGINT, importing=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_signals_at_random_moments_lose_nothing(project):
    rng = random.Random(0)
    for _ in range(60):
        stop(project, rng.uniform(0, 8), rng.choice([signal.SIGINT, signal.SIGTERM]))
        assert list((project / "run").rglob("*.tmp")) == []
    done = subprocess.run([sys.executable, "-m", "augcond", "generate", "c.yaml"], cwd=project, check=False)
    assert done.returncode == 0
    assert audit_run(RunFolder(project / "run")).problems == ()
