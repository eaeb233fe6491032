"""Commit a shard so that a crash at any moment leaves either nothing or all of it.

The order is sacred: write to a temporary name, fsync, read back and check, rename, fsync the folder; only then the
done marker, in the same way. A shard counts as done when its marker is there and names the fingerprint that the plan
gives it now; a shard without a marker is made anew, and overwrites whatever a crash left.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from augcond.errors import CorruptRunError, RunError
from augcond.files import TEMPORARY, file_sha256, sync_folder, write_atomically
from augcond.store.shards import FAILED

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
        batch_size: the smallest batch that rows were cut into; less than configured after out of memory.
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


def commit_shard(table: pa.Table, path: Path, marker_path: Path, facts: ShardFacts) -> ShardMarker:
    """Commit `table` as the shard at `path` and then its marker.

    Raises:
        RunError: the disk is full or gone; nothing is committed.
        CorruptRunError: what was read back is not what was written (a broken disk).
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        # A marker of an earlier fingerprint must not outlive the shard that it vouched for.
        marker_path.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        written = pq.read_table(temporary, columns=["key"])["key"]
        if not written.equals(table["key"]):
            raise CorruptRunError(f"{path} reads back with other keys than were written: is the disk failing?")
        marker = _marker(table, temporary, facts)
        temporary.replace(path)
        sync_folder(path.parent)
        write_atomically(marker_path, json.dumps(asdict(marker), indent=1, sort_keys=True).encode())
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. What was committed before is safe; mend the cause "
            "and run the same command again to go on"
        ) from error
    finally:
        # A full disk needs the room, and a temporary file that is not renamed is worth nothing.
        temporary.unlink(missing_ok=True)
    return marker


def _marker(table: pa.Table, written: Path, facts: ShardFacts) -> ShardMarker:
    reasons = Counter(
        error
        for status, error in zip(table["status"].to_pylist(), table["error"].to_pylist(), strict=True)
        if status == FAILED
    )
    failed = sum(reasons.values())
    return ShardMarker(
        fingerprint=facts.fingerprint,
        sha256=file_sha256(written),
        bytes=written.stat().st_size,
        rows=table.num_rows,
        ok=table.num_rows - failed,
        failed=failed,
        reasons=dict(sorted(reasons.items())),
        batch_size=facts.batch_size,
        threads=facts.threads,
        notes=facts.notes,
        seconds=round(facts.seconds, 3),
        versions=dict(facts.versions),
    )


def read_marker(path: Path) -> ShardMarker | None:
    """Return the marker at `path`, or None where there is none or it is not whole."""
    try:
        values = json.loads(path.read_bytes())
        return ShardMarker(**{**values, "notes": tuple(values["notes"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Markers are renamed into place whole; a broken one was edited, or its disk is failing.
        logger.warning("%s is not a whole marker: its shard does not count as done", path)
        return None
