"""From a run folder to RUN/report: the page, its pictures, and the figures as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from matplotlib.figure import Figure

from augcond.errors import ConfigError, GeneratorError
from augcond.evaluation.results import Results, results_of
from augcond.files import replacing_contents
from augcond.guest import as_guest
from augcond.report.accuracy import Accuracy, draw_class_changes, draw_group_gains, view_accuracy
from augcond.report.confusions import Confusions, view_confusions
from augcond.report.copies import Copies, NearestPair, measure_copies
from augcond.report.counts import ArmCounts, arm_counts
from augcond.report.facts import RunFacts, disk_use, read_facts
from augcond.report.figures import draw_counts, draw_shares, drawing, inline_svg, save_figure
from augcond.report.judge import choose_judge
from augcond.report.origin import origin_of
from augcond.report.page import MissView, Page, render_page
from augcond.report.pictures import SourceImages, Thumbnails, gallery_data
from augcond.report.quality import Miss, Quality, measure_quality
from augcond.report.sample import Group, gallery_positions, read_groups, read_rows
from augcond.report.sheet import draw_gallery
from augcond.report.single import single_file
from augcond.report.sweep import is_sweep, write_sweep_report, write_tables
from augcond.report.tuning import tuned_facts
from augcond.report.verdict import answers
from augcond.store import RunFolder


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What a report shows and measures.

    Attributes:
        metrics: measure the images with a feature extractor.
        features: its name; see `evaluation.features` in a config, which says it where None.
        samples: images per recipe, and real images, that are measured.
        pictures: about so many pictures are in the gallery, sources included.
        single: put everything into the page's one file.
    """

    metrics: bool = True
    features: str | None = None
    samples: int = 1000
    pictures: int = 2500
    single: bool = False

    def __post_init__(self) -> None:
        if self.samples < 2 or self.pictures < 1:
            raise ConfigError(f"a report needs samples >= 2 and pictures >= 1, not {self.samples} and {self.pictures}")


@as_guest
def write_report(
    folder: RunFolder, settings: ReportSettings | None = None, *, on_stage: Callable[[str], None] = lambda stage: None
) -> Path:
    """Write RUN/report and return the path of its page, `index.html`.

    A report that is there already is replaced, once the new one is whole. The folder of a sweep gets the page of the
    sweep, which measures no images.

    Args:
        folder: the run, which may be unfinished; or the folder of a sweep.
        settings: the defaults where None.
        on_stage: told what is done now.

    Raises:
        RunError: there is no run there, or its results are of another version.
        CorruptRunError: the run is not what augcond wrote.
        GeneratorError: the feature extractor cannot be loaded.
    """
    if is_sweep(folder.path):
        return write_sweep_report(folder.path, single=bool(settings and settings.single), on_stage=on_stage)
    settings = settings or ReportSettings()
    on_stage("reading the run")
    facts = read_facts(folder)
    results = results_of(folder) if folder.results_path().exists() else None
    with replacing_contents(folder.report_path) as partial:
        sources = SourceImages(facts)
        quality, unmeasured = _measure(facts, sources, settings, on_stage)
        copies = measure_copies(facts, sources, samples=settings.samples) if settings.metrics else None
        on_stage("writing pictures")
        page = _write_pictures(_Materials(facts, sources, quality, copies, results), partial, settings.pictures)
        on_stage("drawing figures")
        accuracy = view_accuracy(results) if results is not None else None
        counts = arm_counts(facts, results)
        drawn = _draw(facts, counts, quality, accuracy)
        sheet = draw_gallery(page.groups, sources, facts.recipes)
        svg = {
            name: save_figure(figure, partial / "figures", name)
            for name, figure in (drawn | {"gallery": sheet}).items()
            if figure is not None
        }
        if quality is not None:
            pq.write_table(quality.judged, partial / "misses.parquet")
        html = render_page(
            Page(
                facts=facts,
                answers=answers(facts, quality, results, disk := disk_use(folder.path), copies),
                quality=quality,
                unmeasured=unmeasured,
                copies=copies,
                copied=page.copied,
                accuracy=accuracy,
                counts=counts,
                confusions=page.confusions,
                origin=origin_of(facts, results),
                tables=write_tables(partial, results),
                gallery=page.gallery,
                wrong_class=page.wrong_class,
                wrong_style=page.wrong_style,
                figures={name: inline_svg(text) for name, text in svg.items() if name in drawn},
                files=tuple(sorted(path.name for path in (partial / "figures").glob("*"))),
                sources_problem=sources.problem,
                lost_sources=page.lost_sources,
                disk=disk,
                tuned=tuned_facts(folder, results),
            )
        )
        html = single_file(html, partial) if settings.single else html
        (partial / folder.page_path.name).write_text(html, encoding="utf-8")
    return folder.page_path


