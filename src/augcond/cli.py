"""The command line: parse, call, print. Nothing here knows how anything is done."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augcond.errors import AugcondError, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from augcond.config import RunConfig
    from augcond.progress import ConsoleProgress
    from augcond.store import RunFolder
    from augcond.training.identity import EvaluationPart

app = typer.Typer(
    help="Synthetic training images by augmented conditioning of pretrained diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config of one run.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the config that made it.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A folder with one sub-folder per class, a list file (.txt, .csv), a config, or 'builtin'."
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as generator.steps=10.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def main() -> None:
    """Run the command line; errors end with one message and exit code 1 or 2."""
    try:
        app()
    except AugcondError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk, a lost mount, no permission: nothing half-done was committed.
        typer.echo(f"error: {error}; what was committed is safe, run the same command again to go on", err=True)
        sys.exit(1)


@app.command()
def demo(
    to: Annotated[Path, typer.Argument(help="Where the demo's run and pictures go.")] = Path("demo"),
) -> None:
    """Generate with the built-in world, check and export it, and draw a contact sheet.

    Example: augcond demo
    """
    from augcond.demo import run_demo

    run_demo(to, _console())


@app.command()
def inspect(data: Data, overrides: Set = None, as_json: AsJson = False) -> None:
    """Show classes, counts, shot groups, and every unreadable file with its reason.

    Example: augcond inspect photos/train
    """
    from augcond.datasets import load_dataset, summarize
    from augcond.render import print_dataset

    config = _data_config(data, overrides)
    # Looking at bad data is what this command is for, so no share of bad files stops it.
    tolerant = config.data.model_copy(update={"max_bad_share": 1.0})
    with _progress("images read") as progress:
        dataset = load_dataset(tolerant, progress=progress)
    summary = summarize(dataset, config.evaluation)
    if as_json:
        _print_json(asdict(summary))
    else:
        print_dataset(summary, _console())


@app.command()
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

    Example: augcond plan photos.yaml --set plan.fill_to=100
    """
    from augcond.estimate import estimate_cost
    from augcond.generators import load_generator
    from augcond.pipeline import assemble, load_training_images, plan_for
    from augcond.render import print_plan, summarize_plan

    config = _load(config_file, overrides)
    dataset = load_training_images(config)
    made = plan_for(config, dataset)
    estimate = None
    if timing and len(made):
        _, materials = assemble(config, dataset, made, load_generator(config.generator))
        estimate = estimate_cost(made, materials, config.engine.batch_size)
    summary = summarize_plan(made, dataset, estimate)
    if as_json:
        _print_json(asdict(summary))
    else:
        print_plan(summary, _console())


