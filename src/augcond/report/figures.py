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

from augcond.files import naming
from augcond.guest import figures_as_they_come
from augcond.report.facts import ClassFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from augcond.report.counts import ArmCounts
    from augcond.report.quality import Quality

INK, FAINT, REAL, MADE = "#1d2126", "#9aa3ad", "#5b6673", "#0b7285"
SERIES = (MADE, "#c2410c", "#6741d9", "#2b8a3e", "#a61e4d", "#1864ab")
"""Of curves; the page has lighter ones of the same hues for the dark."""
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line-strong)", REAL: "var(--real)", MADE: "var(--accent)"}
_VARIABLES |= {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES[1:], start=2)}
_MOST_PANELS = 4
_NAMED = 40
"""Up to so many classes are named along the axis."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
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


def draw_counts(classes: Sequence[ClassFacts], counts: Sequence[ArmCounts]) -> Figure:
    """Return images per class of each arm: real, and generated on top; classes by falling number of real images.

    Arms that are trained on equally many images of every class share a panel. Few classes are bars with their names;
    many are two curves, as long tails are drawn.

    Args:
        classes: with their real images.
        counts: what arms are trained on beside these; panels after the first `_MOST_PANELS` are left out.
    """
    ordered = sorted(classes, key=lambda entry: (-entry.real, entry.label))
    real = np.array([entry.real for entry in ordered])
    panels = [(entry.names, np.array([entry.added[c.label] for c in ordered])) for entry in counts[:_MOST_PANELS]]
    panels = panels or [((), np.zeros_like(real))]
    tail = len(ordered) > _NAMED
    figure = Figure(figsize=(5.4, len(panels) * (2.2 if tail else 0.75 + 0.24 * len(ordered)) + 0.3))
    for axes, (names, added) in zip(np.atleast_1d(figure.subplots(len(panels), 1)).ravel(), panels, strict=True):
        if tail:
            _draw_tail(axes, real, real + added)
        else:
            _draw_bars(axes, ordered, real, added)
        if names:
            axes.set_title(_title_of(names), fontsize=9, loc="left", color=INK, parse_math=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _title_of(names: Sequence[str]) -> str:
    return shorten(f"{'each of ' if len(names) > 1 else ''}{', '.join(names)}", 70)


def _draw_bars(axes: Axes, ordered: Sequence[ClassFacts], real: np.ndarray, added: np.ndarray) -> None:
    places = np.arange(len(ordered))
    axes.barh(places, real, color=REAL, height=0.62, label="real")
    axes.barh(places, added, left=real, color=MADE, height=0.62, label="generated")
    axes.set_yticks(places, [shorten(entry.class_name, 28) for entry in ordered], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.tick_params(axis="y", length=0)
    _count_axis(axes, "x")


def _draw_tail(axes: Axes, real: np.ndarray, after: np.ndarray) -> None:
    places = np.arange(1, len(real) + 1)
    axes.fill_between(places, 0, real, color=REAL, step="mid", label="real", linewidth=0)
    axes.fill_between(places, real, after, color=MADE, step="mid", label="generated", linewidth=0)
    axes.set_xlim(1, len(real))
    axes.set_ylim(0)
    axes.set_xlabel("classes, by falling number of real images")
    axes.set_ylabel("images")
    _count_axis(axes, "y")


def draw_shares(quality: Quality) -> Figure:
    """Return the shares that miss class or style, per recipe, with 95 % intervals, beside those of real images."""
    entries, real = quality.recipes, quality.reference
    columns = (
        ("misses the class", [entry.semantic_error for entry in entries], real.semantic_error),
        ("misses the style", [entry.domain_shift for entry in entries], real.domain_shift),
    )
    figure = Figure(figsize=(5.4, 0.95 + 0.3 * len(entries)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, rates, reference) in zip(panels, columns, strict=True):
        highest = [10.0]
        for place, rate in enumerate(rates):
            if rate is not None:
                low, high = (100 * end for end in rate.interval)
                axes.barh(place, 100 * rate.share, color=MADE, height=0.6)
                axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
                highest.append(high)
        if reference is not None:
            axes.axvline(100 * reference.share, color=REAL, linewidth=1.5, linestyle="--")
            highest.append(100 * reference.share)
        axes.set_xlabel(f"{title} (%)")
        axes.set_xlim(0, 1.1 * max(highest))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(entries)), [shorten(entry.name, 28) for entry in entries])
    panels[0].set_ylim(len(entries) - 0.5, -0.5)
    return figure


def _count_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write `name`.png, .svg and .pdf to `folder` and return the text of the SVG; they have the same bytes every time.

    Texts are texts in SVG and PDF, and nothing is cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, files = io.StringIO(), {"png": io.BytesIO(), "pdf": io.BytesIO()}
    # A salt for each figure: the ids of two figures in one page must not meet.
    with drawing(), mpl.rc_context({"svg.hashsalt": f"augcond-{name}"}):
        # Laid out once: what follows is the same figure, whole, three times.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.1)
        plain = {"CreationDate": None, "Creator": None}
        figure.savefig(files["png"], format="png", dpi=200, metadata={"Software": None}, bbox_inches=box)
        figure.savefig(files["pdf"], format="pdf", metadata=plain, bbox_inches=box)
        # For a page, on transparent ground.
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_alpha(0.0)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=box)
    # Not by matplotlib, whose PDFs say of a full disk that some attribute is missing.
    files["svg"] = io.BytesIO(text.getvalue().encode())
    for ending, file in files.items():
        path = folder / f"{name}.{ending}"
        with naming(path):
            path.write_bytes(file.getvalue())
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
