"""Commands that measure: `demo`, `train`, `evaluate`, `run`, `sweep`, `power`, `report`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augcond.cli.arguments import (
    AsJson,
    ConfigFile,
    Reuse,
    RunPath,
    Set,
    held_out_of,
    load_run_config,
    local,
    run_folder,
)
from augcond.cli.output import console, logged, print_json, say, show_progress
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.config import RunConfig
    from augcond.evaluation import Results
    from augcond.experiments.axes import Axis
    from augcond.experiments.forecast import Forecast
    from augcond.store import RunFolder


def demo(
    to: Annotated[Path, typer.Argument(help="Where the demo's run and pictures go.")] = Path("demo"),
) -> None:
    """Show every stage on the built-in world: a table, a report and pictures in about three minutes on two CPU cores.

    Real images of a long tail, alone and filled up by two recipes, two training seeds each. The same command resumes.

    Example: augcond demo
    """
    from augcond.cli.tables import print_audit, print_results, print_summary
    from augcond.engine import Summary
    from augcond.experiments.demo import demo_config, run_demo
    from augcond.store import Audit

    to = local(to, "TO")
    config = demo_config(to)

    def show(result: Summary | Audit | Results) -> None:
        if isinstance(result, Summary):
            print_summary(result, config.run, console())
        elif isinstance(result, Audit):
            print_audit(result, console())
        else:
            print_results(result, console())

    run_demo(to, config, say=typer.echo, show=show, progress=show_progress)


def train(
    run: RunPath,
    overrides: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Train models anew that were trained with other settings.")] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Train each model on so many GPUs together; each takes a share of the batch."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train classifiers: real images only, and real with the synthetic ones of each recipe; resumes by itself.

    Refuses synthetic images whose sources are no training images of the split, and training images that are test or
    validation images too. On several GPUs: --processes; on several machines: torchrun ... -m augcond train RUN

    Example: augcond train runs/my-photos --set training.seeds=5
    """
    from augcond.cli.tables import print_models
    from augcond.experiments.launch import Together, idle_gpus, train_together
    from augcond.pipeline import train as train_run

    config = load_run_config(run, overrides)
    together = Together(run, tuple(overrides or ()), overwrite=overwrite, as_json=as_json)
    if processes is not None and processes > 1:
        raise typer.Exit(train_together(config, together, processes))
    hint = None if processes else idle_gpus(config, together)
    if hint is not None:
        say(hint)
    first = os.environ.get("RANK", "0") == "0"  # of several processes that train together one is heard
    with logged(config), show_progress("training steps") as progress:
        cards = train_run(config, overwrite=overwrite, progress=progress if first else None)
    if not first:
        return
    if as_json:
        print_json([asdict(card) for card in cards])
    else:
        print_models(cards, config.run, console())


