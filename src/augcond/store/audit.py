"""Audit a run: every key once, every image decodes, every source is a training image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from augcond.datasets import list_images
from augcond.datasets.contents import changed_images
from augcond.errors import AugcondError, CorruptRunError, ImageError, RunError
from augcond.files import TEMPORARY, file_sha256
from augcond.planning import PlanRow
from augcond.progress import NoProgress, Progress
from augcond.sealed import MEND_DISK
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.images import decode_stored
from augcond.store.names import FILES
from augcond.store.plans import RunPlan
from augcond.store.rejection import rejected_keys
from augcond.store.shards import COLUMNS, FAILED, OK, shard_columns, shard_rows
from augcond.store.verifying import set_aside_model, verify_files


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        shards: committed shards that were read.
        shards_left: shards of the plan that are not done; no problem in itself.
        ok: images that are there and decode.
        failed: rows that are recorded as failed.
        problems: one line per broken promise; empty for a sound run.
        verified: how many other files are what was recorded, by kind as in `augcond.store.folder.FILES`.
        unverified: how many have nothing recorded: those of 0.1, and those that nothing is read from again.
        sources: source images that were compared with their hash.
        uncovered: what could not be looked at, and why.
        unknown: paths in the folder that augcond did not write.
        repaired: what was set aside, and what makes it anew; their problems are mended once that has run.
        rejected: of the images, those that a person rejected.
    """

    shards: int
    shards_left: int
    ok: int
    failed: int
    problems: tuple[str, ...]
    verified: Mapping[str, int] = field(default_factory=dict)
    unverified: Mapping[str, int] = field(default_factory=dict)
    sources: int = 0
    uncovered: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    rejected: int = 0


def audit_run(folder: RunFolder, *, repair: bool = False, progress: Progress | None = None) -> Audit:
    """Read every file of a run, and compare each with what was recorded, and with the plan and the sources.

    Args:
        folder: the run.
        repair: set aside the markers of shards, and the cards of models, that are not what was committed, so that the
            next `generate` and `train` make them anew. Nothing else is touched.
        progress: is told how many shards are read.

    Raises:
        RunError: there is no run there, and no sweep.
    """
    if cells := folder.cells():
        return _sum(folder, [(cell, audit_run(cell, repair=repair)) for cell in cells])
    if not folder.exists and not folder.plan_path.exists():
        folder.read_plan()  # which says what is missing
    files = verify_files(folder)
    problems, uncovered = [*files.problems, *_missing(folder)], []
    shards = _Shards()
    sources: dict[str, tuple[int, str]] = {}
    rejected: frozenset[str] = frozenset()
    try:
        plan = folder.read_plan()
        sources = folder.read_sources()
    except RunError as error:
        if folder.plan_path.exists():
            uncovered.append(f"shards: {error}")
    else:
        shards = _audit_shards(folder, plan, sources, progress or NoProgress())
        problems += shards.problems
        try:
            rejected = rejected_keys(folder)
        except CorruptRunError as error:
            problems += [str(error)] if str(error) not in problems else []
        problems += _rejected_problems(plan, rejected)
    compared, changed = _compare_photos(folder, sources, uncovered)
    problems += changed
    return Audit(
        shards.read,
        shards.left,
        shards.ok,
        shards.failed,
        tuple(problems),
        dict(files.verified),
        dict(files.unverified),
        compared,
        tuple(uncovered),
        tuple(files.unknown),
        tuple(_repair(folder, shards.unfit, files.unfit_models)) if repair else (),
        len(rejected),
    )


def _rejected_problems(plan: RunPlan, rejected: frozenset[str]) -> Iterator[str]:
    for key in sorted(rejected.difference(plan.plan.table["key"].to_pylist())):
        yield f"{key!r} is rejected, and no key of the plan"


