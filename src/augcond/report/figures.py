"""Figures of a run: inline SVG for the page, PNG and SVG files for a paper."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from augcond.guest import figures_as_they_come
from augcond.report.facts import ClassFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from augcond.report.quality import Quality

INK, FAINT, REAL, MADE = "#1d2126", "#9aa3ad", "#5b6673", "#0b7285"
SERIES = (MADE, "#c2410c", "#6741d9", "#2b8a3e", "#a61e4d", "#1864ab")
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line-strong)", REAL: "var(--real)", MADE: "var(--accent)"}
_NAMED = 40
"""Up to so many classes are named along the axis."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Set the style of the figures, and keep matplotlib quiet about class names in scripts that its font lacks."""
    with figures_as_they_come(), warnings.catch_warnings():
        mpl.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def draw_counts(classes: Sequence[ClassFacts]) -> Figure:
    """Return images per class before and after, classes by falling number of real images.

    Few classes are bars with their names; many are two curves, as long tails are drawn.
    """
    ordered = sorted(classes, key=lambda entry: (-entry.real, entry.label))
    real = np.array([entry.real for entry in ordered])
    after = np.array([entry.after for entry in ordered])
    if len(ordered) > _NAMED:
        return _draw_tail(real, after)
    figure = Figure(figsize=(5.4, 0.9 + 0.24 * len(ordered)))
    axes = figure.add_subplot()
    places = np.arange(len(ordered))
    axes.barh(places, real, color=REAL, height=0.62, label="real")
    axes.barh(places, after - real, left=real, color=MADE, height=0.62, label="generated")
    axes.set_yticks(places, [shorten(entry.class_name, 28) for entry in ordered], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.tick_params(axis="y", length=0)
    _count_axis(axes, "x")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _draw_tail(real: np.ndarray, after: np.ndarray) -> Figure:
    figure = Figure(figsize=(5.4, 2.6))
    axes = figure.add_subplot()
    places = np.arange(1, len(real) + 1)
    axes.fill_between(places, 0, real, color=REAL, step="mid", label="real", linewidth=0)
    axes.fill_between(places, real, after, color=MADE, step="mid", label="generated", linewidth=0)
    axes.set_xlim(1, len(real))
    axes.set_ylim(0)
    axes.set_xlabel("classes, by falling number of real images")
    axes.set_ylabel("images")
    _count_axis(axes, "y")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_shares(quality: Quality) -> Figure:
    """Return the share of images that miss class or style, per recipe, beside what real images get."""
    entries = quality.recipes
    real = quality.reference
    columns = (
        ("misses the class", [entry.semantic_error for entry in entries], real.semantic_error),
        ("misses the style", [entry.domain_shift for entry in entries], real.domain_shift),
    )
    figure = Figure(figsize=(5.4, 0.95 + 0.3 * len(entries)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, shares, reference) in zip(panels, columns, strict=True):
        percents = [100 * (share or 0.0) for share in shares]
        axes.barh(range(len(entries)), percents, color=MADE, height=0.6)
        if reference is not None:
            axes.axvline(100 * reference, color=REAL, linewidth=1.5, linestyle="--")
        axes.set_xlabel(f"{title} (%)")
        axes.set_xlim(0, max(10.0, 1.1 * max([*percents, 100 * (reference or 0.0)])))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(entries)), [entry.name for entry in entries])
    panels[0].invert_yaxis()
    return figure


def _count_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write `name`.png and `name`.svg to `folder` and return the text of the SVG; it has the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    # A salt for each figure: the ids of two figures in one page must not meet.
    with drawing(), mpl.rc_context({"svg.hashsalt": f"augcond-{name}"}):
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
        # Laid out once: what follows is the same figure on transparent ground.
        figure.set_layout_engine("none")
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_alpha(0.0)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    (folder / f"{name}.svg").write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()


def inline_svg(text: str) -> str:
    """Return the SVG file `text` as an element for a page, in the page's own colours, light or dark.

    Texts stay texts, escaped by matplotlib. The element is hidden from screen readers: the page says beside it, or in
    a table, what it shows.
    """
    text = text[text.index("<svg") :]
    # Metadata names its vocabulary by addresses, and the style rule would hold for the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", '<svg class="figure" aria-hidden="true" focusable="false"', 1)
    # matplotlib names every element; in a page with several figures only names that are referred to may stay.
    kept = {name for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text) for name in pair}
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in kept else "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"font-family: [^;\"]+|(font: [\d.]+px) [^;\"]+", _own_font, text)


def _own_font(found: re.Match[str]) -> str:
    # The shorthand knows no `inherit` beside a size.
    return f"font-size: {found[1].split()[1]}; font-family: inherit" if found[1] else "font-family: inherit"


def shorten(text: str, length: int) -> str:
    """Return `text`, cut with an ellipsis where it is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"
