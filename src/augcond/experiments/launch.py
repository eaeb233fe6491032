"""What starts a run elsewhere: a Slurm array script, a SkyPilot task (printed, never submitted), processes that train.

Every worker of a run does the same: it is started with the same command, takes what is pending, and may be stopped at
any time. So a script asks for machines, passes signals on, and has itself queued again.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from augcond.config.loading import paths_in
from augcond.datasets.decoding import available_cores
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from augcond.config import RunConfig

INTERRUPTED = 75
"""The exit code of a worker that was stopped, and left the rest to others."""

_OPTION = re.compile(r"[\w.,:@=+/-]+")
"""What may stand in a line of `#SBATCH` as it is."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is started.

    Attributes:
        config: the run.
        config_path: of its config.
        overrides: of `--set`.
        workers: array tasks of one GPU each; of SkyPilot, machines.
    """

    config: RunConfig
    config_path: Path
    overrides: tuple[str, ...]
    workers: int

    @property
    def name(self) -> str:
        """A name of the job that every scheduler takes."""
        return "augcond-" + (re.sub(r"[^A-Za-z0-9]+", "-", self.config.run.name).strip("-").lower() or "run")

    def command(self, program: Sequence[str]) -> str:
        """Return the command of a worker, as a shell reads it."""
        # What is asked for is one machine of many, or a part of it, whatever the config says of a run on one.
        here = {
            "engine.name": ("local", self.config.engine.name),
            "engine.workers": ("auto", self.config.engine.workers),
        }
        own = [f"{key}={usual}" for key, (usual, given) in here.items() if given != usual]
        sets = [word for override in (*own, *self.overrides) for word in ("--set", override)]
        return shlex.join([*program, "generate", str(self.config_path.absolute()), *sets])


@dataclass(frozen=True, slots=True)
class Slurm:
    """What an array asks for; None leaves it to the cluster.

    Attributes:
        cores: of each worker.
        gpus: of each worker, as `--gres` names them; empty for none.
        time: limit of each worker.
        partition: where to run.
        account: whose budget.
        memory: of each worker.
        notice: seconds before the time limit at which workers are told to stop.
    """

    cores: int = 8
    gpus: str = "gpu:1"
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    memory: str | None = None
    notice: int = 120


def slurm_script(launch: Launch, slurm: Slurm) -> str:
    """Return an array script, one task per worker.

    Raises:
        ConfigError: an option holds what cannot stand in a line of `#SBATCH`.
    """
    options = {
        "job-name": launch.name,
        "array": f"0-{launch.workers - 1}",
        "ntasks": "1",
        "cpus-per-task": str(slurm.cores),
        "gres": slurm.gpus or None,
        "mem": slurm.memory,
        "time": slurm.time,
        "partition": slurm.partition,
        "account": slurm.account,
        "output": f"{launch.name}-%A_%a.log",
        "open-mode": "append",
        "signal": f"B:USR1@{slurm.notice}",
    }
    for name, value in options.items():
        if value is not None and "%" not in value and not _OPTION.fullmatch(value):
            raise ConfigError(f"--{name} {value!r}: only letters, digits and . , : @ = + / - _ can stand in the script")
    lines = "\n".join(f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None)
    command = launch.command([sys.executable, "-m", "augcond"])
    return _SLURM.format(lines=lines, command=command, interrupted=INTERRUPTED)


_SLURM = """\
#!/bin/bash
# Submit it with sbatch, on any machine that sees the run folder, the photos and this Python; submit it again, larger or
# smaller, at any time: workers share what is left. Logs are written to the folder from which it is submitted.
{lines}
#SBATCH --requeue

set -u
worker='' told=''

# Before the time limit Slurm signals this script; at preemption it signals the worker too. Either way the worker drops
# what it has in hand, gives it back and ends. srun passes USR1 on as it is.
tell() {{
    told=yes
    if [ -n "$worker" ]; then kill -USR1 "$worker" 2>/dev/null; fi
}}
trap tell USR1 TERM

srun --ntasks=1 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" {command} &
worker=$!
if [ -n "$told" ]; then tell; fi

again=yes
while [ -n "$again" ]; do  # a signal ends `wait` before the worker ends
    told=''
    wait "$worker"
    code=$?
    again=$told
done

# {interrupted}: the worker was stopped, 128 + a signal's number: before it could handle it. Slurm itself queues nothing
# again for an exit code.
case $code in
{interrupted} | $((128 + $(kill -l USR1))) | $((128 + $(kill -l TERM))))
    job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
    echo "stopped with exit code $code: back into the queue as $job"
    scontrol requeue "$job" || echo "not queued again: submit this script once more to go on" >&2
    ;;
