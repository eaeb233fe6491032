"""The demo: the built-in world through every stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from augcond.conditioning import RECIPES
from augcond.config import parse_config
from augcond.datasets import load_dataset
from augcond.generators import load_generator
from augcond.pipeline import generate
from augcond.previewing import contact_sheet, preview
from augcond.progress import ConsoleProgress, log_to
from augcond.render import plain_console, print_audit, print_summary
from augcond.store import RunFolder, audit_run, export_run

if TYPE_CHECKING:
    from rich.console import Console

RECIPES_SHOWN = ("text", "image", "embed-mixup-dropout")
PER_CLASS = 4


def run_demo(to: Path, console: Console) -> None:
    """Generate from the built-in world into `to`, check and export it, and draw a contact sheet of all recipes."""
    config = parse_config(
        {
            "data": {"source": "builtin"},
            "plan": {"per_class": PER_CLASS},
            "conditioning": {"recipe": list(RECIPES_SHOWN)},
            "run": to / "run",
        }
    )
    folder = RunFolder(config.run)
    folder.create()
    errors = plain_console(stderr=True)
    console.print(f"1/4  generating {PER_CLASS} images a class by {', '.join(RECIPES_SHOWN)}")
    with log_to(folder.log_path), ConsoleProgress(errors) as progress:
        print_summary(generate(config, progress=progress), folder, console)
    console.print("2/4  checking every image and its origin")
    print_audit(audit_run(folder), console)
    console.print("3/4  exporting class folders with metadata.csv")
    export_run(folder, to / "synthetic", "imagefolder", overwrite=True)
    console.print("4/4  drawing what every recipe makes of the same sources")
    everything = config.model_copy(
        update={"conditioning": config.conditioning.model_copy(update={"recipe": tuple(RECIPES)})}
    )
    with ConsoleProgress(errors) as progress:
        lines = preview(everything, load_dataset(config.data), load_generator(config.generator), progress=progress)
    sheet = to / "preview.png"
    sheet.write_bytes(contact_sheet(lines, everything.conditioning.recipe))
    console.print(f"\nlook at {sheet}; the images are in {to / 'synthetic'}, with their origin in metadata.csv")
