"""Commit a shard so that a crash at any moment leaves either nothing or all of it.

The order is sacred: write to a temporary name, fsync, read back and check, rename, fsync the folder; only then the
done marker, in the same way. A shard counts as done when its marker is there and names the fingerprint that the plan
gives it now; a shard without a marker is made anew, and overwrites whatever a crash left.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from augcond.errors import CorruptRunError, RunError
from augcond.files import file_sha256, replacing, write_parquet
from augcond.sealed import read_json, write_json
from augcond.store.shards import COLUMNS, FAILED, shard_groups

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardMarker:
    """Says that a shard is done, and what it holds.

    Attributes:
        fingerprint: of what the shard's images are defined by.
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


def commit_shard(tables: Iterable[pa.Table], path: Path, marker_path: Path, facts: ShardFacts) -> ShardMarker:
    """Commit `tables` as the row groups of the shard at `path`, and then its marker.

    Args:
        tables: see `shard_tables`; only one of them is in memory at a time.
        path: of the shard.
        marker_path: of its marker.
        facts: what the marker says beside.

    Raises:
        RunError: the disk is full or gone; nothing is committed.
        CorruptRunError: what was read back is not what was written (a broken disk).
    """
    written = _Written()
    try:
        # A marker of an earlier fingerprint must not outlive the shard that it vouched for.
        marker_path.unlink(missing_ok=True)
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                write_parquet(file, map(written.note, tables))
                file.flush()
                os.fsync(file.fileno())
            written.compare(temporary, path)
            marker = _marker(written, temporary, facts)
        write_json(marker_path, asdict(marker))
    except OSError as error:
        raise RunError(
            f"{error.filename or path} cannot be written: {error.strerror or error}. What was committed before is "
            "safe; mend the cause and run the same command again to go on"
        ) from error
    return marker


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
        """
        try:
            for group, keys, last in zip(shard_groups(temporary, tuple(COLUMNS)), self.keys, self.last, strict=True):
                if not group["key"].equals(keys) or not group.slice(group.num_rows - 1).equals(last):
                    raise ValueError("other rows")
        except (CorruptRunError, ValueError) as error:
            raise CorruptRunError(
                f"{path} reads back with other rows than were written ({error}): is the disk failing?"
            ) from error


def _marker(written: _Written, file: Path, facts: ShardFacts) -> ShardMarker:
    failed = sum(written.reasons.values())
    return ShardMarker(
        fingerprint=facts.fingerprint,
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
    try:
        values = read_json(path, "its shard does not count as done").content
        marker = ShardMarker(**{**values, "notes": tuple(values["notes"])})
        if not _is_plausible(marker):
            raise ValueError("its values are none of a shard")
    except FileNotFoundError:
        return None
    except (CorruptRunError, ValueError, TypeError, KeyError) as error:
        # Markers are renamed into place whole; a broken one was edited, or its disk is failing.
        logger.warning("%s is not a whole marker (%s): its shard does not count as done", path, error)
        return None
    return marker


def _is_plausible(marker: ShardMarker) -> bool:
    """Return whether a marker of 0.1, which has no seal, can be counted with."""
    counts = [marker.bytes, marker.rows, marker.ok, marker.failed, *marker.reasons.values()]
    numbers = all(isinstance(count, int) and count >= 0 for count in counts) and isinstance(marker.seconds, int | float)
    return numbers and marker.ok + marker.failed == marker.rows and sum(marker.reasons.values()) == marker.failed