def _missing(folder: RunFolder) -> Iterator[str]:
    """Yield which files the run lacks that cannot lack: what only other files say of it was not looked at."""
    if not folder.config_path.exists():
        yield f"{folder.config_path} is missing: {FILES['config'].mend}"
    if folder.plan_path.exists():
        if not folder.sources_path.exists():
            yield f"{folder.sources_path} is missing: {FILES['sources'].mend}"
    elif any(folder.path.glob(FILES["shard"].glob)):
        yield (
            f"{folder.plan_path} is missing, and nothing says what the shards are: augcond generate plans anew, and "
            "keeps those that are defined alike"
        )


def _sum(folder: RunFolder, cells: Sequence[tuple[RunFolder, Audit]]) -> Audit:
    """Return what was found in a sweep: in its own files, and in all its runs."""
    files = verify_files(folder)

    def named(which: Callable[[Audit], Sequence[str]]) -> tuple[str, ...]:
        return tuple(f"{cell.path.relative_to(folder.path)}: {text}" for cell, audit in cells for text in which(audit))

    audits = [audit for _, audit in cells]
    return Audit(
        sum(audit.shards for audit in audits),
        sum(audit.shards_left for audit in audits),
        sum(audit.ok for audit in audits),
        sum(audit.failed for audit in audits),
        (*files.problems, *named(lambda audit: audit.problems)),
        dict(sum((Counter(audit.verified) for audit in audits), files.verified)),
        dict(sum((Counter(audit.unverified) for audit in audits), files.unverified)),
        sum(audit.sources for audit in audits),
        named(lambda audit: audit.uncovered),
        (*files.unknown, *named(lambda audit: audit.unknown)),
        named(lambda audit: audit.repaired),
        sum(audit.rejected for audit in audits),
    )


def _repair(folder: RunFolder, shards: Sequence[tuple[int, ShardMarker]], models: Sequence[Path]) -> Iterator[str]:
    for number, marker in shards:
        folder.set_aside(number, marker)
        yield f"shard {number:05d} does not count as done any more: augcond generate makes it anew"
    for model in models:
        set_aside_model(model)
        yield f"model {model.relative_to(folder.path)} is set aside: augcond train trains it anew"


def _compare_photos(
    folder: RunFolder, sources: Mapping[str, tuple[int, str]], uncovered: list[str]
) -> tuple[int, list[str]]:
    """Return how many source images were read and compared with their hash, and what is wrong with them."""
    if not sources:
        return 0, []
    try:
        reader = list_images(folder.read_config().data).reader
    except (AugcondError, OSError) as error:
        uncovered.append(f"source images: {error}")
        return 0, []

    recorded = {key: sha256 for key, (_, sha256) in sources.items()}
    mend = "bring it back, or name another folder as `run`"
    return len(recorded), [f"source image {key!r}: {why}; {mend}" for key, why in changed_images(reader, recorded)]


@dataclass(slots=True)
class _Shards:
    read: int = 0
    left: int = 0
    ok: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)
    unfit: list[tuple[int, ShardMarker]] = field(default_factory=list)


def _audit_shards(folder: RunFolder, plan: RunPlan, sources: dict[str, tuple[int, str]], progress: Progress) -> _Shards:
    markers = folder.markers(plan)
    found = _Shards(read=sum(marker is not None for marker in markers))
    found.left = len(markers) - found.read
    found.problems += _stray_files(folder, plan)
    keys = Counter(plan.plan.table["key"].to_pylist())
    found.problems += [f"key {key!r} stands {count} times in the plan" for key, count in keys.items() if count > 1]
    progress.start(found.read)
    for number, marker in enumerate(markers):
        if marker is None:
            continue
        try:
            problems = list(_shard_problems(folder, plan, number, marker, sources))
        except OSError as error:
            # It may be whole, so that nothing is set aside.
            found.problems.append(f"shard {number:05d}: cannot be read: {error.strerror}; {MEND_DISK}")
            continue
        now = folder.done(number, plan.fingerprints[number]) if problems else marker
        if now is not None and now != marker:
            # A worker has just made it anew.
            marker = now
            problems = list(_shard_problems(folder, plan, number, marker, sources))
        found.problems += (f"shard {number:05d}: {text}" for text in problems)
        if problems:
            found.problems[-1] += "; augcond check --repair sets it aside, and augcond generate makes it anew"
            found.unfit.append((number, marker))
        found.ok += marker.ok
        found.failed += marker.failed
        progress.advance(1, 0)
    return found


