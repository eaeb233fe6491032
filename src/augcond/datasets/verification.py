"""Decode every listed image once, and record which cannot be used and why."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from augcond.cores import available_cores
from augcond.datasets.base import Dataset, DecodeSettings, ImageRecord, Listing, Reader, RejectedFile, StatReader
from augcond.datasets.cache import Outcome, OutcomeCache, Stat
from augcond.datasets.decoding import background_colour, probe
from augcond.errors import DatasetError, ImageError
from augcond.progress import NoProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from augcond.progress import Progress

logger = logging.getLogger(__name__)

_CHUNK = 1024
"""So many images are under way at once, of which each worker holds one in memory."""

_STAT_RUN = 64

_SAVE_EVERY = 50_000
"""After so many newly decoded images the cache is written, so that a killed job loses minutes at most."""


def verify(
    listing: Listing,
    settings: DecodeSettings,
    *,
    max_bad_share: float = 0.1,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset of all listed images that decode whole; the others are in its `rejected`.

    The result depends neither on `workers` nor on the cache.

    Args:
        listing: what to decode.
        settings: how to decode.
        max_bad_share: the share of files, in [0, 1], that may be unusable.
        cache: a parquet file of earlier outcomes, read and written; files of unchanged size and time of change are not
            decoded again. Used where the reader can tell those (see `StatReader`).
        workers: threads; one per available core where None. Each holds one image in memory.
        progress: is told of every image, in the thread that called; one that cannot be used has failed.

    Raises:
        DatasetError: more than `max_bad_share` of the files are unusable.
        ConfigError: `settings` are wrong.
    """
    background_colour(settings)
    verification = _Verification(listing, settings, cache, progress or NoProgress())
    verification.run(workers or available_cores())
    images, rejected = verification.images, [*listing.rejected, *verification.rejected]
    _check_share(rejected, len(images) + len(rejected), max_bad_share)
    return Dataset(
        classes=listing.classes,
        class_names=listing.class_names,
        images=tuple(images),
        rejected=tuple(rejected),
        reader=listing.reader,
        decoding=settings,
        ignored=listing.ignored,
    )


class _Verification:
    """One pass over a listing, chunk by chunk."""

    def __init__(self, listing: Listing, settings: DecodeSettings, cache: Path | None, progress: Progress) -> None:
        self.images: list[ImageRecord] = []
        self.rejected: list[RejectedFile] = []
        self._listing = listing
        self._progress = progress
        self._examine = partial(_examine, listing.reader, settings)
        reader = listing.reader
        self._stat = partial(_stat_all, reader) if isinstance(reader, StatReader) else None
        self._cache = OutcomeCache(cache, listing.keys, settings) if cache is not None and self._stat else None
        self._unsaved = 0

    def run(self, workers: int) -> None:
        self._progress.start(len(self._listing.keys), "images read")
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
                for start in range(0, len(self._listing.keys), _CHUNK):
                    self._chunk(pool, start)
                    if self._unsaved >= _SAVE_EVERY:
                        self._save()
        finally:
            # Also when interrupted: what has been decoded need not be decoded again.
            self._save()

    def _chunk(self, pool: ThreadPoolExecutor, start: int) -> None:
        keys = self._listing.keys[start : start + _CHUNK]
        # Before the files are read: one that changes in between is then seen to differ the next time.
        stats = self._stats(pool, keys)
        known = self._cache.get(start, stats) if self._cache else [None] * len(keys)
        found = pool.map(self._examine, [key for key, outcome in zip(keys, known, strict=True) if outcome is None])
        outcomes: list[Outcome] = []
        for offset, outcome in enumerate(known):
            outcomes.append(outcome or next(found))
            self._record(start + offset, outcomes[-1])
            self._progress.advance(1, int(outcomes[-1].reason is not None))
        if self._cache:
            self._cache.add(keys, stats, outcomes)
            self._unsaved += known.count(None)

    def _stats(self, pool: ThreadPoolExecutor, keys: Sequence[str]) -> list[Stat | None]:
        if self._cache is None or self._stat is None:
            return [None] * len(keys)
        # In runs: handing single keys to a thread takes longer than to look at a local file.
        runs = [keys[first : first + _STAT_RUN] for first in range(0, len(keys), _STAT_RUN)]
        return [stat for run in pool.map(self._stat, runs) for stat in run]

    def _record(self, position: int, outcome: Outcome) -> None:
        key, label = self._listing.keys[position], self._listing.labels[position]
        if outcome.reason is None:
            self.images.append(ImageRecord(key, label, outcome.width, outcome.height, outcome.sha256))
        else:
            self.rejected.append(RejectedFile(key, label, outcome.reason))

    def _save(self) -> None:
        if self._cache and self._unsaved:
            try:
                self._cache.save()
            except OSError as error:
                # The job can do without; only the next one will take longer.
                logger.warning("what was found of %d images cannot be kept: %s", self._unsaved, error)
            self._unsaved = 0


def _stat_all(reader: StatReader, keys: Sequence[str]) -> list[Stat | None]:
    return [reader.stat(key) for key in keys]


def _examine(reader: Reader, settings: DecodeSettings, key: str) -> Outcome:
    try:
        data = reader.read(key)
    except OSError as error:
        return Outcome("", 0, 0, _why_unread(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        width, height = probe(data, settings)
    except ImageError as error:
        return Outcome(digest, 0, 0, str(error))
    return Outcome(digest, width, height)


def _why_unread(error: OSError) -> str:
    """Return a reason that is alike for alike failures: no file name in it."""
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return (error.strerror or "not a regular file").lower()


def _check_share(rejected: Sequence[RejectedFile], total: int, allowed: float) -> None:
    if len(rejected) <= allowed * total:
        return
    reasons = Counter(file.reason for file in rejected).most_common(3)
    raise DatasetError(
        f"{len(rejected)} of {total} files cannot be used ({len(rejected) / total:.1%}; data.max_bad_share allows "
        f"{allowed:.1%}): {', '.join(f'{count} x {reason}' for reason, count in reasons)}; "
        f"such as {', '.join(file.key for file in rejected[:3])}. Repair or remove them, or raise data.max_bad_share"
    )
