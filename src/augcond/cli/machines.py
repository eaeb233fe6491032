"""Commands around machines: `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from augcond.cli.arguments import AsJson, Set, load_run_config
from augcond.cli.output import console, print_json, visible


def doctor(
    config_file: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A config or a run folder; the built-in world if left out.")
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