esac
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Sky:
    """What a SkyPilot task asks for.

    Attributes:
        storage: where the run folder lies: a bucket such as s3://mine/runs, or the name of a SkyPilot volume.
        accelerators: of each machine, such as A100:8.
        spot: take machines that may be taken away.
        setup: shell command that installs augcond.
    """

    storage: str
    accelerators: str = "A100:1"
    spot: bool = True
    setup: str = "pip install augcond"


def sky_task(launch: Launch, sky: Sky) -> str:
    """Return a SkyPilot task; config, photos and weights lie on its machines where they lie here.

    Raises:
        ConfigError: the config is a run folder, several machines are to share a bucket, or what the config names is
            not on this machine.
    """
    bucket = "://" in sky.storage
    if bucket and launch.workers > 1:
        raise ConfigError(
            f"--workers {launch.workers}: machines cannot share a run folder in a bucket, which lets two create one "
            "file at once: give --storage the name of a SkyPilot volume, or take one machine with more --accelerators"
        )
    if launch.config_path.is_dir():
        raise ConfigError(f"{launch.config_path} is a run: name the config that it is made with, which is uploaded")
    run = str(launch.config.run.absolute())
    mounts: dict[str, Any] = {str(path): str(path) for path in _needed(launch)}
    task: dict[str, Any] = {
        "name": launch.name,
        "num_nodes": launch.workers,
        "resources": {
            "accelerators": sky.accelerators,
            "use_spot": sky.spot,
            "job_recovery": {"max_restarts_on_errors": 3, "recover_on_exit_codes": [INTERRUPTED]},
        },
        "file_mounts": mounts | ({run: {"source": sky.storage, "mode": "MOUNT"}} if bucket else {}),
        **({} if bucket else {"volumes": {run: sky.storage}}),
        "setup": sky.setup,
        "run": f"exec {launch.command(['augcond'])}",
    }
    return _SKY + yaml.safe_dump(task, sort_keys=False, allow_unicode=True, width=2**16)


_SKY = """\
# Start it with `sky jobs launch FILE`: a machine that is taken away is replaced, and goes on where it was.
# What lies at the paths below is uploaded, and is there under the same path.
"""


def _needed(launch: Launch) -> Iterator[Path]:
    """Yield the files and folders that the config and its run need, but the run folder itself.

    Raises:
        ConfigError: one is not there.
    """
    run = launch.config.run.absolute()
    found = [launch.config_path.absolute()]
    found += [path.absolute() for name, path in paths_in(launch.config) if name != "run"]
    for path in dict.fromkeys(found):
        if not path.exists():
            raise ConfigError(f"{path}: the config names it, and it is not there to be uploaded")
        if not path.is_relative_to(run):
            yield path


@dataclass(frozen=True, slots=True)
class Together:
    """A call of `augcond train` that several processes make together.

    Attributes:
        run: as it was given.
        overrides: of `--set`.
        overwrite: see `augcond.pipeline.train`.
        as_json: whether the first prints JSON.
    """

    run: Path
    overrides: tuple[str, ...] = ()
    overwrite: bool = False
    as_json: bool = False

    @property
    def words(self) -> list[str]:
        """The command and its arguments."""
        sets = [word for override in self.overrides for word in ("--set", override)]
        flags = [f"--{name}" for name, given in (("overwrite", self.overwrite), ("json", self.as_json)) if given]
        return ["train", str(self.run), *sets, *flags]


def idle_gpus(config: RunConfig, call: Together) -> str | None:
    """Return what to say where a training in this process leaves GPUs idle: the command that uses them all."""
    import torch

    launched = any(name in os.environ for name in ("WORLD_SIZE", "LOCAL_RANK"))
    if launched or config.training.device == "cpu" or not torch.cuda.is_available():
        return None
    count = torch.cuda.device_count()
    # Each takes an equal share of every batch.
    processes = next(number for number in range(count, 0, -1) if config.training.batch_size % number == 0)
    if processes == 1:
        return None
    command = shlex.join(["augcond", *call.words, "--processes", str(processes)])
    return f"training on one of {count} GPUs; on {processes} of them: {command}"


def train_together(config: RunConfig, call: Together, processes: int) -> int:
    """Make a call of `augcond train` in so many processes, one per GPU, or all on the CPU, and return its exit code.

    Raises:
        ConfigError: there are too few GPUs, or the batch cannot be shared out.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() and config.training.device != "cpu" else 0
    if gpus and processes > gpus:
        raise ConfigError(f"--processes {processes}: there are {gpus} GPUs")
    if config.training.batch_size % processes:
        raise ConfigError(
            f"--processes {processes}: training.batch_size ({config.training.batch_size}) must be a multiple of it"
        )
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    if not gpus:
        environment["ACCELERATE_USE_CPU"] = "true"
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "augcond"]
    started = subprocess.Popen([sys.executable, "-m", *launcher, *call.words], env=environment)  # noqa: S603
    try:
        return started.wait()
    finally:
        if started.poll() is None:  # a signal ends this process, and has to end those
            started.terminate()
            started.wait()