def _measure(
    facts: RunFacts, sources: SourceImages, settings: ReportSettings, on_stage: Callable[[str], None]
) -> tuple[Quality | None, str]:
    """Return what was measured, or None and the reason."""
    if not settings.metrics:
        return None, "Not measured: the report was made with --no-metrics."
    if not facts.made.any():
        return None, "Not measured: no image has been made yet."
    if sources.problem:
        return None, f"Not measured: the real images to compare with cannot be read ({sources.problem})."
    features = settings.features or facts.config.evaluation.features
    on_stage(f"measuring with {features}")
    try:
        judge = choose_judge(facts, features)
    except GeneratorError as error:
        raise GeneratorError(f"{error}; augcond report --no-metrics makes the page without it") from error
    quality = measure_quality(facts, sources, judge, samples=settings.samples)
    return quality, "" if quality else "Not measured: there are too few real images to compare with."


@dataclass(frozen=True, slots=True)
class _Pictures:
    gallery: dict[str, object]
    groups: list[Group]
    wrong_class: tuple[MissView, ...]
    wrong_style: tuple[MissView, ...]
    copied: tuple[MissView, ...]
    confusions: Confusions | None
    lost_sources: int


@dataclass(frozen=True, slots=True)
class _Materials:
    facts: RunFacts
    sources: SourceImages
    quality: Quality | None
    copies: Copies | None
    results: Results | None


def _write_pictures(of: _Materials, folder: Path, pictures: int) -> _Pictures:
    facts, sources, quality, copies = of.facts, of.sources, of.quality, of.copies
    chosen = gallery_positions(facts, pictures)
    thumbnails = Thumbnails.sized_for(folder, sources, min(pictures, sum(2 + len(group) for group in chosen)))
    # First the misses: they are few, and the gallery may reach the limit.
    wrong_class = _views(facts, quality.wrong_class if quality else (), thumbnails)
    wrong_style = _views(facts, quality.wrong_style if quality else (), thumbnails)
    copied = _pair_views(facts, copies.nearest if copies else (), thumbnails)
    fits = of.results is not None and of.results.classes == facts.plan.classes
    confusions = view_confusions(facts, of.results, thumbnails) if of.results is not None and fits else None
    first: list[Group] = []
    gallery = gallery_data(facts, _keep_first(read_groups(facts, chosen), first), thumbnails)
    return _Pictures(gallery, first, wrong_class, wrong_style, copied, confusions, len(thumbnails.lost))


_SHEET_LINES = 6


def _keep_first(groups: Iterable[Group], first: list[Group]) -> Iterator[Group]:
    for group in groups:
        if len(first) < _SHEET_LINES:
            first.append(group)
        yield group


def _views(facts: RunFacts, misses: tuple[Miss, ...], thumbnails: Thumbnails) -> tuple[MissView, ...]:
    rows = {row.position: row for row in read_rows(facts, [miss.position for miss in misses])}
    return tuple(
        MissView(
            row=(row := rows[miss.position]),
            image=thumbnails.generated(row),
            sources=tuple((thumbnails.source(key), key) for key in dict.fromkeys(row.source_keys)),
            score=miss.score,
            looks_like=miss.looks_like,
        )
        for miss in misses
    )


def _pair_views(facts: RunFacts, pairs: tuple[NearestPair, ...], thumbnails: Thumbnails) -> tuple[MissView, ...]:
    rows = {row.position: row for row in read_rows(facts, sorted({pair.position for pair in pairs}))}
    return tuple(
        MissView(
            row=(row := rows[pair.position]),
            image=thumbnails.generated(row),
            # Test images are named only: the page is passed on.
            sources=((thumbnails.source(pair.key) if pair.of != "test" else None, pair.key),),
            score=pair.error,
            looks_like=f"the {pair.of} image {pair.key}" + (", mirrored" if pair.mirrored else ""),
        )
        for pair in pairs
    )


def _draw(
    facts: RunFacts, counts: tuple[ArmCounts, ...], quality: Quality | None, accuracy: Accuracy | None
) -> dict[str, Figure | None]:
    with drawing():
        figures: dict[str, Figure | None] = {
            "class-counts": draw_counts(facts.classes, counts) if facts.classes else None,
            "misses": draw_shares(quality) if quality is not None else None,
            "class-change": draw_class_changes(accuracy) if accuracy is not None else None,
        }
        if accuracy is not None:
            for number, found in enumerate(accuracy.findings.against.values(), start=1):
                figures[f"gain-{number}"] = draw_group_gains(found, accuracy.results.on)
        return figures
