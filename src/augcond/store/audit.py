"""Audit a run: every key once, every image decodes, every source is a training image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from augcond.errors import CorruptRunError, ImageError
from augcond.files import TEMPORARY, file_sha256
from augcond.planning import PlanRow
from augcond.progress import NoProgress, Progress
from augcond.store.commit import ShardMarker
from augcond.store.folder import RunFolder
from augcond.store.images import decode_stored
from augcond.store.plans import RunPlan
from augcond.store.shards import COLUMNS, FAILED, OK, shard_columns, shard_rows


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        shards: committed shards that were read.
        shards_left: shards of the plan that are not done; no problem in itself.
        ok: images that are there and decode.
        failed: rows that are recorded as failed.
        problems: one line per broken promise; empty for a sound run.
    """

    shards: int
    shards_left: int
    ok: int
    failed: int
    problems: tuple[str, ...]


def audit_run(folder: RunFolder, *, progress: Progress | None = None) -> Audit:
    """Read every committed shard of a run and compare it with its marker, the plan and the sources.

    Args:
        folder: the run.
        progress: is told how many shards are read.

    Raises:
        RunError: there is no run there.
    """
    plan = folder.read_plan()
    markers = folder.markers(plan)
    sources = folder.read_sources()
    problems = list(_stray_files(folder, plan))
    keys = Counter(plan.plan.table["key"].to_pylist())
    problems += [f"key {key!r} stands {count} times in the plan" for key, count in keys.items() if count > 1]
    ok = failed = 0
    done = sum(marker is not None for marker in markers)
    progress = progress or NoProgress()
    progress.start(done)
    for number, marker in enumerate(markers):
        if marker is not None:
            problems += (
                f"shard {number:05d}: {problem}" for problem in _shard_problems(folder, plan, number, marker, sources)
            )
            ok += marker.ok
            failed += marker.failed
            progress.advance(1, 0)
    return Audit(done, len(markers) - done, ok, failed, tuple(problems))


def _stray_files(folder: RunFolder, plan: RunPlan) -> Iterator[str]:
    expected = {
        path.name for n in range(len(plan.fingerprints)) for path in (folder.shard_path(n), folder.marker_path(n))
    }
    unfit = {folder.unfit_path(n).name for n in range(len(plan.fingerprints))}
    for path in sorted(folder.shards.iterdir()):
        if path.name.endswith(TEMPORARY):
            yield f"temporary file {path.name}: a process was killed or is at work; augcond generate removes it"
        elif path.name in unfit:
            yield f"{path.name}: its shard was not what was committed; augcond generate makes it anew"
        elif path.name not in expected:
            yield f"file {path.name} belongs to no shard of the plan"
    for number, fingerprint in enumerate(plan.fingerprints):
        if folder.marker_path(number).exists() and folder.done(number, fingerprint) is None:
            yield f"shard {number:05d}: its marker is broken, of another plan, or of a file of another size"


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
        for row, values in zip(rows, shard_rows(path, tuple(COLUMNS)), strict=True):
            yield from (f"{row.key}: {problem}" for problem in _row_problems(row, values, sources))
    except CorruptRunError as error:
        yield str(error)


def _row_problems(row: PlanRow, values: dict[str, Any], sources: dict[str, tuple[int, str]]) -> Iterator[str]:
    if values["label"] != row.label or tuple(values["source_keys"]) != row.source_keys:
        yield "label or sources are not those of the plan"
    for key in row.source_keys:
        if key not in sources:
            yield f"source {key!r} is no training image of the run"
        elif sources[key][0] != row.label:
            yield f"source {key!r} is of another class"
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
