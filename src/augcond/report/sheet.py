"""The gallery as a figure: some (class, index), their sources, and what every recipe makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from augcond.report.figures import FAINT, INK, drawing, shorten
from augcond.report.pictures import SourceImages
from augcond.report.sample import Group, SampledRow
from augcond.store.images import decode_stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

_LARGEST = 256


def draw_gallery(groups: Sequence[Group], sources: SourceImages, recipes: Sequence[str]) -> Figure | None:
    """Return the figure, sources on the left and one column per recipe; None where there are no groups."""
    if not groups:
        return None
    count = max(len(dict.fromkeys(group.source_keys)) for group in groups)
    titles = [f"source {i + 1}" for i in range(count)] + list(recipes)
    with drawing():
        figure = Figure(figsize=(1.05 * len(titles) + 0.9, 1.12 * len(groups) + 0.45))
        panels = figure.subplots(len(groups), len(titles), squeeze=False)
        for axes, title in zip(panels[0], titles, strict=True):
            axes.set_title(title.replace("-", "-\n"), fontsize=8, color=INK)
        for group, line in zip(groups, panels, strict=True):
            keys = list(dict.fromkeys(group.source_keys))
            for place, axes in enumerate(line[:count]):
                _show(axes, sources.open(keys[place]) if place < len(keys) else None)
            rows = {row.recipe: row for row in group.rows}
            for recipe, axes in zip(recipes, line[count:], strict=True):
                _show_row(axes, rows.get(recipe))
            _name(line[0], group)
    return figure


def _name(axes: Axes, group: Group) -> None:
    lam = next((row.lam for row in group.rows if row.lam is not None), None)
    name = shorten(group.class_name, 20)
    # Placed as a text beside the panel: an axis that is switched off would hide its label.
    axes.annotate(
        name if lam is None else f"{name}\nλ = {lam:.2f}",
        (-0.08, 0.5),
        xycoords="axes fraction",
        ha="right",
        va="center",
        fontsize=8,
        parse_math=False,
    )


def _show_row(axes: Axes, row: SampledRow | None) -> None:
    if row is not None and row.image is None:
        axes.text(0.5, 0.5, "failed", ha="center", va="center", fontsize=7, color=INK, transform=axes.transAxes)
        _frame(axes)
    else:
        _show(axes, decode_stored(row.image) if row is not None and row.image is not None else None)


def _show(axes: Axes, image: Image | None) -> None:
    if image is None:
        axes.axis("off")
        return
    small = image.copy()
    small.thumbnail((_LARGEST, _LARGEST), reducing_gap=2.0)
    axes.imshow(small, interpolation="nearest" if max(small.size) < 96 else "antialiased")
    _frame(axes)


def _frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)
        spine.set_linewidth(0.5)
