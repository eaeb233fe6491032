"""Commands around machines: `doctor`, `launch`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from augcond.cli.arguments import AsJson, ConfigFile, Set, load_run_config, local
from augcond.cli.output import console, print_json, visible


def doctor(
    config_file: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="A config or a run folder; the built-in world if left out."),
    ] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Try what this machine, its GPUs and the run folder's file system can do, with the configured generator.

    Nothing is fetched or left behind. A failure that matters ends with exit code 1.

    Example: augcond doctor photos.yaml --json > machine.json
    """
    from augcond.config import parse_config
    from augcond.experiments.doctor import examine

    if config_file is None:
        config = parse_config({"data": {"source": "builtin"}, "run": Path.cwd() / "run"}, tuple(overrides or ()))
    else:
        config = load_run_config(config_file, overrides)
    out = console(stderr=as_json)
    findings = []
    for finding in examine(config):
        findings.append(finding)
        mark = finding.status if finding.matters or finding.status != "failed" else "failed, and does not matter"
        out.print(f"{finding.check:<22} {mark}: {visible(finding.detail)}", soft_wrap=True)
        if finding.advice:
            out.print(f"{'':<22} {visible(finding.advice)}", soft_wrap=True)
    sound = not any(finding.stops for finding in findings)
    if as_json:
        print_json({"sound": sound, "checks": [asdict(finding) for finding in findings]})
    if not sound:
        raise typer.Exit(1)


def launch(
    config_file: ConfigFile,
    overrides: Set = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Print a Slurm array script, one task per GPU.")] = False,
    sky: Annotated[bool, typer.Option("--sky", help="Print a SkyPilot task.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Array tasks of one GPU each (8); with --sky machines (1).")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Slurm: time limit of each task, such as 24:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(help="Slurm: where to run.")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm: whose budget.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Slurm: cores of each task.")] = 8,
    memory: Annotated[str | None, typer.Option(help="Slurm: memory of each task, such as 32G.")] = None,
    gpus: Annotated[str, typer.Option(help="Slurm: --gres of each task; empty for none.")] = "gpu:1",
    storage: Annotated[
        str | None, typer.Option(help="SkyPilot: where the run lies: a bucket (s3://mine/run), or a volume's name.")
    ] = None,
    accelerators: Annotated[str, typer.Option(help="SkyPilot: GPUs of each machine.")] = "A100:1",
) -> None:
    """Print what starts a run on a cluster: a Slurm array script, or a SkyPilot task. Nothing is submitted.

    Workers that are stopped are queued again and share what is left (docs/clusters.md).

    Example: augcond launch photos.yaml --slurm --workers 16 --time 24:00:00 > photos.sbatch && sbatch photos.sbatch
    """
    from augcond.errors import ConfigError
    from augcond.experiments.launch import Launch, Sky, Slurm, sky_task, slurm_script

    if slurm == sky:
        raise ConfigError("launch: say for which scheduler: --slurm or --sky")
    config = load_run_config(config_file, overrides)
    given = Launch(config, local(config_file, "CONFIG"), tuple(overrides or ()), workers or (8 if slurm else 1))
    if slurm:
        asked = Slurm(cores, gpus, time, partition, account, memory)
        typer.echo(slurm_script(given, asked), nl=False)
    elif storage is None:
        raise ConfigError(
            "--sky needs --storage, as what lies on its machines goes with them: s3://mine/run, or a volume"
        )
    else:
        typer.echo(sky_task(given, Sky(storage, accelerators)), nl=False)
