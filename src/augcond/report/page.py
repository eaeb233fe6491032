"""The page itself: one HTML file with its style and script inside; pictures and figures lie beside it."""

from __future__ import annotations

import base64
import hashlib
import shlex
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from augcond.evaluation.power import what_it_takes
from augcond.evaluation.verdicts import how_judged, in_words, missing_text
from augcond.progress import format_bytes, format_seconds
from augcond.report.accuracy import SHOWN, Accuracy, shown_changes
from augcond.report.confusions import Confusions
from augcond.report.copies import Copies
from augcond.report.costs import training_cost
from augcond.report.counts import ArmCounts, span
from augcond.report.facts import RunFacts, failures_by_reason, planned_by_recipe
from augcond.report.findings import GROUPS, verdict_lines
from augcond.report.origin import Origin
from augcond.report.quality import Quality
from augcond.report.sample import SampledRow
from augcond.report.tables import plain, swept_keys
from augcond.report.verdict import Answer, percent

if TYPE_CHECKING:
    from augcond.report.costs import TrainingCost
    from augcond.report.curves import AxisCurves
    from augcond.report.tuning import TunedFacts

_NONE = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class MissView:
    """One generated image that misses its class or style, with its pictures' file names (None: cannot be read)."""

    row: SampledRow
    image: str | None
    sources: tuple[tuple[str | None, str], ...]
    score: float
    looks_like: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows.

    Attributes:
        facts: the run.
        answers: the summary.
        quality: None where it was not measured.
        unmeasured: why it was not; empty where it was.
        copies: what generated images repeat; None where it was not measured.
        copied: the pairs of these that look most alike.
        accuracy: None without results.
        counts: what arms are trained on.
        confusions: None without results of these classes.
        origin: where the numbers are from.
        tables: names of the files that hold the table of results.
        gallery: plain values that the script shows.
        wrong_class: worst semantic errors.
        wrong_style: worst domain shifts.
        figures: inline SVG by name.
        files: names of the figure files.
        sources_problem: why the real images cannot be read; empty where they can.
        lost_sources: how many single real images could not be read.
        disk: bytes of the run folder.
        tuned: what a tuning estimated of the run, beside what was measured; None where none chose it.
    """

    facts: RunFacts
    answers: tuple[Answer, ...]
    quality: Quality | None
    unmeasured: str
    copies: Copies | None
    copied: tuple[MissView, ...]
    accuracy: Accuracy | None
    counts: tuple[ArmCounts, ...]
    confusions: Confusions | None
    origin: Origin
    tables: tuple[str, ...]
    gallery: dict[str, object]
    wrong_class: tuple[MissView, ...]
    wrong_style: tuple[MissView, ...]
    figures: dict[str, str]
    files: tuple[str, ...]
    sources_problem: str
    lost_sources: int
    disk: int
    tuned: TunedFacts | None


@dataclass(frozen=True, slots=True)
class SweepPage:
    """All that the page of a sweep shows.

    Attributes:
        name: the folder's own name.
        accuracy: the lines of the table, each gain over the arm's own baseline.
        axes: the curves along each axis.
        cost: time of training and evaluation.
        generation: seconds of generation, over all runs of the sweep.
        images: images of its runs; one that several runs share counts in each.
        disk: bytes of the sweep's folder.
        files: names of the figure files.
        origin: where the numbers are from.
        tables: names of the files that hold the table.
        kind: what is shown.
    """

    name: str
    accuracy: Accuracy
    axes: tuple[AxisCurves, ...]
    cost: TrainingCost
    generation: float
    images: int
    disk: int
    files: tuple[str, ...]
    origin: Origin
    tables: tuple[str, ...]
    kind: Literal["sweep", "comparison"] = "sweep"


def render_page(page: Page) -> str:
    """Return the HTML of `page`; every text of the run is escaped."""
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    return (
        _environment()
        .get_template("index.html")
        .render(
            page=page,
            facts=page.facts,
            status=page.facts.status,
            quality=page.quality,
            accuracy=page.accuracy,
            figures={name: Markup(svg) for name, svg in page.figures.items()},  # noqa: S704 - drawn and escaped by matplotlib
            reasons=failures_by_reason(page.facts),
            folder=shlex.quote(page.facts.name),
            planned=planned_by_recipe(page.facts),
            changes=shown_changes(page.accuracy) if page.accuracy else (),
            cost=training_cost(page.accuracy.results) if page.accuracy else None,
            metric_names=[title for _, title in SHOWN],
            groups=GROUPS,
            compared=_compared(page.accuracy),
            columns=_columns(page.accuracy),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def render_sweep(page: SweepPage, figures: dict[str, str]) -> str:
    """Return the HTML of a sweep's page; every text of the sweep is escaped.

    Args:
        page: what it shows.
        figures: inline SVG by name.
    """
    return (
        _environment()
        .get_template("sweep.html")
        .render(
            page=page,
            figures={name: Markup(svg) for name, svg in figures.items()},  # noqa: S704 - drawn and escaped by matplotlib
            metric_names=[title for _, title in SHOWN],
            swept=swept_keys(page.accuracy.results),
            columns=_columns(page.accuracy),
            style=Markup(_asset("report.css")),  # noqa: S704 - our own file
        )
    )


def _columns(accuracy: Accuracy | None) -> list[int]:
    """Return which metrics of `SHOWN` beside the first have a column: those that some arm has, and say something."""
    if accuracy is None:
        return []
    lines = accuracy.lines
    found = [place for place in range(1, len(SHOWN)) if any(line.cells[place][0] is not None for line in lines)]
    means = [(line.arm.mean.overall, line.arm.mean.class_mean) for line in lines]
    alike = all(abs(overall - mean) < 1e-9 for overall, mean in means)
    return [place for place in found if not (alike and SHOWN[place][0] == "class_mean")]


def _compared(accuracy: Accuracy | None) -> list[int]:
    """Return which metrics of `GROUPS` have a column: those in which some arm was compared with another."""
    found = [one for ones in accuracy.findings.against.values() for one in ones] if accuracy else []
    return [place for place in range(len(GROUPS)) if any(one.cells[place] for one in found)]


def _asset(name: str) -> str:
    return files("augcond.report").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("augcond.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        percent=lambda value: _NONE if value is None else percent(value, 1),
        number=_number,
        points=lambda value: _NONE if value is None else f"{100 * value:+.1f}",
        bytes=format_bytes,
        seconds=format_seconds,
        in_words=in_words,
        how_judged=how_judged,
        missing_text=missing_text,
        what_it_takes=what_it_takes,
        span=span,
        shown_metrics=lambda metrics: [getattr(metrics, name) for name, _ in SHOWN],
        plain=plain,
        verdict_lines=verdict_lines,
        last_of=lambda key: key.rpartition(".")[2],
    )
    return environment


def _number(value: float | None) -> str:
    """Return about four significant digits, in columns that line up, without an exponent where that reads well."""
    if value is None:
        return _NONE
    if value != 0 and abs(value) < 5e-4:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
