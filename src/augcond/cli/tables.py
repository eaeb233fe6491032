"""Print what the stages return, as tables for people. Class names are data: they are never read as markup."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.padding import Padding
from rich.table import Table

from augcond.cli.output import visible as _visible
from augcond.datasets.formats import describe_ignored
from augcond.evaluation.results import share_text
from augcond.evaluation.verdicts import how_judged, in_words, missing_text
from augcond.generators.families import INPUT_WORDS
from augcond.progress import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from augcond.datasets import DatasetSummary
    from augcond.datasets.summary import NearDuplicate
    from augcond.engine import Summary
    from augcond.evaluation.results import Results
    from augcond.experiments.forecast import Forecast, PlanSummary
    from augcond.generators.families import GeneratorEntry
    from augcond.store import Audit, RunStatus
    from augcond.store.disk import Found
    from augcond.store.status import WorkerStatus
    from augcond.training.cards import ModelCard


SHOWN = 40
"""Rows of a table before the rest is only counted."""

_UNBOUNDED = 10_000
"""Columns of a terminal that everything fits into."""


def print_plan(summary: PlanSummary, console: Console) -> None:
    """Print a table of classes, the total, and the cost."""
    table = Table("class", "prompted as")
    table.add_column("real", justify="right")
    table.add_column("to make", justify="right")
    for entry in summary.classes[:SHOWN]:
        table.add_row(_visible(entry.class_id), _visible(entry.class_name), f"{entry.real:,}", f"{entry.planned:,}")
    console.print(table)
    _print_rest(len(summary.classes), "classes", console)
    console.print(f"{summary.total:,} images by {', '.join(summary.recipes) or 'no recipe'}")
    if summary.seconds is not None and summary.bytes is not None:
        console.print(
            f"about {format_seconds(summary.seconds)} with one process and {format_bytes(summary.bytes)} of disk, "
            f"from {summary.timed_images} images timed on this machine"
        )
    if summary.shard_seconds is not None and summary.shard_size is not None:
        shard = f"a shard of {summary.shard_size:,} takes about {format_seconds(summary.shard_seconds)}"
        lost = "which is what a job that is stopped loses at most"
        if summary.better_shard_size is None:
            console.print(f"{shard}, {lost}")
        else:
            console.print(f"{shard}, {lost}: engine.shard_size={summary.better_shard_size} loses five minutes")
    _print_warnings(summary.warnings, console)


def print_dataset(summary: DatasetSummary, console: Console) -> None:
    """Print classes, shot groups, and what cannot be used and why."""
    table = Table("class", "prompted as")
    table.add_column("images", justify="right")
    table.add_column("unusable", justify="right")
    table.add_column("shots")
    for entry in summary.classes[:SHOWN]:
        names = _visible(entry.class_id), _visible(entry.class_name)
        table.add_row(*names, f"{entry.images:,}", f"{entry.rejected:,}", entry.shot_group)
    console.print(table)
    _print_rest(len(summary.classes), "classes", console)
    groups = ", ".join(f"{group.classes:,} {group.shot_group}" for group in summary.shot_groups)
    console.print(f"{summary.images:,} images in {len(summary.classes):,} classes ({groups})")
    if summary.width and summary.height:
        console.print(
            f"width {summary.width.lowest} to {summary.width.highest} pixels (median {summary.width.median:g}), "
            f"height {summary.height.lowest} to {summary.height.highest} (median {summary.height.median:g})"
        )
    if summary.ignored:
        kinds = describe_ignored(summary.ignored)
        console.print(f"{_counted(len(summary.ignored), 'file')} ignored, no image by its name: {_visible(kinds)}")
    for folder in summary.skipped[:SHOWN]:
        console.print(f"skipped: {_visible(folder.path)}: {folder.reason}", soft_wrap=True)
    _print_rest(len(summary.skipped), "skipped folders", console)
    if summary.rejected:
        console.print(f"{_counted(len(summary.rejected), 'file')} cannot be used:")
        for file in summary.rejected[:SHOWN]:
            console.print(f"  {_visible(file.key)}: {_visible(file.reason)}", soft_wrap=True)
        _print_rest(len(summary.rejected), "files", console)
    for duplicate in summary.duplicates[:SHOWN]:
        kind = "under several classes" if len(duplicate.class_ids) > 1 else "twice"
        console.print(f"the same image {kind}: {_visible(', '.join(duplicate.keys))}", soft_wrap=True)
    _print_rest(len(summary.duplicates), "duplicates", console)
    for pair in summary.near_duplicates[:SHOWN]:
        console.print(_near_duplicate(pair), soft_wrap=True)
    _print_rest(len(summary.near_duplicates), "pairs that look the same", console)
    if summary.blank:
        shown = _visible(", ".join(summary.blank[:3]))
        console.print(f"{_counted(len(summary.blank), 'image')} of nearly one colour, such as {shown}", soft_wrap=True)
    _print_warnings((*summary.warnings, *summary.names), console)


def _near_duplicate(pair: NearDuplicate) -> str:
    """Return what two images have in common, and what to do where it matters."""
    one, other = (
        f"{_visible(key)}{'' if role == 'train' else f' ({role})'}"
        for key, role in zip(pair.keys, pair.roles, strict=True)
    )
    what = "the same picture" if pair.certain else "nearly the same picture"
    text = f"{what}{', mirrored' if pair.mirrored else ''}: {one} and {other}"
    if pair.roles[0] != pair.roles[1]:
        return f"{text}: {'take it out of one of the two' if pair.certain else 'look at both'}"
    if pair.class_ids[0] != pair.class_ids[1]:
        return f"{text}: of two classes, so {'one label is wrong' if pair.certain else 'look at both'}"
    return text


def _print_warnings(warnings: Sequence[str], console: Console) -> None:
    for warning in warnings[:SHOWN]:
        console.print(f"look at this: {_visible(warning)}", soft_wrap=True)
    _print_rest(len(warnings), "warnings", console)


def print_summary(summary: Summary, run: Path, console: Console) -> None:
    """Print what one call of generate did."""
    if summary.shards == 0:
        console.print(f"nothing left to do: {_counted(summary.skipped, 'shard')} done before in {run}", soft_wrap=True)
        return
    attempted = summary.ok + summary.failed
    console.print(
        f"{summary.ok:,} images made, {summary.failed:,} failed ({attempted:,} attempted) in "
        f"{format_seconds(summary.seconds)}; {_counted(summary.shards, 'shard')} in {run}",
        soft_wrap=True,
    )
    _print_reasons(summary.reasons, console)


def print_generators(entries: Iterable[GeneratorEntry], console: Console) -> None:
    """Print what one should know of each family of generators."""
    for entry in entries:
        console.print(entry.name)
        lines = {
            "model": entry.model or "none",
            "licence": (entry.licence or "not stated") + ("" if entry.commercial else " - NOT FOR COMMERCIAL USE"),
            "memory": "not stated" if entry.weights_gb is None else f"{entry.weights_gb:g} GB of weights in 16 bits",
            "takes": "told once it is loaded"
            if entry.inputs is None
            else ", ".join(words for name, words in INPUT_WORDS.items() if name in entry.inputs),
            "embedding": entry.embedding or "not stated",
            "own": ", ".join(entry.settings) or "no settings",
            "also": ", ".join(entry.options) or "none of cache, lora, memory and vae",
            "note": entry.notes or "none",
        }
        for label, text in ({"error": entry.error} if entry.error else lines).items():
            console.print(f"  {label:<10} {text}", soft_wrap=True)


def print_status(status: RunStatus, console: Console) -> None:
    """Print how far a run is."""
    console.print(
        f"{status.attempted:,} of {status.planned:,} attempted: {status.ok:,} ok, {status.failed:,} failed; "
        f"{status.left:,} left"
    )
    _print_reasons(status.reasons, console)
    if status.rejected:
        console.print(
            f"{status.rejected:,} of these images are rejected (augcond reject), and left out of what follows"
        )
    console.print(f"{status.shards_done:,} of {_counted(status.shards, 'shard')} done, {format_bytes(status.bytes)}")
    if status.images_per_second is not None and status.seconds_left is not None:
        by = _counted(len(status.working) or 1, "worker")
        left = f", {format_seconds(status.seconds_left)} left with {by}" if status.left else ""
        console.print(f"{status.images_per_second:,.2f} images/s{left}")
    for worker in status.workers:
        console.print(_worker_line(worker), soft_wrap=True)
    if status.disk:
        kinds = ", ".join(f"{kind} {format_bytes(size)}" for kind, size in list(status.disk.items())[:6] if size)
        console.print(f"on disk {format_bytes(sum(status.disk.values()))}: {kinds}", soft_wrap=True)
    if status.lost:
        console.print(f"claims of workers that are not known: {', '.join(status.lost)}", soft_wrap=True)


def _worker_line(worker: WorkerStatus) -> str:
    at = ", ".join(worker.shards) or "no shard"
    rate = "" if worker.images_per_second is None else f", {worker.images_per_second:,.2f} images/s"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(worker.since))
    gone = f"; gone for {format_seconds(worker.unheard)}: the next worker takes its claims over" if worker.stale else ""
    where = f"{_visible(worker.host)} {worker.pid} {worker.device}".rstrip()
    return f"worker on {where} since {since}: at {at}, {worker.images:,} images{rate}{gone}"


def print_spare(files: Sequence[Found], run: Path, console: Console) -> None:
    """Print what of a run can go, by kind."""
    total = sum(file.bytes for file in files)
    console.print(f"{run}: {_counted(len(files), 'file')} to remove, {format_bytes(total)}", soft_wrap=True)
    for kind, count in Counter(file.kind for file in files).most_common():
        size = sum(file.bytes for file in files if file.kind == kind)
        console.print(f"  {count:,} x {kind}, {format_bytes(size)}", soft_wrap=True)


def print_audit(audit: Audit, console: Console) -> None:
    """Print what an audit found, and what it looked at."""
    for title, texts in (("problem", audit.problems), ("repaired", audit.repaired), ("not checked", audit.uncovered)):
        for text in texts[:SHOWN]:
            console.print(f"{title}: {_visible(text)}", soft_wrap=True)
        _print_rest(len(texts), f"{title} lines", console)
    left = f", {_counted(audit.shards_left, 'shard')} not done yet" if audit.shards_left else ""
    verdict = "sound" if not audit.problems else f"{len(audit.problems)} problem{'s' * (len(audit.problems) != 1)}"
    images, failed = _counted(audit.ok, "image"), _counted(audit.failed, "failed row")
    rejected = f" ({audit.rejected:,} rejected)" if audit.rejected else ""
    console.print(f"{verdict}: {_counted(audit.shards, 'shard')} read, {images}{rejected}, {failed}{left}")
    for title, counts in (
        ("as recorded", {**audit.verified, "source image": audit.sources}),
        ("nothing recorded to compare with", audit.unverified),
    ):
        if kinds := ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if count):
            console.print(f"{title}: {kinds}", soft_wrap=True)
    if audit.unknown:
        names = ", ".join(map(_visible, audit.unknown[:SHOWN]))
        console.print(f"not written by augcond ({len(audit.unknown):,}): {names}", soft_wrap=True)


def print_models(cards: Sequence[ModelCard], run: Path, console: Console) -> None:
    """Print which models a run has."""
    rows = []
    for card in cards:
        numbers = (card.seeds.training, card.real_images, card.synthetic_images, card.screened_out, card.config.steps)
        rows.append((card.arm, *(f"{number:,}" for number in numbers), f"{card.history[-1][1]:.4f}"))
    _print_arms(("arm", "seed", "real", "synthetic", "screened out", "steps", "loss"), rows, console)
    for card in (card for card in cards if card.note):
        console.print(f"  {card.arm}, seed {card.seeds.training}: {card.note}", soft_wrap=True)
    console.print(f"{_counted(len(cards), 'model')} in {run / 'models'}; augcond evaluate judges them", soft_wrap=True)


def _print_arms(titles: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a line per arm: as a table, or where the terminal is too narrow for one, each as a paragraph.

    A name is what arms are told apart by, and copied to --set: it is broken nowhere.
    """
    if _print_if_it_fits(titles, rows, console):
        return
    for name, *values in rows:
        said = ", ".join(f"{title} {value}" for title, value in zip(titles[1:], values, strict=True) if value)
        console.print(f"{name}:", soft_wrap=True)
        console.print(Padding(said, (0, 0, 0, 2)))


