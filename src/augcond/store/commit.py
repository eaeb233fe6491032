"""Commit a shard so that a crash leaves either nothing or all of it, and that of several workers one wins.

The order is sacred: write to a temporary name, fsync, read back and check, publish, fsync the folder; only then the
done marker, in the same way. A shard counts as done when its marker is there and names the fingerprint that the plan
gives it now; a shard without a marker is made anew. What is published when, and who removes it, stands at the top of
`store/claims.py`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, file_sha256, is_special, write_parquet
from augcond.sealed import parse_json, sealed_json, typed
from augcond.store.operations import REAL, FileOperations
from augcond.store.shards import COLUMNS, FAILED, shard_groups

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardMarker:
    """Says that a shard is done, and what it holds.

    Attributes:
        fingerprint: of what the shard's images are defined by.
        file: name of the shard file, in the folder of the marker.
        sha256: of the shard file's bytes.
        bytes: size of the shard file.
        rows: attempted images; equals `ok` + `failed`.
        ok: images made.
        failed: rows without an image.
        reasons: how many rows failed for which reason.
        batch_size: rows per batch at the end; less than configured after out of memory, and `notes` say what was less.
        threads: of PyTorch on a CPU; with batch size and versions they decide the last bits.
        notes: what the engine had to do, such as halving the batch.
        seconds: time it took, without loading.
        versions: of the libraries that decide the bytes.
    """

    fingerprint: str
    file: str
    sha256: str
    bytes: int
    rows: int
    ok: int
    failed: int
    reasons: Mapping[str, int]
    batch_size: int
    threads: int
    notes: tuple[str, ...]
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What the engine knows of a shard beside its table; see `ShardMarker`."""

    fingerprint: str
    batch_size: int
    threads: int
    notes: tuple[str, ...]
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """The files of an attempt at a shard.

    Attributes:
        shard: the name that it gets if it never had a marker.
        marker: of the shard.
        unfit: where its marker is set aside if the shard is found changed.
        attempt: see `augcond.store.claims`.
    """

    shard: Path
    marker: Path
    unfit: Path
    attempt: str

    @property
    def own(self) -> Path:
        """The name that no other attempt takes."""
        return self.shard.with_name(f"{self.shard.stem}.{self.attempt}{self.shard.suffix}")

    @property
    def temporary(self) -> Path:
        """What is written to."""
        return self._temporary(self.shard)

    @property
    def new_marker(self) -> Path:
        """The marker before it is published."""
        return self._temporary(self.marker)

    @property
    def old_marker(self) -> Path:
        """A marker that does not hold good, on its way out."""
        return self._temporary(self.unfit)

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f"{path.name}.{self.attempt}{TEMPORARY}")


Judge = Callable[[bytes], bool]
"""Says of a marker's bytes whether it holds good, so that nothing may take its place."""


def commit_shard(
    tables: Iterable[pa.Table],
    files: ShardFiles,
    facts: ShardFacts,
    holds_good: Judge,
    may_remove: Callable[[], bool] = lambda: True,
) -> ShardMarker | None:
    """Commit `tables` as the row groups of a shard, and then its marker.

    Args:
        tables: see `shard_tables`; only one of them is in memory at a time.
        files: what they are written to.
        facts: what the marker says beside.
        holds_good: of a marker that is there.
        may_remove: whether the file of a marker that is replaced may go; a training may be reading it.

    Returns:
        The marker; None where another worker was quicker, or has taken the claim.

    Raises:
        RunError: the disk is full or gone; nothing is committed.
        CorruptRunError: what was read back is not what was written (a broken disk).
    """
    written = _Written()
    try:
        try:
            with files.temporary.open("wb") as file:
                write_parquet(file, map(written.note, tables))
                file.flush()
                os.fsync(file.fileno())
            written.compare(files.temporary, files.shard)
            marker = _marker(written, files.temporary, facts)
            return publish_shard(files, marker, holds_good, may_remove)
        except FileNotFoundError:
            if not files.shard.parent.is_dir() or files.temporary.exists():
                raise
            return None  # somebody believed this worker dead, and cleared up
        finally:
            # A full disk needs the room, and what has no name yet is worth nothing.
            discard(files)
    except OSError as error:
        named = error.filename if error.filename and TEMPORARY not in str(error.filename) else files.shard
        raise RunError(
            f"{named} cannot be written: {error.strerror or error}. What was committed before is "
            "safe; mend the cause and run the same command again to go on"
        ) from error


