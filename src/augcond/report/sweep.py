"""The page of a sweep: the table, a figure per axis, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from augcond.config import load_config
from augcond.evaluation.results import Results, results_of
from augcond.files import replacing_contents
from augcond.report.accuracy import KINDS, Accuracy, ArmLine, draw_gains, metric_cells
from augcond.report.costs import training_cost
from augcond.report.curves import AxisCurves, curves_of, draw_curves
from augcond.report.facts import disk_use
from augcond.report.figures import drawing, inline_svg, save_figure
from augcond.report.findings import find
from augcond.report.origin import Origin, origin_of_table
from augcond.report.page import SweepPage, render_sweep
from augcond.report.single import single_file
from augcond.report.tables import table_files
from augcond.store import RunFolder
from augcond.store.names import FILES

_PAGE = FILES["page"].pattern.rpartition("/")[2]
_MOST_BARS = 60
"""Up to so many gains are drawn; the table has all."""


def is_sweep(folder: Path) -> bool:
    """Return whether `folder` holds the table of a sweep."""
    return RunFolder(folder).sweep_path.exists()


def write_sweep_report(
    folder: Path, *, single: bool = False, on_stage: Callable[[str], None] = lambda stage: None
) -> Path:
    """Write FOLDER/report of a sweep from its `sweep.json`, and return the path of its page, `index.html`.

    A report that is there already is replaced, once the new one is whole.

    Args:
        folder: the sweep's.
        single: put everything into the page's one file.
        on_stage: told what is done now.

    Raises:
        RunError: the results are of another version, or there are none.
        CorruptRunError: they are not what augcond wrote.
    """
    on_stage("reading the sweep")
    own = RunFolder(folder)
    results = results_of(own)
    with replacing_contents(own.report_path) as partial:
        on_stage("drawing figures")
        about = TableSubject(folder.resolve().name, "sweep", own.cells(), disk_use(folder), _origin(own, results))
        name = write_table_page(partial, results, about)
        if single:
            page = partial / name
            page.write_text(single_file(page.read_text(encoding="utf-8"), partial), encoding="utf-8")
    return own.page_path


@dataclass(frozen=True, slots=True)
class TableSubject:
    """What a page of a table is about.

    Attributes:
        name: its title.
        kind: a sweep, or runs beside each other.
        runs: those that are in it.
        disk: bytes that they take.
        origin: where the numbers are from.
    """

    name: str
    kind: Literal["sweep", "comparison"]
    runs: Sequence[RunFolder]
    disk: int
    origin: Origin


def write_table_page(folder: Path, results: Results, about: TableSubject) -> str:
    """Write the page of one table of several runs to `folder`, with its figures and files, and return its name."""
    lines = tuple(ArmLine(arm, KINDS[arm.kind], metric_cells(arm), results.gain(arm.name)) for arm in results.arms)
    accuracy = Accuracy(results, lines, (), (), find(results))
    axes = curves_of(results)
    generation, images = _generation(about.runs)
    svg = {
        name: save_figure(figure, folder / "figures", name)
        for name, figure in _draw(accuracy, axes).items()
        if figure is not None
    }
    page = SweepPage(
        name=about.name,
        accuracy=accuracy,
        axes=axes,
        cost=training_cost(results),
        generation=generation,
        images=images,
        disk=about.disk,
        files=tuple(sorted(path.name for path in (folder / "figures").glob("*"))),
        origin=about.origin,
        tables=write_tables(folder, results),
        kind=about.kind,
    )
    html = render_sweep(page, {name: inline_svg(text) for name, text in svg.items()})
    (folder / _PAGE).write_text(html, encoding="utf-8")
    return _PAGE


def _origin(folder: RunFolder, results: Results) -> Origin:
    """Return the provenance of a sweep: what its runs share, and the command, as the sweep kept them."""
    path = folder.sweep_table_path("yaml")
    if not path.exists():  # a sweep of 0.1
        return origin_of_table(results, None, "", "augcond sweep config.yaml --over ... (not recorded)")
    config = load_config(path)
    text = path.read_text(encoding="utf-8")
    command, _, values = text.removeprefix("# ").partition("\n")
    return origin_of_table(results, config, values, command)


def write_tables(folder: Path, results: Results | None) -> tuple[str, ...]:
    """Write the table of results for elsewhere, and return the names of its files; none without results."""
    texts = table_files(results) if results is not None else {}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(texts)


def _draw(accuracy: Accuracy, axes: tuple[AxisCurves, ...]) -> dict[str, Figure | None]:
    with drawing():
        figures: dict[str, Figure | None] = {
            f"over-{along.key.replace('.', '-')}": draw_curves(along, accuracy.results.on) for along in axes
        }
        figures["accuracy-gain"] = draw_gains(accuracy) if len(accuracy.lines) <= _MOST_BARS else None
    return figures


def _generation(runs: Sequence[RunFolder]) -> tuple[float, int]:
    """Return the seconds that generation took in all runs, and the number of their images."""
    seconds, images = 0.0, 0
    for run in runs:
        for marker in run.markers(run.read_plan()) if run.plan_path.exists() else ():
            if marker is not None:
                seconds += marker.seconds
                images += marker.ok
    return seconds, images
