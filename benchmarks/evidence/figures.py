"""The figures of docs/results.md, as SVG; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from benchmarks.evidence.measured import Measured, compared
from benchmarks.evidence.settings import REAL_STRONG, STAND_IN, Scale
from benchmarks.evidence.tables import few_shot_rows, long_tail_rows
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from augcond.evaluation.results import Difference

_STYLE: Any = {"svg.hashsalt": "augcond", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
_MARKERS = "osD^vPX"
_GAIN = f"points of accuracy over {REAL_STRONG}, 95 % paired interval (seeds)"


def save_long_tail(measured: Measured, scale: Scale, path: Path) -> bool:
    """Draw each row's gain over `real-strong` with its interval; return whether there was any."""
    strong = measured.row(f"long-tail/{REAL_STRONG}", REAL_STRONG)
    named = long_tail_rows(scale)
    gains = compared([(measured.row(f"long-tail/{table}", arm), strong) for table, arm in named])
    bars = [
        (f"{arm} ({found.seeds})", 100 * found.mean, *_ends(found))
        for (_, arm), found in reversed([*zip(named, gains, strict=True)])
        if found is not None
    ]
    if not bars:
        return False

    def draw(axes: Axes) -> None:
        for place, (_, mean, low, high) in enumerate(bars):
            axes.plot([low, high], [place, place], color=_COLOURS[0], linewidth=1.5)
            axes.plot([mean], [place], "o", color=_COLOURS[0], markersize=4)
        axes.axvline(0, color="#666666", linewidth=0.8)
        axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
        axes.set_xlabel(_GAIN)

    _save(draw, path, (7, 1 + 0.24 * len(bars)))
    return True


def save_few_shot(measured: Measured, scale: Scale, start: str, path: Path) -> bool:
    """Draw accuracy over k of `few-shot` or `published`; return whether there was any.

    The recipes are those that both have, and the default one: all of them would be a tangle.
    """
    drawn = {REAL_STRONG, "text", "image", STAND_IN, *few_shot_rows(measured, "published")}
    curves = []
    for name in (row for row in few_shot_rows(measured, start) if row in drawn):
        points = [(k, measured.row(f"{start}/{name}-k{k}", name)) for k in scale.shots]
        known = [(k, 100 * mean, row.spread()) for k, row in points if row and (mean := row.mean()) is not None]
        if known:
            curves.append((name + (" (leaky)" if start == "published" else ""), known))
    if not curves:
        return False

    def draw(axes: Axes) -> None:
        for number, (name, known) in enumerate(curves):
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
            shots, means = [k for k, _, _ in known], [mean for _, mean, _ in known]
            spreads = [100 * (spread or 0.0) for _, _, spread in known]
            axes.errorbar(shots, means, spreads, color=colour, marker=marker, markersize=4, capsize=2, label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(scale.shots, [str(k) for k in scale.shots])
        axes.set_xlabel("real images per class, k")
        axes.set_ylabel("accuracy, % (mean and spread over seeds)")
        axes.legend(frameon=False)

    _save(draw, path, (6, 4))
    return True


def save_gains(lines: Mapping[str, Sequence[tuple[float, Difference]]], label: str, path: Path) -> bool:
    """Draw the gain over `real-strong` over something, one line per recipe; return whether there was any."""
    if not lines:
        return False

    def draw(axes: Axes) -> None:
        axes.axhline(0, color="#666666", linewidth=0.8)
        for number, (name, points) in enumerate(lines.items()):
            x = [at for at, _ in points]
            gains = [100 * gain.mean for _, gain in points]
            ends = [_ends(gain) for _, gain in points]
            reach = [
                [mean - low for mean, (low, _) in zip(gains, ends, strict=True)],
                [high - mean for mean, (_, high) in zip(gains, ends, strict=True)],
            ]
            axes.errorbar(
                x, gains, reach, color=_COLOURS[number], marker=_MARKERS[number], markersize=4, capsize=2, label=name
            )
        axes.set_xscale("log", base=2)
        ticks = sorted({at for points in lines.values() for at, _ in points})
        axes.set_xticks(ticks, [f"{at:g}" for at in ticks])
        axes.set_xlabel(label)
        sure = all(gain.low is not None for points in lines.values() for _, gain in points)
        what = "95 % paired interval" if sure else "and the lowest and highest seed"
        axes.set_ylabel(f"points of accuracy over {REAL_STRONG},\n{what}")
        axes.legend(frameon=False)

    _save(draw, path, (6, 3.5))
    return True


def _ends(gain: Difference) -> tuple[float, float]:
    """Return the ends of an interval in points; where there are too few seeds for one, the lowest and highest gain."""
    low, high = gain.low, gain.high
    if low is None or high is None:
        low, high = min(gain.per_seed), max(gain.per_seed)
    return 100 * low, 100 * high


def _save(draw: Callable[[Axes], None], path: Path, size: tuple[float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        # A date would change the file whenever the page is made.
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
