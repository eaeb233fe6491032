"""The command that searches: `tune`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from augcond.cli.arguments import AsJson, ConfigFile, Set, load_run_config
from augcond.cli.output import logged, print_json, say, show_progress
from augcond.files import naming

if TYPE_CHECKING:
    from augcond.evaluation.tuning import Tuning
    from augcond.store import RunFolder


def tune(
    config_file: ConfigFile,
    budget: Annotated[str, typer.Option(help="Images to make in all, such as 2000; or hours of the generator: 2h.")],
    candidates: Annotated[int, typer.Option(min=1, help="Candidates that are tried at once, at most.")] = 24,
    folds: Annotated[int, typer.Option(min=2, help="Folds of each cross-validation, as images allow.")] = 5,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what the budget buys, how long it takes and what it can decide.")
    ] = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Find out which recipe, guidance and amount suit these photos, from the real training images alone.

    Some 24 candidates are judged on real training images that no model saw; test images are never opened. It ends with
    RUN/tuned.yaml, a table (tuning.md, .csv), a figure (tuning.png) and a sentence, which may be that none helps. The
    same command resumes; started again beside itself, it shares the work. Needs pip install 'augcond[tune]'.

    Example: augcond tune photos.yaml --budget 2000
    """
    from augcond.experiments.tuning.schedule import Effort
    from augcond.experiments.tuning.survey import survey, survey_lines

    config = load_run_config(config_file, overrides)
    effort = Effort(candidates=candidates, folds=folds)
    if dry:
        found = survey(config, budget, effort)
        if as_json:
            print_json(asdict(found))
        else:
            typer.echo("\n".join(survey_lines(found)))
        return
    from augcond.experiments.tuning.tune import tune as tune_run
    from augcond.store import RunFolder

    with logged(config):
        outcome = tune_run(config, budget, effort=effort, progress=show_progress, say=say)
    if as_json:
        print_json(asdict(outcome))
    else:
        _print_outcome(outcome, RunFolder(config.run))


def _print_outcome(found: Tuning, folder: RunFolder) -> None:
    table = folder.tuning_path.with_suffix(".md")
    with naming(table):
        typer.echo(table.read_text(encoding="utf-8").rstrip() if found.rounds else found.sentence)
    typer.echo(f"{folder.tuned_path}")
