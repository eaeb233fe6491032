"""The contact sheet of `augcond inspect`: the files that look wrong, side by side."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from augcond.datasets import Dataset, decode
from augcond.errors import ImageError
from augcond.guest import figures_as_they_come

if TYPE_CHECKING:
    from augcond.datasets import DatasetSummary
    from augcond.datasets.base import Role

_Cell = tuple[str, str, str]
"""Role, key and caption of an image."""

_LINES = 40
_LONGEST = 34


@figures_as_they_come()
def draw_suspects(summary: DatasetSummary, sets: Mapping[Role, Dataset]) -> bytes:
    """Return a PNG: pairs that look the same, files that lie in two classes, and pictures of one colour.

    Args:
        summary: of the training images.
        sets: the images by what they are for.
    """
    from matplotlib.figure import Figure

    lines = [line for _, line in zip(range(_LINES), _lines(summary), strict=False)]
    columns = max((len(cells) for _, cells in lines), default=1)
    figure = Figure(figsize=(2.2 * columns + 0.4, 1.9 * len(lines) + 0.6), dpi=100)
    if not lines:
        figure.text(0.5, 0.5, "nothing suspicious", ha="center", va="center")
    axes = figure.subplots(max(1, len(lines)), columns, squeeze=False)
    for row in axes:
        for axis in row:
            axis.axis("off")
    for (title, cells), row in zip(lines, axes, strict=False):
        for cell, axis in zip(cells, row, strict=False):
            _draw(axis, sets, *cell)
        row[0].text(-0.05, 0.5, title, ha="right", va="center", fontsize=7, rotation=90, transform=row[0].transAxes)
    figure.tight_layout(pad=0.6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _lines(summary: DatasetSummary) -> Iterator[tuple[str, list[_Cell]]]:
    for pair in summary.near_duplicates:
        said = ("same" if pair.certain else "alike") + (", mirrored" if pair.mirrored else "")
        cells = zip(pair.roles, pair.keys, pair.class_ids, strict=True)
        yield f"{said} ({pair.error:.2f})", [(role, key, f"{role}: {class_id}") for role, key, class_id in cells]
    for duplicate in summary.duplicates:
        if len(duplicate.class_ids) > 1:
            yield "same file", [("train", key, "train") for key in duplicate.keys[:4]]
    for start in range(0, len(summary.blank), 4):
        yield "one colour", [("train", key, "train") for key in summary.blank[start : start + 4]]


def _draw(axis: Any, sets: Mapping[Role, Dataset], role: str, key: str, caption: str) -> None:
    dataset = next(images for name, images in sets.items() if name == role)
    name = key if len(key) <= _LONGEST else f"...{key[-_LONGEST:]}"
    # File names are shown as they are: `$` would start a formula.
    axis.set_title(f"{caption}\n{name}", fontsize=6, parse_math=False)
    try:
        image = decode(dataset.reader.read(key), dataset.decoding)
    except (ImageError, OSError) as error:
        axis.text(0.5, 0.5, str(error), ha="center", va="center", fontsize=6, wrap=True)
        return
    image.thumbnail((256, 256))
    axis.imshow(image, interpolation="nearest" if max(image.size) < 96 else "antialiased")
