"""A contact sheet: for some classes, the source images and what every recipe makes of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from augcond.config import PlanConfig, RunConfig
from augcond.datasets import Dataset
from augcond.datasets.contents import open_image
from augcond.engine import BatchSize, count_for, generate_rows
from augcond.errors import PlanError
from augcond.generators import Generator
from augcond.guest import as_guest, figures_as_they_come
from augcond.pipeline import assemble, look_at_sources
from augcond.planning import make_plan
from augcond.progress import NoProgress, Progress
from augcond.store.images import decode_stored

if TYPE_CHECKING:
    from PIL.Image import Image


_FEW_STEPS = 8


def in_few_steps(config: RunConfig) -> RunConfig:
    """Return a config whose images take at most 8 denoising steps: enough to see what recipes make of sources."""
    fewest = math.ceil(1 / config.conditioning.strength)  # what starts from an image does a share of them
    steps = min(config.generator.steps, max(_FEW_STEPS, fewest))
    return config.model_copy(update={"generator": config.generator.model_copy(update={"steps": steps})})


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One line of the sheet: one (class, index), the same sources, lambda and initial noise under every recipe.

    Attributes:
        class_name: what the line shows.
        sources: the source images.
        lam: lambda as drawn; None where no recipe mixes.
        made: the image of each recipe, or the reason why there is none.
    """

    class_name: str
    sources: tuple[Image, ...]
    lam: float | None
    made: dict[str, Image | str]


@as_guest
def preview(
    config: RunConfig,
    dataset: Dataset,
    generator: Generator,
    *,
    classes: Sequence[str] | None = None,
    per_class: int = 1,
    progress: Progress | None = None,
) -> list[PreviewLine]:
    """Make the images of a contact sheet, without a run folder.

    Args:
        config: the run; its recipes are the columns.
        dataset: the real images.
        generator: makes the images.
        classes: ids of the classes to show; the first four that have images where None.
        per_class: lines per class.
        progress: is told how far the work is.

    Raises:
        PlanError: a class is unknown or has no images.
    """
    chosen = classes or [name for name, count in zip(dataset.classes, dataset.counts(), strict=True) if count][:4]
    if not chosen:
        raise PlanError("no class has a readable image to preview")
    plan = make_plan(
        dataset,
        PlanConfig(per_class=dict.fromkeys(chosen, per_class), seed=config.plan.seed),
        config.conditioning,
        prompts=config.prompt,
        features=look_at_sources(config, dataset, generator),
    )
    _, materials = assemble(config, dataset, plan, generator)
    progress = progress or NoProgress()
    progress.start(len(plan))
    made = generate_rows(list(plan.rows()), materials, BatchSize(config.engine.batch_size), count_for(progress))
    lines: dict[tuple[int, int], PreviewLine] = {}
    for shard_row in made:
        row = shard_row.row
        image = decode_stored(shard_row.image) if shard_row.image is not None else shard_row.error or "failed"
        line = lines.get((row.label, row.index), PreviewLine(row.class_name, (), None, {}))
        longer = len(row.source_keys) > len(line.sources)
        lines[row.label, row.index] = PreviewLine(
            row.class_name,
            tuple(open_image(dataset, key) for key in row.source_keys) if longer else line.sources,
            line.lam if shard_row.draws.lam is None else shard_row.draws.lam,
            {**line.made, row.recipe: image},
        )
    return [lines[place] for place in sorted(lines)]


@figures_as_they_come()
def contact_sheet(lines: Sequence[PreviewLine], recipes: Sequence[str]) -> bytes:
    """Return the PNG of a contact sheet: sources on the left, one column per recipe."""
    from matplotlib.figure import Figure

    sources = max(len(line.sources) for line in lines)
    columns = [f"source {i + 1}" for i in range(sources)] + list(recipes)
    figure = Figure(figsize=(1.25 * len(columns) + 0.9, 1.3 * len(lines) + 0.5), dpi=100)
    axes = figure.subplots(len(lines), len(columns), squeeze=False)
    for column, title in enumerate(columns):
        axes[0, column].set_title(title.replace("-", "-\n"), fontsize=8, color="#555" if column < sources else "#000")
    for line, row in zip(lines, axes, strict=True):
        _draw_line(line, row, columns, sources)
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_line(line: PreviewLine, row: Sequence[Any], columns: Sequence[str], sources: int) -> None:
    for place, (axis, title) in enumerate(zip(row, columns, strict=True)):
        axis.set_xticks([])
        axis.set_yticks([])
        shown = line.sources[place] if place < len(line.sources) else line.made.get(title)
        if shown is None:
            axis.axis("off")
        elif isinstance(shown, str):
            axis.text(0.5, 0.5, shown, ha="center", va="center", fontsize=6, wrap=True, transform=axis.transAxes)
        else:
            axis.imshow(shown, interpolation="nearest" if max(shown.size) < 96 else "antialiased")
        for spine in axis.spines.values():
            spine.set_color("#999" if place < sources else "#fff")
    label = line.class_name if line.lam is None else f"{line.class_name}\nλ = {line.lam:.2f}"
    # Class names are shown as they are: `$` would start a formula.
    row[0].set_ylabel(label, fontsize=8, parse_math=False)
