"""Draw what the operations beyond the paper do, on the built-in world.

    python -m benchmarks.operations

docs/img/operations.png: each line is one image of a class: its sources, and what a recipe makes of them with and
without the operation. docs/img/choosing.png: what a judge keeps of twice as many images. docs/img/names.png: what the
words alone make of a class, by how prompts name it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from augcond.config import RunConfig, parse_config
from augcond.experiments.preview import PreviewLine, preview
from augcond.generators import load_generator
from augcond.pipeline import generate, load_training_images
from augcond.screening.screen import screened_out
from augcond.store import RunFolder
from augcond.torch import RunDataset
from augcond.training.experiment import load_experiment

OUT = Path(__file__).parents[1] / "docs" / "img"
NAMES = Path(__file__).parent / "evidence" / "names"
CLASSES = ("pullover", "coat", "shirt", "sandal", "sneaker", "dress")

COLUMNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("dropout", "dropout", {}),
    ("dropout,\naway from the\nsimilar class", "dropout", {"generator": {"away_from": "similar-class"}}),
    ("embed-mixup", "embed-mixup", {}),
    ("embed-mixup,\nneighbours: 3", "embed-mixup", {"conditioning": {"neighbours": 3}}),
    ("embed-mixup-\nacross", "embed-mixup-across", {}),
    ("embed-mixup-\nacross,\nneighbours: 3", "embed-mixup-across", {"conditioning": {"neighbours": 3}}),
)
"""Title, recipe, and what the config sets besides."""


def config_of(recipe: str, sections: dict[str, Any], steps: int) -> RunConfig:
    """Return the config of a column."""
    generator = {"model": "builtin", "guidance_scale": 4.0, "steps": steps, **sections.get("generator", {})}
    conditioning = {"recipe": recipe, **sections.get("conditioning", {})}
    values = {
        "data": {"source": "builtin", "split": {"name": "few-shot", "k": 16}},
        "conditioning": conditioning,
        "generator": generator,
        "plan": {"seed": 1},
        "run": "unused",
    }
    return parse_config(values)


def draw(lines: Sequence[Sequence[PreviewLine]], to: Path) -> None:
    """Write the figure: `lines` has one list per column."""
    from matplotlib.figure import Figure

    wide = 1 + sum(1 if number < 2 else 2 for number in range(len(COLUMNS)))
    figure = Figure(figsize=(1.0 * wide, 1.05 * len(CLASSES) + 0.6))
    axes = figure.subplots(len(CLASSES), wide)
    for row, ax in zip(range(len(CLASSES)), axes, strict=True):
        cells: list[tuple[str, Any]] = [("source", lines[0][row].sources[0])]
        for (title, recipe, _), column in zip(COLUMNS, lines, strict=True):
            if len(column[row].sources) > 1:
                cells.append(("with", column[row].sources[1]))
            cells.append((title, column[row].made[recipe]))
        for place, (title, image) in zip(ax, cells, strict=True):
            place.set_axis_off()
            if not isinstance(image, str):
                place.imshow(image, interpolation="nearest")
            if row == 0:
                place.set_title(title, fontsize=6.5)
    figure.tight_layout(pad=0.3)
    figure.savefig(to, dpi=110, metadata={"Software": None})


def draw_choosing(steps: int, to: Path) -> None:
    """Draw all images of some classes in the judge's order, with a frame around those that are kept."""
    with tempfile.TemporaryDirectory() as folder:
        plan = {"plan": {"seed": 1, "per_class": 5, "oversample": 2}, "screening": {"by": "encoder"}, "run": folder}
        config = parse_config({**config_of("dropout", {}, steps).model_dump(mode="json"), **plan})
        generate(config)
        screened_out(load_experiment(config))
        found = pq.read_table(RunFolder(config.run).margins_path).to_pylist()
        margins = {row["key"]: (row["margin"], row["kept"]) for row in found}
        images = RunDataset(config.run, screening="all")
        cells: dict[str, list[tuple[float, bool, Any]]] = {name: [] for name in CLASSES}
        for place, (key, label) in enumerate(zip(images.keys, images.labels, strict=True)):
            if images.class_names[label] in cells:
                cells[images.class_names[label]].append((*margins[key], images[place][0]))
    _draw_grid(
        {
            name: [(f"{margin:+.2f}", image, kept) for margin, kept, image in sorted(row, key=itemgetter(0))]
            for name, row in cells.items()
        },
        to,
    )


def draw_names(steps: int, to: Path) -> None:
    """Draw what words alone make of some classes, by how prompts name them."""
    rows: dict[str, list[tuple[str, Any, bool]]] = {name: [] for name in CLASSES}
    kinds: dict[str, dict[str, Any]] = {
        "named": {},
        "unnamed": {"prompt": ["a photo of a garment"]},
        **{
            kind: {"data": {"class_names": str(NAMES / f"{kind}.tsv"), "several_names": True}}
            for kind in ("coarse", "wrong-senses")
        },
    }
    for kind, sections in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            values = config_of("text", {}, steps).model_dump(mode="json")
            values |= {"plan": {"seed": 1, "per_class": 3}, "run": folder}
            values["prompt"] = sections.get("prompt", values["prompt"])
            values["data"] = {**values["data"], **sections.get("data", {})}
            config = parse_config(values)
            generate(config)
            images = RunDataset(config.run)
            for place, label in enumerate(images.labels):
                if images.classes[label] in rows:
                    rows[images.classes[label]].append((kind, images[place][0], False))
    _draw_grid(rows, to)


def _draw_grid(rows: Mapping[str, Sequence[tuple[str, Any, bool]]], to: Path) -> None:
    """Write a figure of one line per class: a title, an image, and whether it has a frame."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    wide = max(map(len, rows.values()))
    figure = Figure(figsize=(1.0 * wide + 0.6, 1.15 * len(rows)))
    axes = figure.subplots(len(rows), wide)
    for (name, cells), line in zip(rows.items(), axes, strict=True):
        for place, (title, image, framed) in zip(line, cells, strict=True):
            place.set_axis_off()
            place.imshow(image, interpolation="nearest")
            place.set_title(title, fontsize=6.5, pad=2)
            if framed:
                size = image.size[0]
                place.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor="#1a7f37", linewidth=3))
        line[0].text(-0.12, 0.5, name, fontsize=7, rotation=90, va="center", ha="right", transform=line[0].transAxes)
    figure.tight_layout(pad=0.3)
    figure.savefig(to, dpi=110, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operations", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--to", type=Path, default=OUT, help="folder of the pictures (default docs/img)")
    parser.add_argument("--steps", type=int, default=20, help="of denoising (default 20)")
    options = parser.parse_args(arguments)
    columns = []
    for _, recipe, sections in COLUMNS:
        config = config_of(recipe, sections, options.steps)
        dataset = load_training_images(config)
        columns.append(preview(config, dataset, load_generator(config.generator), classes=CLASSES))
    draw(columns, options.to / "operations.png")
    draw_choosing(options.steps, options.to / "choosing.png")
    draw_names(options.steps, options.to / "names.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