def publish_shard(
    files: ShardFiles,
    marker: ShardMarker,
    holds_good: Judge,
    may_remove: Callable[[], bool] = lambda: True,
    operations: FileOperations = REAL,
) -> ShardMarker | None:
    """Give the finished file of an attempt a name, and publish its marker; see `commit_shard`.

    Raises:
        FileNotFoundError: the finished file is gone.
    """
    path = _publish_file(files, marker.sha256, operations)
    marker = replace(marker, file=path.name)
    data = sealed_json(asdict(marker))
    operations.write(files.new_marker, data)
    operations.sync(path.parent)
    replaced: list[Path] = []
    while not operations.publish(files.new_marker, files.marker):
        found = operations.read(files.marker)
        if found is None:
            continue
        if holds_good(found):
            if path.name != named_file(found, files):
                operations.remove(path)
            return None
        taken = operations.take_away(files.marker, found, files.old_marker)
        if taken is not None:
            replaced.append(files.shard.with_name(named_file(taken, files)))
            operations.remove(files.old_marker)
    operations.sync(path.parent)
    unfit = operations.read(files.unfit)
    if unfit is not None:
        replaced.append(files.shard.with_name(named_file(unfit, files)))
        operations.remove(files.unfit)
    # Who was stopped for long may find that the run was made anew meanwhile.
    if may_remove() and operations.read(files.marker) == data:
        for old in {*replaced, files.shard} - {path}:
            operations.remove(old)
    return marker


def discard(files: ShardFiles, operations: FileOperations = REAL) -> None:
    """Delete what of an attempt has no name yet.

    What has one is left to `tidy` where its worker died before its marker: it may be stopped, and about to publish it.
    """
    for path in (files.temporary, files.new_marker, files.old_marker):
        operations.remove(path)


def _publish_file(files: ShardFiles, sha256: str, operations: FileOperations) -> Path:
    """Return the name that the finished file got."""
    new = operations.read(files.marker) is None and operations.read(files.unfit) is None
    if new and (
        operations.link(files.temporary, files.shard)
        # A worker that was killed left the very same, or one that is at it has made it.
        or operations.sha256(files.shard) == sha256
    ):
        return files.shard
    operations.rename(files.temporary, files.own)
    return files.own


@dataclass(slots=True)
class _Written:
    """What is kept of each table that was written, to compare with what is read back."""

    keys: list[pa.ChunkedArray] = field(default_factory=list)
    last: list[pa.Table] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0

    def note(self, table: pa.Table) -> pa.Table:
        """Keep what is needed of `table`, and return it."""
        self.keys.append(table["key"])
        # A copy: a slice would hold all images of the table.
        self.last.append(table.take([table.num_rows - 1]))
        failed = table.filter(pc.equal(table["status"], FAILED))
        self.reasons.update(failed["error"].to_pylist())
        self.rows += table.num_rows
        return table

    def compare(self, temporary: Path, path: Path) -> None:
        """Read every column of every group as all readers do, and compare its rows.

        Raises:
            CorruptRunError: they are not those that were written.
            FileNotFoundError: the file is gone.
        """
        try:
            written = self.last[0].column_names if self.last else ()
            columns = (*COLUMNS, *(name for name in written if name not in COLUMNS))
            for group, keys, last in zip(shard_groups(temporary, columns), self.keys, self.last, strict=True):
                if not group["key"].equals(keys) or not group.slice(group.num_rows - 1).equals(last):
                    raise ValueError("other rows")
        except (CorruptRunError, ValueError) as error:
            temporary.stat()
            raise CorruptRunError(
                f"{path} reads back with other rows than were written ({error}): is the disk failing?"
            ) from error


