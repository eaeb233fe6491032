"""Accuracy as the page shows it: one line per arm, and each class's change."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from augcond.evaluation.results import ArmResult, Difference, Metrics, Results
from augcond.report.figures import FAINT, INK, MADE, REAL, shorten
from augcond.report.findings import GROUPS, Finding, Findings, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

SHOWN: tuple[tuple[str, str], ...] = (
    ("overall", "overall"),
    ("class_mean", "class mean"),
    ("many", "many"),
    ("medium", "medium"),
    ("few", "few"),
    ("calibration_error", "ECE"),
)
"""Metrics and what their columns are called."""

KINDS = {"real-only": "real only", "synthetic": "real + generated", "ceiling": "real + unused real"}
_NAMED = 40
_MOST_ARMS = 12


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One line of the table.

    Attributes:
        arm: what was measured.
        kind: what it was trained on, in words.
        cells: per metric of `SHOWN` mean and spread; None where there is none.
        gain: over the first arm (in a sweep: over its own baseline), with its interval; None for a baseline itself.
    """

    arm: ArmResult
    kind: str
    cells: tuple[tuple[float | None, float | None], ...]
    gain: Difference | None


@dataclass(frozen=True, slots=True)
class ClassLine:
    """Accuracy of one class: the first arm's, and the change that each other arm brings; None without test images."""

    class_name: str
    real: int
    baseline: float | None
    changes: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What the accuracy section shows.

    Attributes:
        results: as measured.
        lines: one per arm.
        classes: one line per class, in label order.
        others: names of the arms that the changes belong to.
        findings: what the table shows.
    """

    results: Results
    lines: tuple[ArmLine, ...]
    classes: tuple[ClassLine, ...]
    others: tuple[str, ...]
    findings: Findings


def view_accuracy(results: Results) -> Accuracy:
    """Return the lines of the table and the change per class."""
    first = results.arms[0].name
    base, *others = [_per_class(arm) for arm in results.arms]
    classes = tuple(
        ClassLine(
            name,
            results.real_counts[label],
            base[label],
            tuple(_minus(values[label], base[label]) for values in others),
        )
        for label, name in enumerate(results.class_names)
    )
    lines = tuple(
        ArmLine(arm, KINDS[arm.kind], metric_cells(arm), results.gain(arm.name, first)) for arm in results.arms
    )
    return Accuracy(results, lines, classes, tuple(arm.name for arm in results.arms[1:]), find(results))


def metric_cells(arm: ArmResult) -> tuple[tuple[float | None, float | None], ...]:
    """Return mean and spread of every metric of `SHOWN`; None where there is none."""
    return tuple((_metric(arm.mean, name), _metric(arm.spread, name)) for name, _ in SHOWN)


def _metric(metrics: Metrics | None, name: str) -> float | None:
    value: float | None = None if metrics is None else getattr(metrics, name)
    return value


def _per_class(arm: ArmResult) -> list[float | None]:
    columns = zip(*(seed.per_class for seed in arm.seeds), strict=True)
    return [fmean(known) if (known := [v for v in column if v is not None]) else None for column in columns]


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def draw_gains(accuracy: Accuracy) -> Figure | None:
    """Return each arm's gain in overall accuracy with its 95 % interval, or None where nothing was compared."""
    lines = [line for line in accuracy.lines if line.gain is not None]
    if not lines:
        return None
    figure = Figure(figsize=(5.4, 0.9 + 0.34 * len(lines)))
    axes = figure.add_subplot()
    for place, line in enumerate(lines):
        gain = line.gain
        if gain is None:
            continue
        colour = MADE if line.arm.kind == "synthetic" else REAL
        if gain.low is not None and gain.high is not None:
            axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=colour, linewidth=2)
        else:
            # Too few seeds for an interval: each one's gain.
            axes.plot([100 * each for each in gain.per_seed], [place] * gain.seeds, "|", color=colour, markersize=8)
        axes.plot(100 * gain.mean, place, "o", color=colour, markersize=6)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    names = [shorten(f"{line.arm.name}{' (leaky)' if line.arm.leaky else ''}", 36) for line in lines]
    axes.set_yticks(range(len(lines)), names, parse_math=False)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    baselines = {line.gain.baseline for line in lines if line.gain is not None}
    over = baselines.pop() if len(baselines) == 1 else "the baseline of the same settings"
    how = "with 95 % intervals" if any(line.gain and line.gain.low is not None for line in lines) else "and each seed's"
    axes.set_xlabel(f"points of {accuracy.results.on} accuracy over {over}, {how}")
    return figure


