"""What verification found, kept on disk so that a resumed job need not decode a million images again."""

from __future__ import annotations

import glob
import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import PIL
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from augcond.datasets.base import DecodeSettings

logger = logging.getLogger(__name__)

_LEFTOVER_AGE = 600.0
"""Seconds; writing takes a few."""

_VERSION = 1
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of decoding one file.

    Attributes:
        sha256: hex digest of its bytes; empty where they could not be read.
        width: in pixels, upright; 0 where it cannot be used.
        height: in pixels, upright; 0 where it cannot be used.
        reason: why it cannot be used; None where it can.
    """

    sha256: str
    width: int
    height: int
    reason: str | None = None


Stat = tuple[int, int]
"""Size in bytes and time of change in ns."""


class OutcomeCache:
    """Outcomes by key, size and time of change.

    Args:
        path: the parquet file; need not exist. One that was made with other settings is passed over, a damaged one
            with a warning.
        keys: all keys of the job; outcomes are asked for by position among them.
        settings: how images are decoded; outcomes depend on it.
    """

    def __init__(self, path: Path, keys: Sequence[str], settings: DecodeSettings) -> None:
        self._path = path
        self._keys = keys
        self._schema = _SCHEMA.with_metadata({"augcond": _fingerprint(settings)})
        self._known = self._load()
        self._batches: list[pa.RecordBatch] = []

    def get(self, start: int, stats: Sequence[Stat | None]) -> list[Outcome | None]:
        """Return outcomes of the keys from position `start` on whose files have not changed; None for the others.

        Args:
            start: position of the first key.
            stats: size and time of change now, one per key asked for; None where it cannot be told.
        """
        if self._known is None:
            return [None] * len(stats)
        columns = self._known.slice(start, len(stats)).to_pydict()
        sizes_and_times = zip(columns["size"], columns["mtime_ns"], strict=True)
        outcomes = map(Outcome, columns["sha256"], columns["width"], columns["height"], columns["reason"])
        return [
            outcome if stat is not None and stat == then else None
            for outcome, then, stat in zip(outcomes, sizes_and_times, stats, strict=True)
        ]

    def add(self, keys: Sequence[str], stats: Sequence[Stat | None], outcomes: Sequence[Outcome]) -> None:
        """Take in outcomes, known or new; those without a stat or without bytes are left out."""
        rows = [
            (key, *stat, outcome.sha256, outcome.width, outcome.height, outcome.reason)
            for key, stat, outcome in zip(keys, stats, outcomes, strict=True)
            if stat is not None and outcome.sha256
        ]
        if rows:
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), _SCHEMA.types, strict=True)
            ]
            self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def save(self) -> None:
        """Write all outcomes taken in so far, replacing the file at once: a reader sees the old one or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_batches(self._batches, schema=self._schema)
        self._remove_leftovers()
        temporary = self._path.with_name(f"{self._path.name}.{uuid4().hex}.tmp")  # other processes may save as well
        try:
            with temporary.open("xb") as stream:
                pq.write_table(table, stream, compression="zstd")
                stream.flush()
                # The bytes must be on disk before the name is, or a crash leaves a valid name on an empty file.
                os.fsync(stream.fileno())
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left; a write that is under way is younger."""
        for leftover in self._path.parent.glob(f"{glob.escape(self._path.name)}.*.tmp"):
            # Another process may have been quicker.
            with suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
                    leftover.unlink()

    def _load(self) -> pa.Table | None:
        """Return the known outcomes in the order of the job's keys, null where there is none."""
        try:
            # Not memory-mapped: the file is replaced while its rows are in use.
            table = pq.read_table(self._path, memory_map=False)
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            logger.warning("%s is damaged (%s): every image is decoded again", self._path, error)
            return None
        if not table.schema.equals(self._schema, check_metadata=True):
            logger.info("%s was made with other settings: every image is decoded again", self._path)
            return None
        positions = pc.index_in(pa.array(self._keys, pa.string()), value_set=table["key"].combine_chunks())
        return table.take(positions)


def _fingerprint(settings: DecodeSettings) -> str:
    values = {"version": _VERSION, "pillow": PIL.__version__, **asdict(settings)}
    return json.dumps(values, sort_keys=True)