@app.command()
def generate(
    config_file: ConfigFile,
    overrides: Set = None,
    part: Annotated[
        str, typer.Option(metavar="i/n", help="Make the i-th of n parts; start one process for each.")
    ] = "1/1",
    reuse: Annotated[list[Path] | None, typer.Option(metavar="RUN", help="Take equal images from another run.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Delete the run's images and start anew.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try rows again that failed before.")] = False,
) -> None:
    """Make the images of a config; the same command resumes after any interruption.

    Example: augcond generate photos.yaml --part 2/8
    """
    from augcond.pipeline import generate as run
    from augcond.progress import log_to
    from augcond.render import print_summary
    from augcond.store import RunFolder

    config = _load(config_file, overrides)
    folder = RunFolder(config.run)
    folder.create()
    try:
        with log_to(folder.log_path), _progress("images") as progress:
            summary = run(
                config,
                part=_part(part),
                reuse=reuse or (),
                overwrite=overwrite,
                retry_failed=retry_failed,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
    print_summary(summary, folder, _console())


@app.command()
def status(run: RunPath, as_json: AsJson = False) -> None:
    """Show how many images are done, failed (by reason) and left, with rate and time left.

    Example: augcond status runs/my-photos
    """
    from augcond.render import print_status
    from augcond.store import run_status

    now = run_status(_run_folder(run))
    if as_json:
        _print_json(asdict(now) | {"attempted": now.attempted})
    else:
        print_status(now, _console())


@app.command()
def check(run: RunPath, as_json: AsJson = False) -> None:
    """Audit a run: every key once, every image decodes, every source is a training image.

    Example: augcond check runs/my-photos
    """
    from augcond.render import print_audit
    from augcond.store import audit_run

    audit = audit_run(_run_folder(run))
    if as_json:
        _print_json(asdict(audit))
    else:
        print_audit(audit, _console())
    if audit.problems:
        raise typer.Exit(1)


@app.command()
def export(
    run: RunPath,
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    layout: Annotated[str, typer.Option("--format", help="imagefolder or webdataset.")] = "imagefolder",
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Write the images as class folders with a metadata.csv, or as WebDataset tars.

    Example: augcond export runs/my-photos --to synthetic --format webdataset
    """
    from augcond.store import export_run

    if layout not in ("imagefolder", "webdataset"):
        raise ConfigError(f"--format {layout!r}: expected imagefolder or webdataset")
    count = export_run(_run_folder(run), to, layout, overwrite=overwrite)  # type: ignore[arg-type]
    typer.echo(f"{count:,} images written to {to}")


@app.command()
def preview(
    data: Data,
    to: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    classes: Annotated[list[str] | None, typer.Option("--class", help="A class to show; may be repeated.")] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Lines per class.")] = 1,
    overrides: Set = None,
) -> None:
    """Draw a contact sheet: some sources, and what every recipe makes of them.

    Example: augcond preview photos/train --class cat --class dog
    """
    from augcond.generators import load_generator, recipes_for
    from augcond.pipeline import load_training_images
    from augcond.preview import contact_sheet
    from augcond.preview import preview as make

    recipes = recipes_for(_data_config(data, overrides).generator.name)
    config = _data_config(data, (f"conditioning.recipe=[{', '.join(recipes)}]", *(overrides or ())))
    dataset = load_training_images(config)
    with _progress("images") as progress:
        lines = make(
            config, dataset, load_generator(config.generator), classes=classes, per_class=per_class, progress=progress
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(contact_sheet(lines, config.conditioning.recipe))
    typer.echo(f"{to}")


@app.command()
def generators(as_json: AsJson = False) -> None:
    """List the generators: their usual model, its licence, and what they can be conditioned by.

    Example: augcond generators --json
    """
    from augcond.generators.catalog import CATALOG
    from augcond.generators.settings import recipes_for
    from augcond.render import print_generators

    if as_json:
        # Sets have no order of their own, and JSON has no sets.
        listed = [
            asdict(facts) | {"inputs": sorted(facts.inputs), "recipes": recipes_for(facts.name)}
            for facts in CATALOG.values()
        ]
        _print_json(listed)
    else:
        print_generators(CATALOG.values(), _console())


@app.command()
def train(
    run: RunPath,
    overrides: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Train models anew that were trained with other settings.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train classifiers: real images only, and real with the synthetic ones of each recipe; resumes by itself.

    Refuses synthetic images whose sources are no training images of the split, and training images that are test or
    validation images too. For many GPUs: accelerate launch -m augcond.cli train RUN

    Example: augcond train runs/my-photos --set training.seeds=5
    """
    from augcond.pipeline import train as train_run
    from augcond.render import print_models

    config = _run_config(run, overrides)
    with _logged(config), _progress("training steps") as progress:
        cards = train_run(config, overwrite=overwrite, progress=progress)
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes that train together: the first one prints
    if as_json:
        _print_json([asdict(card) for card in cards])
    else:
        print_models(cards, config.run, _console())


@app.command()
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
    from augcond.pipeline import evaluate as evaluate_run
    from augcond.render import print_results

    part = _part_to_judge(on)
    config = _run_config(run, overrides)
    with _logged(config), _progress("models judged") as progress:
        results = evaluate_run(config, part=part, progress=progress)
    if as_json:
        _print_json(asdict(results))
    else:
        print_results(results, _console())


@app.command("run")
def run_all(
    config_file: ConfigFile,
    overrides: Set = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what the run makes and takes, and what is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Generate, train, evaluate and report, and print the table; the same command resumes after any interruption.

    With --dry nothing is made, decoded or fetched: counts, GPU hours by published rates, disk, and what is missing.

    Example: augcond run photos.yaml --dry
    """
    if dry:
        _print_forecast(_load(config_file, overrides), as_json)
        return
    from augcond.pipeline import run as run_stages
    from augcond.render import print_results
    from augcond.report import write_report
    from augcond.store import RunFolder

    config = _load(config_file, overrides)
    with _logged(config):
        results = run_stages(config, progress=_progress)
    if as_json:
        _print_json(asdict(results))
    else:
        print_results(results, _console())
    # A run of real images alone has no plan, and so no page.
    if RunFolder(config.run).plan_path.exists():
        typer.echo(f"{write_report(RunFolder(config.run), on_stage=_say)}", err=as_json)


@app.command()
def sweep(
    config_file: ConfigFile,
    over: Annotated[list[str], typer.Option(metavar="KEY=V,V", help="A key and its values; may be repeated.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of split, plan and training together.")] = 3,
    on: Annotated[str, typer.Option(help="validation, to choose by; or test.")] = "validation",
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment over a grid of settings and seeds, and write one table; the same command resumes.

    RUN/sweep.csv, .md and .json hold the table. Images that two cells define alike are made once.

    Example: augcond sweep photos.yaml --over generator.guidance_scale=2,4,7 --over conditioning.recipe=text,mixup
    """
    from augcond.render import print_results
    from augcond.sweeping import parse_axis
    from augcond.sweeping import sweep as run_sweep

    part = _part_to_judge(on)
    axes = [parse_axis(text) for text in over]
    results = run_sweep(_load(config_file, overrides), axes, seeds=seeds, part=part, progress=_progress)
    if as_json:
        _print_json(asdict(results))
    else:
        print_results(results, _console())


@app.command()
def report(
    run: RunPath,
    metrics: Annotated[
        bool, typer.Option("--metrics/--no-metrics", help="Measure the images with a feature extractor.")
    ] = True,
    features: Annotated[
        str, typer.Option(help="generator (its own image encoder), timm:NAME or torchvision:NAME.")
    ] = "generator",
    samples: Annotated[int, typer.Option(min=2, help="Images per recipe that are measured.")] = 1000,
    pictures: Annotated[int, typer.Option(min=1, help="About so many pictures in the gallery.")] = 2500,
) -> None:
    """Write RUN/report/index.html: what went in, what was made, whether it helped, and what it cost.

    The page and its pictures open from disk, without a network; RUN/report/figures has the figures for a paper.
    The weights of timm: and torchvision: extractors are downloaded at first use.

    Example: augcond report runs/my-photos --features timm:vit_small_patch14_dinov2.lvd142m
    """
    from augcond.report import ReportSettings, write_report

    settings = ReportSettings(metrics, features, samples, pictures)
    typer.echo(f"{write_report(_run_folder(run), settings, on_stage=_say)}")


def _print_forecast(config: RunConfig, as_json: bool) -> None:
    from augcond.forecast import forecast
    from augcond.render_forecast import print_forecast

    found = forecast(config)
    if as_json:
        _print_json(asdict(found) | {"total": found.total})
    else:
        print_forecast(found, _console())


def _say(stage: str) -> None:
    typer.echo(stage, err=True)


def _console() -> Console:
    from augcond.render import plain_console

    return plain_console()


def _progress(what: str) -> ConsoleProgress:
    from augcond.progress import ConsoleProgress
    from augcond.render import plain_console

    return ConsoleProgress(plain_console(stderr=True), what)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _load(path: Path, overrides: list[str] | None) -> RunConfig:
    from augcond.config import load_config

    return load_config(path, tuple(overrides or ()))


def _data_config(data: str, overrides: Any) -> RunConfig:
    """Return the config that a DATA argument stands for; its run folder is never used."""
    from augcond.config import load_config, parse_config

    overrides = tuple(overrides or ())
    path = Path(data)
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return load_config(path, overrides)
    if data == "builtin" and not path.exists():
        section: dict[str, Any] = {"source": "builtin"}
    elif path.is_dir():
        section = {"source": "folder", "path": data}
    elif path.is_file():
        section = {"source": "list", "path": data}
    else:
        raise ConfigError(
            f"no folder or file at {data}: expected a folder with one sub-folder per class, a list file "
            "(.txt, .csv), a config (.yaml), or 'builtin'"
        )
    return parse_config({"data": section, "run": "unused"}, overrides)


@contextmanager
def _logged(config: RunConfig) -> Iterator[None]:
    """Make the run's folder, and append to its log what happens."""
    from augcond.progress import log_to
    from augcond.store import RunFolder

    folder = RunFolder(config.run)
    folder.create()
    with log_to(folder.log_path):
        yield


def _run_config(path: Path, overrides: list[str] | None) -> RunConfig:
    """Return the config that a RUN argument stands for: the one given, or the one that the run keeps."""
    from augcond.errors import RunError

    if path.suffix.lower() in (".yaml", ".yml"):
        return _load(path, overrides)
    kept = path / "config.yaml"
    if not kept.is_file():
        raise RunError(f"{path} is no run: it has no config.yaml (augcond generate CONFIG makes it)")
    return _load(kept, overrides)


def _run_folder(path: Path) -> RunFolder:
    from augcond.store import RunFolder

    if path.suffix.lower() in (".yaml", ".yml") and path.is_file() and path.name != "config.yaml":
        return RunFolder(_load(path, None).run)
    return RunFolder(path.parent if path.name == "config.yaml" and path.is_file() else path)


def _part_to_judge(text: str) -> EvaluationPart:
    if text == "test":
        return "test"
    if text == "validation":
        return "validation"
    raise ConfigError(f"--on {text!r}: expected test or validation")


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise ConfigError(f"--part {text!r}: expected i/n with 1 <= i <= n, such as 2/8")
    return int(part), int(parts)


if __name__ == "__main__":
    main()
