"""The page of a sweep: the table, a figure per axis, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from augcond.evaluation.results import read_results
from augcond.files import replacing_contents
from augcond.report.accuracy import KINDS, Accuracy, ArmLine, draw_gains, metric_cells
from augcond.report.costs import training_cost
from augcond.report.curves import AxisCurves, curves_of, draw_curves
from augcond.report.facts import disk_use
from augcond.report.figures import drawing, inline_svg, save_figure
from augcond.report.page import SweepPage, render_sweep
from augcond.store import RunFolder
from augcond.store.names import FILES

_MOST_BARS = 60
"""Up to so many gains are drawn; the table has all."""


def is_sweep(folder: Path) -> bool:
    """Return whether `folder` holds the table of a sweep."""
    return RunFolder(folder).sweep_path.is_file()


def write_sweep_report(folder: Path, *, on_stage: Callable[[str], None] = lambda stage: None) -> Path:
    """Write FOLDER/report of a sweep from its `sweep.json`, and return the path of its page, `index.html`.

    A report that is there already is replaced, once the new one is whole.

    Args:
        folder: the sweep's.
        on_stage: told what is done now.

    Raises:
        RunError: the results are of another version, or there are none.
        CorruptRunError: they are not what augcond wrote.
    """
    on_stage("reading the sweep")
    results = read_results(RunFolder(folder).sweep_path, FILES["sweep"].mend)
    lines = tuple(ArmLine(arm, KINDS[arm.kind], metric_cells(arm), results.gain(arm.name)) for arm in results.arms)
    accuracy = Accuracy(results, lines, (), ())
    axes = curves_of(results)
    generation, images = _generation(folder)
    with replacing_contents(RunFolder(folder).report_path) as partial:
        on_stage("drawing figures")
        svg = {
            name: save_figure(figure, partial / "figures", name)
            for name, figure in _draw(accuracy, axes).items()
            if figure is not None
        }
        page = SweepPage(
            name=folder.resolve().name,
            accuracy=accuracy,
            axes=axes,
            cost=training_cost(results),
            generation=generation,
            images=images,
            disk=disk_use(folder),
            files=tuple(sorted(path.name for path in (partial / "figures").glob("*"))),
        )
        html = render_sweep(page, {name: inline_svg(text) for name, text in svg.items()})
        (partial / RunFolder(folder).page_path.name).write_text(html, encoding="utf-8")
    return RunFolder(folder).page_path


def _draw(accuracy: Accuracy, axes: tuple[AxisCurves, ...]) -> dict[str, Figure | None]:
    with drawing():
        figures: dict[str, Figure | None] = {
            f"over-{along.key.replace('.', '-')}": draw_curves(along, accuracy.results.on) for along in axes
        }
        figures["accuracy-gain"] = draw_gains(accuracy) if len(accuracy.lines) <= _MOST_BARS else None
    return figures


def _generation(folder: Path) -> tuple[float, int]:
    """Return the seconds that generation took in all runs of a sweep, and the number of their images."""
    seconds, images = 0.0, 0
    for run in RunFolder(folder).cells():
        for marker in run.markers(run.read_plan()) if run.plan_path.exists() else ():
            if marker is not None:
                seconds += marker.seconds
                images += marker.ok
    return seconds, images
