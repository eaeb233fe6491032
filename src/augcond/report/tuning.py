"""What a tuning estimated, beside what its run then measured; and the figure of a tuning."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from augcond.errors import RunError
from augcond.evaluation.results import REAL_ONLY
from augcond.evaluation.tuning import Tuning, read_tuning
from augcond.report.figures import FAINT, INK, MADE, REAL, drawing

if TYPE_CHECKING:
    from augcond.evaluation.results import Results
    from augcond.store import RunFolder


@dataclass(frozen=True, slots=True)
class TunedFacts:
    """A tuning's estimate and the outcome of the run that it chose.

    Attributes:
        tuning: what was found.
        arm: the arm that was chosen; None where real images alone were.
        outcome: measured gain over real images alone in mean accuracy per class, with its interval where there are
            seeds enough; None where it is not measured yet.
        interval: that interval in words; empty without one.
        held: whether the estimate's interval holds the measured gain; None without either.
    """

    tuning: Tuning
    arm: str | None
    outcome: float | None
    interval: str
    held: bool | None

    @property
    def finalists(self) -> list[tuple[str, str]]:
        """The last candidates, each with its gain in words."""
        return [(name, gain.text) for name, gain in self.tuning.finalists]


def tuned_facts(folder: RunFolder, results: Results | None) -> TunedFacts | None:
    """Return what was estimated of a run before it was measured; None where it is not the run of a tuning.

    Args:
        folder: the run.
        results: of the run on test images; None where there are none.

    Raises:
        CorruptRunError: the tuning is not what augcond wrote.
    """
    parent = type(folder)(folder.path.resolve().parent)
    if parent.tuned_run_path.resolve() != folder.path.resolve() or not parent.tuning_path.exists():
        return None
    try:
        found = read_tuning(parent.tuning_path)
    except RunError as error:
        raise RunError(f"the tuning of this run: {error}") from error
    if found.gain is None or found.chosen == REAL_ONLY or results is None:
        return TunedFacts(found, None, None, "", None)
    arm = next((each.name for each in results.arms if each.kind == "synthetic"), None)
    measured = None if arm is None else _class_mean(results, arm)
    if measured is None:
        return TunedFacts(found, arm, None, "", None)
    mean, interval = measured
    return TunedFacts(found, arm, mean, interval, found.gain.low <= mean <= found.gain.high)


def _class_mean(results: Results, arm: str) -> tuple[float, str] | None:
    for one in results.differences:
        if (one.arm, one.metric) == (arm, "class_mean") and one.baseline == REAL_ONLY:
            return one.mean, "" if one.low is None else one.interval
    return None


def draw_budget(found: Tuning) -> Figure | None:
    """Return the images made against the estimated gain of what each round would choose; None without rounds."""
    if not found.rounds:
        return None
    figure = Figure(figsize=(6.0, 3.4))
    axes = figure.add_subplot()
    axes.axhline(0, color=FAINT, linewidth=0.8)
    for each in found.rounds:
        scores = [100 * tried.score for tried in each.tried]
        axes.plot([each.made] * len(scores), scores, ".", color=REAL, alpha=0.5, markersize=5)
    made = [each.made for each in found.rounds]
    gains = [each.best for each in found.rounds]
    axes.errorbar(
        made,
        [100 * gain.mean for gain in gains],
        yerr=[[100 * (g.mean - g.low) for g in gains], [100 * (g.high - g.mean) for g in gains]],
        color=MADE,
        marker="o",
        capsize=3,
    )
    axes.plot([], [], ".", color=REAL, label="each candidate, as it scored")
    axes.plot([], [], "o-", color=MADE, label="the best by the rule of choice, luck of picking taken off (95 %)")
    axes.set_xlabel("images made in all")
    axes.set_ylabel("gain over real images alone, points", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return figure


def figure_files(found: Tuning) -> dict[str, bytes]:
    """Return the figure of a tuning as PNG and SVG, by file ending; nothing without rounds."""
    files: dict[str, bytes] = {}
    # The same tuning gives the same bytes.
    with drawing(), mpl.rc_context({"svg.hashsalt": "augcond"}):
        figure = draw_budget(found)
        for ending in ("png", "svg") if figure is not None else ():
            sink = io.BytesIO()
            metadata = {"Date": None} if ending == "svg" else None
            figure.savefig(sink, format=ending, dpi=150, metadata=metadata)  # type: ignore[union-attr]
            files[ending] = sink.getvalue()
    return files
