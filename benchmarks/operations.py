"""Draw what the operations beyond the paper do, on the built-in world: docs/img/operations.png.

    python -m benchmarks.operations

Each line is one image of a class: its sources, and what a recipe makes of them with and without the operation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from augcond.config import RunConfig, parse_config
from augcond.experiments.preview import PreviewLine, preview
from augcond.generators import load_generator
from augcond.pipeline import load_training_images

OUT = Path(__file__).parents[1] / "docs" / "img" / "operations.png"
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the picture, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operations", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--to", type=Path, default=OUT, help="the picture (default docs/img/operations.png)")
    parser.add_argument("--steps", type=int, default=20, help="of denoising (default 20)")
    options = parser.parse_args(arguments)
    columns = []
    for _, recipe, sections in COLUMNS:
        config = config_of(recipe, sections, options.steps)
        dataset = load_training_images(config)
        columns.append(preview(config, dataset, load_generator(config.generator), classes=CLASSES))
    draw(columns, options.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
