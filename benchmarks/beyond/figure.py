"""The figure of docs/beyond.md; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from augcond.evaluation.results import Difference

_STYLE: Any = {"svg.hashsalt": "augcond", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
_COLUMNS = 3


def save_gains(lines: Mapping[str, Mapping[str, Difference | None]], path: Path) -> bool:
    """Draw what rows gain over `text`, with intervals, one small picture per cell; return whether there was any.

    Args:
        lines: by title of a cell, and by row; None where it is not measured.
        path: the SVG.
    """
    if not any(found for rows in lines.values() for found in rows.values()):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    high = -(-len(lines) // _COLUMNS)
    wide = min(_COLUMNS, len(lines))
    names = list(reversed([*next(iter(lines.values()))]))
    with plt.rc_context(_STYLE):
        figure, grid = plt.subplots(
            high,
            wide,
            figsize=(2.6 * wide + 1, high * (0.7 + 0.2 * len(names))),
            layout="constrained",
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for axes in grid.flat[len(lines) :]:
            axes.set_visible(False)
        for axes, (title, rows) in zip(grid.flat, lines.items(), strict=False):
            axes.axvline(0, color="#666666", linewidth=0.8)
            for place, name in enumerate(names):
                found = rows[name]
                if found is None:
                    continue
                low, top = found.low, found.high
                if low is None or top is None:  # too few seeds for an interval: what each gained
                    axes.plot(
                        [100 * gain for gain in found.per_seed], [place] * len(found.per_seed), ".", color="#999999"
                    )
                else:
                    axes.plot([100 * low, 100 * top], [place, place], color="#0072b2", linewidth=1.5)
                axes.plot([100 * found.mean], [place], "o", color="#0072b2", markersize=3.5)
            axes.set_title(title, fontsize=8)
            axes.set_yticks(range(len(names)), names)
        figure.supxlabel("points of accuracy over text, 95 % paired interval", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
    return True