def evaluate(
    run: RunPath,
    on: Annotated[str, typer.Option(help="test, or validation to choose on.")] = "test",
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Judge every trained classifier on the test set, each image once, and write RUN/results.json.

    With --on validation the results go to RUN/validation.json: choose recipes and settings by those.

    Example: augcond evaluate runs/my-photos
    """
    from augcond.cli.tables import print_results
    from augcond.pipeline import evaluate as evaluate_run

    judged_on = held_out_of(on)
    config = load_run_config(run, overrides)
    with logged(config), show_progress("models judged") as progress:
        results = evaluate_run(config, on=judged_on, progress=progress)
    if as_json:
        from augcond.evaluation.results import as_written

        print_json(as_written(results))
    else:
        print_results(results, console())


def run(
    config_file: ConfigFile,
    overrides: Set = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what the run makes and takes, and what is missing.")
    ] = False,
    reuse: Reuse = None,
    as_json: AsJson = False,
) -> None:
    """Generate, train, evaluate and report, and print the table; the same command resumes after any interruption.

    With --dry nothing is made, decoded or fetched: counts, GPU hours by published rates, disk, and what is missing. Its
    exit code is 1 where something stops the run.

    Example: augcond run photos.yaml --dry
    """
    if dry:
        _print_forecast(load_run_config(config_file, overrides), as_json)
        return
    from augcond.cli.tables import print_results
    from augcond.pipeline import run as run_stages
    from augcond.store import RunFolder

    config = load_run_config(config_file, overrides)
    with logged(config):
        results = run_stages(config, reuse=tuple(reuse or ()), progress=show_progress, on_stage=say)
    if as_json:
        from augcond.evaluation.results import as_written

        print_json(as_written(results))
    else:
        print_results(results, console())
    # A run of real images alone has no page.
    page = RunFolder(config.run).page_path
    if page.exists():
        typer.echo(f"{page}", err=as_json)


def _print_forecast(config: RunConfig, as_json: bool) -> None:
    from augcond.cli.tables import print_forecast
    from augcond.experiments.forecast import forecast

    found = forecast(config)
    if as_json:
        print_json(_plain_forecast(found))
    else:
        print_forecast(found, console())
    if any(entry.error for entry in found.missing):
        raise typer.Exit(1)


def _plain_forecast(found: Forecast) -> dict[str, Any]:
    missing = [{"what": entry.what, "detail": entry.detail, "fatal": bool(entry.error)} for entry in found.missing]
    return asdict(found) | {"total": found.total, "missing": missing}


def _print_sweep_forecast(
    config: RunConfig, axes: Sequence[Axis], seeds: int, trainings: int, *, as_json: bool
) -> None:
    from augcond.cli.tables import print_forecast
    from augcond.experiments.forecast import forecast_sweep

    found = forecast_sweep(config, axes, seeds, trainings)
    if as_json:
        print_json([{"name": point.name, "seeds": point.seeds, **_plain_forecast(point.each)} for point in found])
    for point in () if as_json else found:
        typer.echo(f"\n{point.name}, with {point.seeds} seeds; each of them:")
        print_forecast(point.each, console())
    if any(entry.error for point in found for entry in point.each.missing):
        raise typer.Exit(1)


def sweep(
    config_file: ConfigFile,
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,V", help="A key and its values; may be repeated. Else the config's `sweep:`."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of split, plan and training together; else the config's, else 3.")
    ] = None,
    on: Annotated[str, typer.Option(help="validation, to choose by; or test.")] = "validation",
    trainings: Annotated[int, typer.Option(min=1, help="Trainings of each seed; they are averaged.")] = 1,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what the runs make and take, and what is missing.")
    ] = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment over a grid of settings and seeds, and write one table; the same command resumes.

    RUN/sweep.csv, .md and .json hold the table, RUN/report/index.html shows it with a curve per axis of numbers. Images
    that two cells define alike are made once.

    Example: augcond sweep photos.yaml --over conditioning.recipe=text,mixup --seeds 2 --set run=runs/sweep
    """
    from augcond.cli.tables import print_results
    from augcond.experiments.axes import axes_of, parse_axis
    from augcond.experiments.sweep import sweep as run_sweep
    from augcond.report import write_report
    from augcond.store import RunFolder

    judged_on = held_out_of(on)
    config = load_run_config(config_file, overrides)
    axes = [parse_axis(text) for text in over] if over else axes_of(config)
    if not axes:
        raise ConfigError(f"{config_file} has no `sweep:` that says what is varied: give --over key=value,value")
    seeds = seeds or (3 if config.sweep is None else config.sweep.seeds)
    if dry:
        _print_sweep_forecast(config, axes, seeds, trainings, as_json=as_json)
        return
    with logged(config):
        results = run_sweep(config, axes, seeds=seeds, trainings=trainings, on=judged_on, progress=show_progress)
    if as_json:
        from augcond.evaluation.results import as_written

        print_json(as_written(results))
    else:
        print_results(results, console())
    typer.echo(f"{write_report(RunFolder(config.run), on_stage=say)}", err=as_json)


def power(
    run: RunPath,
    effect: Annotated[float, typer.Option(min=0.01, help="The difference to decide, in points of accuracy.")] = 1.0,
    on: Annotated[str, typer.Option(help="test, or validation.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Say how many seeds and test images it takes to decide a difference, from the variances that RUN measured.

    RUN is a run or a sweep that was evaluated, with two seeds at least.

    Example: augcond power runs/my-photos --effect 1.0
    """
    from augcond.evaluation.power import components, in_words, needed
    from augcond.evaluation.results import results_of

    found = components(results_of(run_folder(run), held_out_of(on)))
    if as_json:
        cells = [asdict(cell) for cell in needed(found, effect / 100)]
        print_json({"effect": effect / 100, "measured": asdict(found), "needed": cells})
    else:
        typer.echo("\n".join(in_words(found, effect / 100)))


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run or a sweep; or several runs to compare.")],
    metrics: Annotated[
        bool, typer.Option("--metrics/--no-metrics", help="Measure the images with a feature extractor.")
    ] = True,
    features: Annotated[
        str | None,
        typer.Option(help="auto (its classifier), generator, timm:NAME, torchvision:NAME; else as the run has it."),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Images per recipe that are measured.")] = 1000,
    pictures: Annotated[int, typer.Option(min=1, help="About so many pictures in the gallery.")] = 2500,
    single: Annotated[bool, typer.Option("--single-file", help="Put everything into the page's one file.")] = False,
    tex: Annotated[bool, typer.Option("--tex", help="Only print the table of results as LaTeX (booktabs).")] = False,
    to: Annotated[Path, typer.Option(help="Where the page of several runs goes.")] = Path("comparison"),
) -> None:
    """Write RUN/report/index.html: whether it helped, what was made, whether that looks right, and what it cost.

    The page and its pictures open from disk, without a network; beside it lie the figures and the table of results as
    files for a paper. Several runs that were judged on the same test images are compared on a page of their own.
    The weights of timm: and torchvision: extractors are downloaded at first use.

    Example: augcond report runs/my-photos --single-file
    """
    from augcond.progress import format_bytes
    from augcond.report import ReportSettings, write_comparison, write_report

    folders = [run_folder(run) for run in runs]
    if tex:
        typer.echo(_latex_of(folders), nl=False)
        return
    if len(folders) > 1:
        if features is not None or not metrics:
            raise ConfigError("--features and --no-metrics are for one run: a comparison measures no images")
        page = write_comparison(folders, local(to, "--to"), single=single, on_stage=say)
    else:
        page = write_report(folders[0], ReportSettings(metrics, features, samples, pictures, single), on_stage=say)
    if single:
        say(f"one file of {format_bytes(page.stat().st_size)}")
    typer.echo(f"{page}")


def _latex_of(folders: list[RunFolder]) -> str:
    from augcond.evaluation.results import results_of
    from augcond.report.comparison import compare_runs
    from augcond.report.tables import to_latex

    if len(folders) > 1:
        return to_latex(compare_runs(folders))
    return to_latex(results_of(folders[0]))
