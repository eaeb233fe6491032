"""What `augcond launch` prints is complete: the script runs under a Slurm that is played, the task is SkyPilot's."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import yaml
from typer.testing import CliRunner

from augcond.cli import app
from augcond.errors import ConfigError
from tests.toy import write_photos

SRUN = """#!/bin/bash
# As srun: the options, then the task, which gets USR1.
while [[ $1 == --* ]]; do echo "srun $1" >> "$CALLS"; shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$CALLS"
"""


@pytest.fixture
def config_file(tmp_path):
    folder = tmp_path / "my 'own' files"
    write_photos(folder / "the photos", {"cat": 3, "dog": 3})
    config = {
        "data": {"path": "the photos"},
        "run": "runs/first run",
        "plan": {"per_class": 8},
        "conditioning": {"recipe": "image"},
        "generator": {"name": "fake", "model": "delay=0.5"},
        "engine": {"shard_size": 4, "batch_size": 4},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return folder / "c.yaml"


def launch(*words):
    return CliRunner().invoke(app, ["launch", *map(str, words)], catch_exceptions=False).stdout


def options(script):
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return dict(line.removeprefix("--").partition("=")[::2] for line in lines)


def test_the_array_script_runs_and_goes_back_into_the_queue_when_it_is_told_to_stop(config_file, tmp_path):
    words = ("--workers", 3, "--time", "1:00:00", "--partition", "gpu", "--memory", "32G", "--cores", 4)
    script = launch(config_file, "--slurm", *words, "--set", 'prompt=an {class_name}\'s "$HOME"')
    asked = options(script)
    assert asked["array"] == "0-2" and asked["requeue"] == "" and asked["signal"].startswith("B:USR1@")
    assert (asked["time"], asked["partition"], asked["mem"], asked["gres"]) == ("1:00:00", "gpu", "32G", "gpu:1")
    assert asked["output"] == "augcond-first-run-%A_%a.log" and asked["open-mode"] == "append"
    assert asked["ntasks"] == "1" and asked["cpus-per-task"] == "4"
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("job", script)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    subprocess.run(["bash", "-n", tmp_path / "bin" / "job"], check=True)
    calls = tmp_path / "calls"
    slurm = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "73", "SLURM_CPUS_PER_TASK": "4"}
    environment = os.environ | slurm | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}

    def start():
        return subprocess.Popen([tmp_path / "bin" / "job"], env=environment, stdout=subprocess.PIPE, text=True)

    shards = config_file.parent / "runs" / "first run" / "shards"
    job = start()
    deadline = time.monotonic() + 120
    while not list(shards.glob("*.done.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    told, _ = job.communicate(timeout=60)
    assert job.returncode == 75, told
    assert not list((shards.parent / "locks").iterdir())
    assert "back into the queue as 70_2" in told
    assert calls.read_text().splitlines() == ["srun --ntasks=1", "srun --cpus-per-task=4", "scontrol requeue 70_2"]
    done = len(list(shards.glob("*.done.json")))
    assert 1 <= done < 4
    job = start()
    told, _ = job.communicate(timeout=120)
    assert (job.returncode, len(list(shards.glob("*.done.json")))) == (0, 4), told
    assert calls.read_text().count("scontrol") == 1


def test_a_failure_is_not_queued_again(config_file, tmp_path):
    script = launch(config_file, "--slurm", "--gpus", "")
    assert "gres" not in options(script)
    command = next(line for line in script.splitlines() if line.startswith("srun "))
    assert shlex.split(command)[3:] == [sys.executable, "-m", "augcond", "generate", str(config_file), "&"]
    played = f"srun() {{ return 1; }}; scontrol() {{ echo no; }}; SLURM_JOB_ID=5; {script}"
    done = subprocess.run(["bash", "-c", played], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_the_skypilot_task_has_what_its_schema_asks(config_file):
    run = config_file.parent / "runs" / "first run"
    task = yaml.safe_load(launch(config_file, "--sky", "--storage", "s3://mine/run", "--accelerators", "H100:8"))
    # The keys and types of SkyPilot's task (docs.skypilot.co, reference/yaml-spec), which it refuses others beside.
    assert set(task) == {"name", "num_nodes", "resources", "file_mounts", "setup", "run"}
    assert task["resources"] == {
        "accelerators": "H100:8",
        "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": 3, "recover_on_exit_codes": [75]},
    }
    assert task["file_mounts"] == {
        str(config_file): str(config_file),
        str(config_file.parent / "the photos"): str(config_file.parent / "the photos"),
        str(run): {"source": "s3://mine/run", "mode": "MOUNT"},
    }
    assert shlex.split(task["run"]) == ["exec", "augcond", "generate", str(config_file)]
    shared = yaml.safe_load(launch(config_file, "--sky", "--storage", "volume", "--workers", "4"))
    assert (shared["num_nodes"], shared["volumes"]) == (4, {str(run): "volume"})
    assert str(run) not in shared["file_mounts"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--slurm or --sky"),
        (("--sky",), "needs --storage"),
        (("--sky", "--storage", "s3://mine/run", "--workers", "2"), "cannot share a run folder in a bucket"),
        (("--sky", "--storage", "v", "--set", "data.test=nowhere"), "nowhere: the config names it"),
        (("--slurm", "--partition", "gpu\n#SBATCH --uid=0"), "--partition"),
        (("--slurm", "--time", "1 day"), "--time"),
    ],
)
def test_what_cannot_be_launched_is_refused(config_file, words, complaint):
    with pytest.raises(ConfigError, match=complaint):
        launch(config_file, *words)
