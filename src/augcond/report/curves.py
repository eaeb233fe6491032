"""Curves of a sweep: accuracy over shots, guidance scale, number of images, or any other number that it varied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from augcond.evaluation.results import ArmResult, Results
from augcond.report.figures import FAINT, REAL, SERIES, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

TITLES = {
    "data.split.k": "shots (real training images per class)",
    "generator.guidance_scale": "guidance scale",
    "plan.per_class": "synthetic images per class",
    "plan.fill_to": "images per class, real and synthetic",
}
"""What axes are called; others go by their key."""

MOST_CURVES = 12
_MOST_REFERENCES = 3
_LOG_FROM = 8
"""An axis of positive numbers is logarithmic where the largest is so many times the smallest."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One arm on a curve.

    Attributes:
        x: the value of the axis.
        mean: overall accuracy, mean over the seeds.
        low: lower end of the mean's 95 % interval over seeds and images; None for fewer than three seeds.
        high: its upper end.
    """

    x: float
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Arms that differ in the axis alone, by rising value; `name` is what they share."""

    name: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class AxisCurves:
    """Everything that a sweep measured along one axis.

    Attributes:
        key: key of the config that the axis sets.
        curves: one per recipe and value of the other axes, in the order of the results.
        references: arms that do not depend on the axis; `x` of their one point means nothing.
    """

    key: str
    curves: tuple[Curve, ...]
    references: tuple[Curve, ...]

    @property
    def title(self) -> str:
        """What the axis is called."""
        return TITLES.get(self.key, self.key)

    @property
    def left_out(self) -> int:
        """Number of curves that a figure has no room for."""
        return max(0, len(self.curves) - MOST_CURVES)


def curves_of(results: Results) -> tuple[AxisCurves, ...]:
    """Return the curves along every axis of a sweep that takes two numbers or more."""
    keys = dict.fromkeys(key for arm in results.arms for key in arm.settings)
    return tuple(_along(key, results.arms) for key in keys if _is_curve(key, results.arms))


def _is_curve(key: str, arms: Sequence[ArmResult]) -> bool:
    values = [arm.settings[key] for arm in arms if key in arm.settings]
    # JSON's true and false are numbers in Python.
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(set(values)) > 1


def _along(key: str, arms: Sequence[ArmResult]) -> AxisCurves:
    found: dict[str, list[CurvePoint]] = {}
    for arm in arms:
        if key in arm.settings:
            found.setdefault(_name_without(key, arm), []).append(_point(arm, float(arm.settings[key])))
    curves = tuple(Curve(name, tuple(sorted(points, key=lambda point: point.x))) for name, points in found.items())
    fixed = tuple(Curve(_shown(arm.name, arm), (_point(arm, 0.0),)) for arm in arms if key not in arm.settings)
    return AxisCurves(key, curves, fixed)


def _point(arm: ArmResult, x: float) -> CurvePoint:
    low, high = arm.interval or (None, None)
    return CurvePoint(x, arm.mean.overall, low, high)


def _name_without(key: str, arm: ArmResult) -> str:
    """Return the arm's name without its value of `key`, as the sweep wrote it there."""
    own = f"{key.rpartition('.')[2]}={arm.settings[key]}"
    return _shown(" ".join(word for word in arm.name.split(" ") if word != own), arm)


def _shown(name: str, arm: ArmResult) -> str:
    return f"{name} (leaky)" if arm.leaky else name


def draw_curves(along: AxisCurves, on: str) -> Figure:
    """Return overall accuracy over the axis: means over seeds with their 95 % bands, one curve per recipe.

    Args:
        along: the curves; those after the first `MOST_CURVES` are left out.
        on: what was judged, `test` or `validation`.
    """
    drawn = along.curves[:MOST_CURVES]
    references = along.references if len(along.references) <= _MOST_REFERENCES else ()
    figure = Figure(figsize=(5.4, 3.2 + 0.16 * (len(drawn) + len(references))))
    axes = figure.add_subplot()
    for place, curve in enumerate(drawn):
        _draw_curve(axes, curve, SERIES[place % len(SERIES)], "-" if place < len(SERIES) else "--")
    for curve, line in zip(references, ("--", ":", "-."), strict=False):
        axes.axhline(
            100 * curve.points[0].mean, color=REAL, linestyle=line, linewidth=1.5, label=shorten(curve.name, 40)
        )
    _scale(axes, [point.x for curve in drawn for point in curve.points])
    means = [100 * point.mean for curve in (*drawn, *references) for point in curve.points]
    # Bands of three seeds may be wider than the figure; they may leave it, the means may not.
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, min(means) - 15), min(top, max(means) + 15))
    axes.set_xlabel(along.title)
    axes.set_ylabel(f"{on} accuracy (%)")
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_curve(axes: Axes, curve: Curve, colour: str, line: str) -> None:
    x = [point.x for point in curve.points]
    label = shorten(curve.name, 40)
    axes.plot(
        x, [100 * point.mean for point in curve.points], line, color=colour, marker="o", markersize=4, label=label
    )
    band = [(p.x, 100 * p.low, 100 * p.high) for p in curve.points if p.low is not None and p.high is not None]
    if len(band) > 1:
        places, low, high = zip(*band, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    elif band:
        # A band needs two places.
        axes.plot([band[0][0]] * 2, band[0][1:], color=colour, alpha=0.5, linewidth=3)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    places = sorted(set(values))
    if places[0] > 0 and places[-1] >= _LOG_FROM * places[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{value:g}" for value in places])
    axes.minorticks_off()