def draw_group_gains(found: Sequence[Finding], on: str) -> Figure:
    """Return what each arm gains over one baseline, overall and by shot group, as bars with 95 % intervals.

    A bar is filled where the gain or loss is decided, and pale where it is undecided or exploratory.

    Args:
        found: the arms; those after the first `_MOST_ARMS` are left out.
        on: what was judged, `test` or `validation`.
    """
    shown = found[:_MOST_ARMS]
    groups = [place for place in range(len(GROUPS)) if any(one.cells[place] for one in shown)]
    # Narrow, so that its text can be read on a phone.
    figure = Figure(figsize=(4.2, 0.75 + len(shown) * (0.3 + 0.2 * len(groups))))
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True)).ravel()
    for axes, one in zip(panels, shown, strict=True):
        for row, place in enumerate(groups):
            if (cell := one.cells[place]) is not None:
                _draw_gain(axes, row, cell)
        axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
        axes.set_yticks(range(len(groups)), [GROUPS[place] for place in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", length=2)
        axes.set_title(shorten(one.arm, 40), fontsize=9, loc="left", color=INK, parse_math=False)
    panels[-1].set_xlabel(f"points of {on} accuracy over {shorten(shown[0].baseline, 30)}", parse_math=False)
    return figure


def _draw_gain(axes: Axes, row: int, cell: Difference) -> None:
    axes.barh(row, 100 * cell.mean, color=MADE, alpha=1.0 if cell.verdict in ("gain", "loss") else 0.35, height=0.62)
    if cell.low is not None and cell.high is not None:
        axes.plot([100 * cell.low, 100 * cell.high], [row, row], color=INK, linewidth=1.2)
    else:
        # Too few seeds for an interval: each one's gain.
        axes.plot([100 * each for each in cell.per_seed], [row] * cell.seeds, "|", color=INK, markersize=6)


def draw_class_changes(accuracy: Accuracy) -> Figure | None:
    """Return the change per class over its number of real images, one panel per arm; None where there is no arm."""
    count = min(len(accuracy.others), 6)
    if not count:
        return None
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.4, 0.5 + 1.9 * rows))
    panels = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for place, axes in enumerate(panels):
        if place >= count:
            axes.axis("off")
            continue
        points = [(line.real, line.changes[place]) for line in accuracy.classes if line.changes[place] is not None]
        axes.axhline(0, color=FAINT, linewidth=1, zorder=0)
        if points:
            axes.scatter([x for x, _ in points], [100 * (y or 0.0) for _, y in points], s=14, color=MADE, alpha=0.7)
        axes.set_title(shorten(accuracy.others[place], 30), fontsize=9, color=INK, parse_math=False)
        if min((x for x, _ in points), default=0) > 0:
            axes.set_xscale("log")
            # Numbers as they are: powers of ten are set as formulas, and formulas are off for class names' sake.
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("real training images of the class", fontsize=9)
    figure.supylabel("change in points", fontsize=9)
    return figure


def shown_changes(accuracy: Accuracy, count: int = _NAMED) -> Sequence[ClassLine]:
    """Return the classes whose accuracy changes most under any arm, at most `count`, most changed first."""
    return sorted(
        accuracy.classes,
        key=lambda line: -max((abs(change) for change in line.changes if change is not None), default=0.0),
    )[:count]