def _stray_files(folder: RunFolder, plan: RunPlan) -> Iterator[str]:
    expected = {
        path.name for n in range(len(plan.fingerprints)) for path in (folder.shard_path(n), folder.marker_path(n))
    }
    unfit = {folder.unfit_path(n).name for n in range(len(plan.fingerprints))}
    claimed = folder.claims().names()
    # A copy may lack the folder, where no shard is done.
    for path in sorted(folder.shards.glob("*")):
        if path.name.partition(".")[0] in claimed:
            continue  # a worker is at it
        if path.name.endswith(TEMPORARY):
            yield f"temporary file {path.name}: a process was killed or is at work; augcond generate removes it"
        elif path.name in unfit:
            yield f"{path.name}: its shard was not what was committed; augcond generate makes it anew"
        elif path.name not in expected:
            yield f"file {path.name} belongs to no shard of the plan"
    for number, fingerprint in enumerate(plan.fingerprints):
        if folder.marker_path(number).exists() and folder.done(number, fingerprint) is None:
            yield (
                f"shard {number:05d}: its marker is broken, of another plan, or of a file of another size; "
                f"{FILES['marker'].mend}"
            )


def _shard_problems(
    folder: RunFolder, plan: RunPlan, number: int, marker: ShardMarker, sources: dict[str, tuple[int, str]]
) -> Iterator[str]:
    path = folder.shard_path(number)
    if file_sha256(path) != marker.sha256:
        yield "its bytes are not those that were committed (sha256 differs)"
    rows = plan.plan.shard(number)
    try:
        table = shard_columns(path, ("key", "status"))
        if table["key"].to_pylist() != [row.key for row in rows]:
            yield "its keys are not those of the plan"
            return
        counts = Counter(table["status"].to_pylist())
        if (counts[OK], counts[FAILED], len(rows)) != (marker.ok, marker.failed, marker.ok + marker.failed):
            yield f"{counts[OK]} ok and {counts[FAILED]} failed rows, its marker says {marker.ok} and {marker.failed}"
        labels = {class_id: label for label, class_id in enumerate(plan.classes)}
        for row, values in zip(rows, shard_rows(path, (*COLUMNS, *plan.further_columns)), strict=True):
            problems = _row_problems(row, values, sources, labels.get(row.other_class))
            yield from (f"{row.key}: {problem}" for problem in problems)
    except CorruptRunError as error:
        yield str(error)


def _row_problems(
    row: PlanRow, values: dict[str, Any], sources: dict[str, tuple[int, str]], other: int | None
) -> Iterator[str]:
    """Yield what is wrong with a row; `other` is the label of the second class that it mixes, None for one class."""
    if values["label"] != row.label or tuple(values["source_keys"]) != row.source_keys:
        yield "label or sources are not those of the plan"
    for place, key in enumerate(row.source_keys):
        expected = row.label if other is None or place == 0 else other
        if key not in sources:
            yield f"source {key!r} is no training image of the run"
        elif sources[key][0] != expected:
            yield f"source {key!r} is of another class"
    if other is not None and values["status"] == OK:
        share = values["label_share"]
        if values["other_label"] != other or share is None or not 0.5 <= share <= 1:
            yield "other_label and label_share are not those of its sources"
    if values["status"] != OK:
        if values["image"] is not None:
            yield "is recorded as failed but holds an image"
        return
    if values["image"] is None:
        yield "is recorded as ok but holds no image"
        return
    try:
        decode_stored(values["image"]["bytes"])
    except ImageError as error:
        yield str(error)
