"""Commands before a run: `init`, `inspect`, `preview`, `generators`, `schema`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from augcond.cli.arguments import AsJson, Data, Set, data_config, drawing, local
from augcond.cli.output import console, print_json, say, show_progress, visible
from augcond.errors import ConfigError

if TYPE_CHECKING:
    from augcond.datasets import Dataset
    from augcond.datasets.base import Role


def init(
    photos: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTOS", help="A folder of class folders, or of train and test folders; or a list file."
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The config to write; called like PHOTOS, in this folder, where left out.")
    ] = None,
) -> None:
    """Write a commented config for photos: their classes, and whether there are photos to test on.

    Example: augcond init photos
    """
    from augcond.config import load_config
    from augcond.experiments.starter import starter_config
    from augcond.files import write_atomically

    photos = local(photos, "PHOTOS")
    to = local(to if to is not None else Path(f"{photos.resolve().stem}.yaml"), "--to")
    if to.exists():
        raise ConfigError(f"--to {to}: there is one already, which stays: name another file")
    starter = starter_config(photos, to)
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, starter.text.encode())
    load_config(to)
    typer.echo(f"{visible(starter.found)}\n{to} is written; next: augcond inspect {to}, and augcond run {to} --dry")


def schema() -> None:
    """Print a JSON schema of the config, which editors complete and check keys by.

    Save it, and begin a config with: # yaml-language-server: $schema=augcond.schema.json

    Example: augcond schema > augcond.schema.json
    """
    from augcond.config.schema import config_schema

    print_json(config_schema())


def inspect(
    data: Data,
    sheet: Annotated[
        Path | None, typer.Option(help="A PNG to write: pictures that look the same, or of one colour.")
    ] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Show classes, counts and sizes, and what looks wrong: files, names, duplicates, leaks, each with what to do.

    With a config, validation and test images are compared with the training images too.

    Example: augcond inspect photos/train --sheet look.png
    """
    from typing import get_args

    from augcond.cli.tables import print_dataset
    from augcond.datasets import load_dataset, summarize
    from augcond.datasets.base import HeldOut
    from augcond.datasets.loading import has_held_out, load_held_out
    from augcond.datasets.splits import Split

    to = None if sheet is None else drawing(sheet, "--sheet")
    config = data_config(data, overrides)
    # Looking at bad data is what this command is for, so no share of bad files stops it.
    tolerant = config.data.model_copy(update={"max_bad_share": 1.0})
    with show_progress("images read") as progress:
        dataset = load_dataset(tolerant, progress=progress)
        split = Split("all", 0, (), tuple(image.key for image in dataset.images))
        held_out: dict[Role, Dataset] = {
            on: load_held_out(tolerant, on, dataset, split) for on in get_args(HeldOut) if has_held_out(tolerant, on)
        }
    summary = summarize(dataset, config.evaluation, held_out)
    if to is not None:
        from augcond.experiments.suspects import draw_suspects
        from augcond.files import write_atomically

        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(to, draw_suspects(summary, {"train": dataset, **held_out}))
    if as_json:
        print_json(asdict(summary))
    else:
        print_dataset(summary, console())


def preview(
    data: Data,
    to: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    classes: Annotated[list[str] | None, typer.Option("--class", help="A class to show; may be repeated.")] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Lines per class.")] = 1,
    overrides: Set = None,
) -> None:
    """Draw a contact sheet: some sources, and what every recipe makes of them, in at most 8 denoising steps.

    Example: augcond preview photos/train --class cat --class dog

    --set generator.steps=20 takes as many.
    """
    from augcond.checks.prompts import generation_warnings
    from augcond.conditioning import RECIPES
    from augcond.experiments.preview import contact_sheet, in_few_steps
    from augcond.experiments.preview import preview as make
    from augcond.files import write_atomically
    from augcond.generators import load_generator, recipes_for
    from augcond.pipeline import load_training_images

    to = drawing(to, "--to")
    asked = data_config(data, overrides)
    # Every recipe of augcond's that the generator takes, and those of one's own that the config names.
    own = (name for name in asked.conditioning.recipe if name not in RECIPES)
    recipes = (*recipes_for(asked.generator.name), *own)
    config = data_config(data, (f"conditioning.recipe=[{', '.join(recipes)}]", *(overrides or ())))
    if not any(override.startswith("generator.steps=") for override in overrides or ()):
        config = in_few_steps(config)
    with show_progress("images") as progress:
        dataset = load_training_images(config, progress=progress)
        for warning in generation_warnings(config, dataset):
            say(f"look at this: {visible(warning)}")
        lines = make(
            config, dataset, load_generator(config.generator), classes=classes, per_class=per_class, progress=progress
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(to, contact_sheet(lines, config.conditioning.recipe_names))
    typer.echo(f"{to}")


def generators(as_json: AsJson = False) -> None:
    """List the generators: their usual model, its licence, and what they can be conditioned by.

    Example: augcond generators --json
    """
    from augcond.cli.tables import print_generators
    from augcond.generators.families import generator_entries

    if as_json:
        print_json([asdict(entry) for entry in generator_entries()])
    else:
        print_generators(generator_entries(), console())