def _print_if_it_fits(titles: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> bool:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    fits = console.measure(table, options=console.options.update(max_width=_UNBOUNDED)).maximum <= console.width
    if fits:
        console.print(table)
    return fits


def print_results(results: Results, console: Console) -> None:
    """Print the accuracies of every arm, and what each gains on the first."""
    if results.leaky:
        console.print(f"LEAKY: these numbers come from a protocol that leaks ({', '.join(results.leaks)})")
    base = results.arms[0].name
    balanced = all(abs(arm.mean.class_mean - arm.mean.overall) < 1e-9 for arm in results.arms)
    shown = ("many", "medium", "few") if balanced else ("class_mean", "many", "medium", "few")
    rows = []
    for arm in results.arms:
        gain = results.gain(arm.name, base)
        rows.append(
            (
                f"{arm.name}{' (leaky)' if arm.leaky else ''}",
                share_text(arm.mean.overall, arm.spread.overall if arm.spread else None),
                *(share_text(getattr(arm.mean, name)) for name in shown),
                gain.text if gain else "",
            )
        )
    titles = ("arm", "overall", *(name.replace("_", " ") for name in shown), "gain")
    if _print_if_it_fits(titles, rows, console):
        pass
    elif _print_if_it_fits(titles[:-1], [row[:-1] for row in rows], console):
        for name, *_, said in (row for row in rows if row[-1]):
            console.print(f"  {name}: {said}", soft_wrap=True)
    else:
        _print_arms(titles, rows, console)
    seeds = len(results.arms[0].seeds)
    console.print(
        f"percent of {results.test_images:,} {results.on} images by {results.model}, mean and spread over {seeds} "
        f"training seed{'s' if seeds != 1 else ''}; gain: overall - {base}, paired, with its 95 % interval",
        soft_wrap=True,
    )
    for one in (one for one in results.differences if one.family):
        console.print(f"  {one.arm} over {one.baseline}: {in_words(one)}", soft_wrap=True)
    for line in filter(None, (how_judged(results), missing_text(results))):
        console.print(line, soft_wrap=True)


def print_forecast(found: Forecast, console: Console) -> None:
    """Print what a run will make and take, where each number is from, and what is missing."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    _print_plan(found, console)
    for stage in ("generation", "training"):
        costs = [cost for cost in found.costs if cost.stage == stage]
        if not costs:
            continue
        table = Table("GPU")
        table.add_column(f"GPU hours of {stage}", justify="right")
        for cost in costs:
            table.add_row(cost.device, _hours(cost.hours))
        console.print(table)
        say(f"  {costs[0].source}")
        for assumption in costs[0].assumptions:
            say(f"  assumed: {assumption}")
    for stage in found.unrated:
        hint = "; augcond plan CONFIG times a few images on this machine" if stage == "generation" else ""
        say(f"{stage}: no published rate for this model{hint}")
    if found.disk is not None:
        low, high = (format_bytes(size) for size in found.disk)
        say(f"disk: {low} to {high}")
        say(f"  {found.disk_source}")
    if not found.missing:
        say("nothing is missing")
    for title, fatal in (("this stops the run:", True), ("look at this:", False)):
        entries = [entry for entry in found.missing if bool(entry.error) is fatal]
        if entries:
            say(title)
        for entry in entries:
            lines = entry.detail.splitlines()
            say(f"  {entry.what}: {lines[0]}")
            for line in lines[1:]:
                say(f"    {line}")


def _hours(hours: float) -> str:
    if hours < 0.1:
        return "under 0.1"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _print_plan(found: Forecast, console: Console) -> None:
    if not found.images:
        console.print("the plan cannot be told without the data", soft_wrap=True)
        return
    origin = "" if found.counted == "data" else f" (by {found.counted}: the data are missing)"
    real = "an unknown number of" if found.real is None else f"{found.real:,}"
    console.print(f"{real} real training images of {found.classes:,} classes{origin}", soft_wrap=True)
    by_recipe = ", ".join(f"{count:,} by {recipe}" for recipe, count in found.images.items())
    console.print(f"{found.total:,} images to make: {by_recipe}", soft_wrap=True)
    if found.held_out:
        parts = ", ".join(f"{count:,} for {on}" for on, count in found.held_out.items())
        console.print(f"real images that are not trained on: {parts}", soft_wrap=True)


def _counted(number: int, noun: str) -> str:
    """Return a number of things, such as `1 shard` or `2,000 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print_reasons(reasons: dict[str, int], console: Console) -> None:
    for reason, count in reasons.items():
        console.print(f"  {count:,} x {_visible(reason)}", soft_wrap=True)


def _print_rest(total: int, what: str, console: Console) -> None:
    if total > SHOWN:
        console.print(f"... and {total - SHOWN:,} more {what} (--json shows all)")
