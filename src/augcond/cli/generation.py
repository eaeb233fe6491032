"""Commands around the images of a run: `plan`, `generate`, `status`, `check`, `reject`, `export`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from augcond.cli.arguments import AsJson, ConfigFile, Reuse, RunPath, Set, load_run_config, local, read_keys, run_folder
from augcond.cli.output import console, logged, print_json, show_progress, visible
from augcond.errors import ConfigError


def plan(
    config_file: ConfigFile,
    overrides: Set = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Make a few images to estimate time and disk.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Show the counts per class, the total, and the time and disk that they will take.

    Nothing is written; augcond generate writes the plan before it makes the first image.

    Example: augcond plan photos.yaml --set plan.per_class=100
    """
    from augcond.checks.prompts import generation_warnings
    from augcond.cli.tables import print_plan
    from augcond.experiments.forecast import estimate_cost, summarize_plan
    from augcond.generators import load_generator
    from augcond.pipeline import assemble, load_training_images, plan_for

    config = load_run_config(config_file, overrides)
    with show_progress("images read") as progress:
        dataset = load_training_images(config, progress=progress)
    made = plan_for(config, dataset)
    estimate = None
    if timing and len(made):
        _, materials = assemble(config, dataset, made, load_generator(config.generator))
        estimate = estimate_cost(made, materials, config.engine)
    summary = summarize_plan(made, dataset, estimate, generation_warnings(config, dataset))
    if as_json:
        print_json(asdict(summary))
    else:
        print_plan(summary, console())