def _marker(written: _Written, file: Path, facts: ShardFacts) -> ShardMarker:
    failed = sum(written.reasons.values())
    return ShardMarker(
        fingerprint=facts.fingerprint,
        file=file.name,
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        rows=written.rows,
        ok=written.rows - failed,
        failed=failed,
        reasons=dict(sorted(written.reasons.items())),
        batch_size=facts.batch_size,
        threads=facts.threads,
        notes=facts.notes,
        seconds=round(facts.seconds, 3),
        versions=dict(facts.versions),
    )


def read_marker(path: Path) -> ShardMarker | None:
    """Return the marker at `path`, or None where there is none or it is not whole."""
    if is_special(path):
        return parse_marker(b"", path)
    data = REAL.read(path)
    return None if data is None else parse_marker(data, path)


def parse_marker(data: bytes, path: Path) -> ShardMarker | None:
    """Return the marker that `data`, the contents of `path`, says; None where it is not whole."""
    try:
        values = parse_json(data, path, "its shard does not count as done").content
        # 0.1 named no file.
        marker = typed(ShardMarker, {"file": _plain(path), **values})
        if not _is_plausible(marker) or not _is_file_of(marker.file, path):
            raise ValueError("its values are none of a shard")
    except (CorruptRunError, ValueError) as error:
        # Markers get their name whole; a broken one was edited, or its disk is failing.
        logger.warning("%s is not a whole marker (%s): its shard does not count as done", path, error)
        return None
    return marker


def those_that_hold_good(
    markers: Sequence[ShardMarker | None], fingerprints: Sequence[str], shards: Path
) -> list[ShardMarker | None]:
    """Return `markers` without those of another plan, or of a file that is not there as it was, and say which.

    Args:
        markers: one per shard of a plan.
        fingerprints: that the plan gives its shards.
        shards: the folder of their files.
    """
    found: list[ShardMarker | None] = []
    others: list[str] = []
    changed: list[str] = []
    for marker, fingerprint in zip(markers, fingerprints, strict=True):
        if marker is not None and marker.fingerprint != fingerprint:
            others.append(marker.file)
        elif marker is not None and REAL.size(shards / marker.file) != marker.bytes:
            changed.append(marker.file)
        else:
            found.append(marker)
            continue
        found.append(None)
    for files, what in (
        (others, "of another plan than plan.parquet"),
        (changed, "missing, or of another size than was committed"),
    ):
        if files:
            named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
            logger.warning("%s in %s: %s; not done: augcond generate makes it anew", named, shards, what)
    return found


def named_file(data: bytes, files: ShardFiles) -> str:
    """Return the name of the file that the marker `data` vouches for; the plain one where it is not whole."""
    with suppress(CorruptRunError):
        name = parse_json(data, files.marker, "").content.get("file")
        if isinstance(name, str) and _is_file_of(name, files.marker):
            return name
    return files.shard.name


def _plain(marker: Path) -> str:
    return f"{marker.name.partition('.')[0]}.parquet"


def _is_file_of(name: str, marker: Path) -> bool:
    """Return whether `name` can be that of a shard file of the marker at that path: markers may be a stranger's."""
    number, *attempt, ending = name.split(".")
    return (number, ending) == (marker.name.partition(".")[0], "parquet") and (
        not attempt or (len(attempt) == 1 and attempt[0].isalnum())
    )


def _is_plausible(marker: ShardMarker) -> bool:
    """Return whether a marker of 0.1, which has no seal, can be counted with."""
    counts = [marker.bytes, marker.rows, marker.ok, marker.failed, *marker.reasons.values()]
    numbers = all(isinstance(count, int) and count >= 0 for count in counts) and isinstance(marker.seconds, int | float)
    return numbers and marker.ok + marker.failed == marker.rows and sum(marker.reasons.values()) == marker.failed