def generate(
    config_file: ConfigFile,
    overrides: Set = None,
    reuse: Reuse = None,
    overwrite: Annotated[bool, typer.Option(help="Delete the run's images and start anew.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try rows again that failed before.")] = False,
    part: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make the images of a config; the same command resumes after any interruption.

    Workers: on a machine with several GPUs, each has one (--set engine.workers=N for another number). The same command
    in a second shell, or on another machine that sees the run folder, joins in: each worker makes what no other has
    claimed. Stop any of them at any time, by Ctrl-C or kill -9: the others, or the next one, make what it was at.

    Example: augcond generate photos.yaml
    """
    from augcond.cli.tables import print_summary
    from augcond.pipeline import generate as run

    if part is not None:
        raise ConfigError(
            "--part is no more: start the same command without it, as often and on as many machines as you like; each "
            "makes the shards that no other has claimed"
        )
    config = load_run_config(config_file, overrides)
    with logged(config), show_progress("images") as progress:
        summary = run(
            config,
            reuse=reuse or (),
            overwrite=overwrite,
            retry_failed=retry_failed,
            progress=progress,
        )
    print_summary(summary, config.run, console())


def status(
    run: RunPath,
    as_json: AsJson = False,
    pending: Annotated[bool, typer.Option("--pending", help="Print how many shards are left, for scripts.")] = False,
) -> None:
    """Show how many images are done, failed (by reason) and left, with rate, time left, and who is at it.

    Example: augcond status runs/my-photos
    """
    from augcond.cli.tables import print_status
    from augcond.store import run_status

    now = run_status(run_folder(run))
    if as_json:
        print_json(asdict(now) | {"attempted": now.attempted, "pending": now.pending})
    elif pending:
        typer.echo(now.pending)
    else:
        print_status(now, console())


def check(
    run: RunPath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside shards and models that are not what was committed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Audit a run or a sweep: every file is what was written, every image decodes, every source is a training image.

    Problems end with exit code 1. What --repair sets aside is made anew by augcond generate and augcond train.

    Example: augcond check runs/my-photos
    """
    from augcond.cli.tables import print_audit
    from augcond.store import audit_run

    with show_progress("shards read") as progress:
        audit = audit_run(run_folder(run), repair=repair, progress=progress)
    if as_json:
        print_json(asdict(audit))
    else:
        print_audit(audit, console())
    if audit.problems:
        raise typer.Exit(1)


def reject(
    run: RunPath,
    keys: Annotated[
        Path | None, typer.Argument(metavar="[KEYS]", help="A file with a key a line; - for standard input.")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the images of KEYS back; all where there is none.")
    ] = False,
) -> None:
    """Leave images out of training, export, push and data sets; they stay in the run.

    Keys, such as cat/3/dropout, stand in the report, in exports and in shards. Without KEYS, those that are rejected
    are printed. What is rejected is not made up for: plan more images for that.

    Example: augcond reject runs/my-photos keys.txt
    """
    from augcond.store import reject_images, rejected_keys, restore_images

    folder = run_folder(run)
    if keys is None and not undo:
        folder.read_plan()
        for key in sorted(rejected_keys(folder)):
            typer.echo(visible(key))
        return
    asked = None if keys is None else read_keys(keys)
    if undo:
        changed, what = restore_images(folder, asked), "back"
    else:
        changed, what = reject_images(folder, asked or ()), "rejected"
    typer.echo(f"{changed:,} image{'s' * (changed != 1)} {what}, {len(rejected_keys(folder)):,} rejected in all")
    if changed and folder.card_paths():
        typer.echo("models were trained before that: augcond train --overwrite trains those anew that it concerns")


_SCREENING = "Where the run screens: kept, as training takes them, or all."


def export(
    run: RunPath,
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    layout: Annotated[str, typer.Option("--format", help="imagefolder or webdataset.")] = "imagefolder",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export there.")] = False,
    mark: Annotated[
        bool, typer.Option("--mark/--no-mark", help="Say in each image (XMP, IPTC) that it is generated.")
    ] = True,
    screening: Annotated[str, typer.Option(help=_SCREENING)] = "kept",
) -> None:
    """Write the images as class folders with a metadata.parquet, or as WebDataset tars, and classes.json beside them.

    Example: augcond export runs/my-photos --to synthetic --format webdataset
    """
    from augcond.store import export_run

    with show_progress("images written") as progress:
        count = export_run(
            run_folder(run),
            local(to, "--to"),
            layout,  # type: ignore[arg-type]
            overwrite=overwrite,
            mark=mark,
            screening=screening,  # type: ignore[arg-type]
            progress=progress,
        )
    typer.echo(f"{count:,} images written to {to}")


def push(
    run: RunPath,
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="The dataset on the Hugging Face hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a new dataset.")] = False,
    licence: Annotated[str | None, typer.Option(help="Of the dataset, as the hub calls it, such as cc-by-4.0.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only write RUN/push, which would be sent.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Push in spite of licences that restrict it.")] = False,
    screening: Annotated[str, typer.Option(help=_SCREENING)] = "kept",
) -> None:
    """Send the images to the Hugging Face hub: a private dataset with a card; the same command resumes.

    Rows that failed, were rejected or screened out are left out. No photos are sent; the names of their files
    (`source_keys`) and the config are. Log in first: hf auth login

    Example: augcond push runs/my-photos me/my-synthetic-photos --dry
    """
    from augcond.experiments.push import PushSettings, prepare_push, push_run

    settings = PushSettings(not public, licence, anyway, screening)  # type: ignore[arg-type]
    with show_progress("shards read") as progress:
        done = (prepare_push if dry else push_run)(run_folder(run), repo_id, settings, progress=progress)
    typer.echo(f"{done.url or done.folder}")


def clean(
    run: RunPath,
    dry: Annotated[bool, typer.Option("--dry", help="Only say what would go.")] = False,
) -> None:
    """Remove caches, checkpoints and what killed processes left half-written; never images, models or results.

    What is needed again is made again. An interrupted training begins anew, so finish it first. Refused while other
    processes work on the run.

    Example: augcond clean runs/my-photos --dry
    """
    from augcond.cli.tables import print_spare
    from augcond.store import clean_run, spare_files

    folder = run_folder(run)
    for each in folder.cells() if os.path.lexists(folder.sweep_path) else [folder]:
        print_spare(spare_files(each), each.path, console())
        if not dry:
            clean_run(each)
