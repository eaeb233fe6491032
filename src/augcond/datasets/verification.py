"""Decode every listed image once, and record which cannot be used and why."""

from __future__ import annotations

import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import PIL
import pyarrow as pa
import pyarrow.compute as pc

from augcond.datasets.base import Dataset, DecodeSettings, ImageRecord, Listing, Reader, RejectedFile, StatReader
from augcond.datasets.contents import RecordedReader, reason_of
from augcond.datasets.decoding import available_cores, background_colour
from augcond.datasets.examining import Examiners, Outcome, outcome_of
from augcond.datasets.formats import PLUGIN_KINDS, missing_plugin
from augcond.errors import AugcondError, CorruptRunError, DatasetError
from augcond.files import user_cache
from augcond.progress import NoProgress
from augcond.sealed import read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from augcond.datasets.base import DecodeSettings
    from augcond.progress import Progress


logger = logging.getLogger(__name__)

_CHUNK = 1024
"""So many images are under way at once, of which each thread holds a block in memory."""

_STAT_RUN = 64

_BLOCK, _BLOCK_BYTES = 16, 2 << 20
"""Images that are handed over together: single small ones take a tenth longer."""

_PROCESSES_PAY_FROM = 4_000
"""So many images that are not known yet: fewer small ones take threads as long as processes take to start."""

_MOST_PROCESSES = 16
"""Each takes 75 MB; so many examine 8,000 photographs of 500 pixels a second, if they are read as fast."""

_SAVE_EVERY = 50_000
"""After so many newly decoded images the cache is written, so that a killed job loses minutes at most."""


def verify(
    listing: Listing,
    settings: DecodeSettings,
    *,
    max_bad_share: float = 0.1,
    cache: Path | Sequence[Path] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset of all listed images that decode whole; the others are in its `rejected`.

    The result depends neither on `workers` nor on the cache.

    Args:
        listing: what to decode.
        settings: how to decode.
        max_bad_share: the share of files, in [0, 1], that may be unusable.
        cache: a parquet file of earlier outcomes, read and written where its folder is there; files of unchanged size
            and time of change are not decoded again. Of several the first that can be read is, and all are written;
            only the first is sorely missed where it cannot be. Used where the reader can tell size and time (see
            `StatReader`).
        workers: threads, or of many images processes; one per available core where None.
        progress: is told of every image, in the thread that called; one that cannot be used has failed.

    Raises:
        DatasetError: more than `max_bad_share` of the files are unusable.
        ConfigError: `settings` are wrong.
    """
    background_colour(settings)
    caches = (cache,) if isinstance(cache, Path) else tuple(cache or ())
    verification = _Verification(listing, settings, caches, progress or NoProgress())
    verification.run(workers or available_cores())
    images, rejected = verification.images, [*listing.rejected, *verification.rejected]
    check_share(rejected, len(images) + len(rejected), max_bad_share)
    _warn_of_guesses(images)
    return Dataset(
        classes=listing.classes,
        class_names=listing.class_names,
        images=tuple(images),
        rejected=tuple(rejected),
        # Whoever reads an image later, reads the one that was examined.
        reader=RecordedReader(listing.reader, {image.key: image.sha256 for image in images}),
        decoding=settings,
        ignored=listing.ignored,
        skipped=listing.skipped,
        warnings=listing.warnings,
        several_names=listing.several_names,
    )


class _Verification:
    """One pass over a listing, chunk by chunk."""

    def __init__(
        self, listing: Listing, settings: DecodeSettings, caches: tuple[Path, ...], progress: Progress
    ) -> None:
        self.images: list[ImageRecord] = []
        self.rejected: list[RejectedFile] = []
        self._listing = listing
        self._progress = progress
        self._settings = settings
        reader = listing.reader
        self._stat = partial(_stat_all, reader) if isinstance(reader, StatReader) else None
        self._cache = OutcomeCache(caches, listing.keys, settings) if caches and self._stat else None
        self._unsaved = 0

    def run(self, workers: int) -> None:
        self._progress.start(len(self._listing.keys), "images read")
        unknown = len(self._listing.keys) - (self._cache.size if self._cache else 0)
        processes = min(workers, _MOST_PROCESSES) if workers > 1 and unknown >= _PROCESSES_PAY_FROM else 0
        # Twice as many threads: while an image is examined, the next is read.
        threads = 2 * processes or workers
        try:
            with (
                closing(Examiners(self._settings, processes)) as examiners,
                ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool,
            ):
                examine = partial(_examine, self._listing.reader, self._settings, examiners if processes else None)
                for start in range(0, len(self._listing.keys), _CHUNK):
                    self._chunk(pool, examine, start)
                    if self._unsaved >= _SAVE_EVERY:
                        self._save()
        finally:
            # Also when interrupted: what has been decoded need not be decoded again.
            self._save()

    def _chunk(self, pool: ThreadPoolExecutor, examine: Callable[[Sequence[str]], list[Outcome]], start: int) -> None:
        keys = self._listing.keys[start : start + _CHUNK]
        # Before the files are read: one that changes in between is then seen to differ the next time.
        stats = self._stats(pool, keys)
        known = self._cache.get(start, stats) if self._cache else [None] * len(keys)
        unknown = [(key, stat) for key, stat, outcome in zip(keys, stats, known, strict=True) if outcome is None]
        found = chain.from_iterable(pool.map(examine, _blocks(unknown)))
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
            seen = (outcome.width, outcome.height, outcome.sha256, outcome.paths, outcome.look)
            self.images.append(ImageRecord(key, label, *seen))
        else:
            self.rejected.append(RejectedFile(key, label, outcome.reason))

    def _save(self) -> None:
        if self._cache and (self._unsaved or self._cache.is_behind):
            self._cache.save()
            self._unsaved = 0


def _blocks(images: Iterable[tuple[str, Stat | None]]) -> Iterator[list[str]]:
    """Yield keys that are handed to a thread together: few, and of large files one."""
    block, size = list[str](), 0
    for key, stat in images:
        block.append(key)
        size += _BLOCK_BYTES if stat is None else stat[0]
        if size >= _BLOCK_BYTES or len(block) == _BLOCK:
            yield block
            block, size = list[str](), 0
    if block:
        yield block


def _stat_all(reader: StatReader, keys: Sequence[str]) -> list[Stat | None]:
    return [reader.stat(key) for key in keys]


def _read(reader: Reader, key: str) -> bytes | Outcome:
    """Return the bytes of an image, or why there are none."""
    try:
        data = reader.read(key)
    except OSError as error:
        return Outcome("", 0, 0, reason_of(error))
    except AugcondError:
        raise  # it is about more than this image
    except Exception as error:  # a reader of one's own raises what it likes
        logger.debug("the reader cannot read %s", key, exc_info=error)
        return Outcome("", 0, 0, f"the reader raised {type(error).__name__}: {error}")
    if not isinstance(data, bytes):
        return Outcome("", 0, 0, f"the reader gave a {type(data).__name__}, not bytes")
    return data


def _examine(
    reader: Reader, settings: DecodeSettings, examiners: Examiners | None, keys: Sequence[str]
) -> list[Outcome]:
    """Return what came of some images, examined by other processes where there are any."""
    read = [_read(reader, key) for key in keys]
    images = [data for data in read if isinstance(data, bytes)]
    found = (outcome_of(data, settings) for data in images) if examiners is None else examiners.examine(images)
    return [data if isinstance(data, Outcome) else next(found) for data in read]


def _warn_of_guesses(images: Sequence[ImageRecord]) -> None:
    guessed = [image.key for image in images if "range" in image.paths]
    if guessed:
        logger.warning(
            "%d images, such as %s, have values of fewer bits than their files promise, or values that are no "
            "measurements: how bright they are was read off the values; look at some of them",
            len(guessed),
            guessed[0],
        )


def check_share(rejected: Sequence[RejectedFile], total: int, allowed: float) -> None:
    """Check that at most the share `allowed` of `total` files cannot be used.

    Raises:
        DatasetError: more cannot.
    """
    if len(rejected) <= allowed * total:
        return
    reasons = Counter(file.reason for file in rejected).most_common(3)
    raise DatasetError(
        f"{len(rejected)} of {total} files cannot be used ({len(rejected) / total:.1%}; data.max_bad_share allows "
        f"{allowed:.1%}): {', '.join(f'{count} x {reason}' for reason, count in reasons)}; "
        f"such as {', '.join(file.key for file in rejected[:3])}. Repair or remove them, or raise data.max_bad_share"
    )


logger = logging.getLogger(__name__)

_VERSION = 4
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("paths", pa.string(), nullable=False),
        pa.field("look", pa.binary(), nullable=False),
    ]
)


Stat = tuple[int, int]
"""Size in bytes and time of change in ns."""


class OutcomeCache:
    """Outcomes by key, size and time of change.

    Args:
        paths: parquet files; need not exist. One that was made with other settings is passed over, a damaged one
            with a warning.
        keys: all keys of the job; outcomes are asked for by position among them.
        settings: how images are decoded; outcomes depend on it.

    Attributes:
        size: of how many of `keys` an outcome is known, if their files have not changed.
        is_behind: whether what is known was not read from the first of `paths`, so that it is worth writing there.
    """

    def __init__(self, paths: Sequence[Path], keys: Sequence[str], settings: DecodeSettings) -> None:
        self._paths = paths
        self._keys = keys
        self._schema = _SCHEMA.with_metadata({"augcond": _fingerprint(settings)})
        self._known: pa.Table | None = None
        for path in paths:
            self._known = self._load(path)
            if self._known is not None:
                break
        self.size = 0 if self._known is None else len(keys) - self._known["key"].null_count
        self.is_behind = self._known is not None and path != paths[0]
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
        # Null where the cache does not know the image.
        paths = (tuple(taken.split()) if taken else () for taken in columns["paths"])
        kept = (columns[name] for name in ("sha256", "width", "height", "reason"))
        outcomes = map(Outcome, *kept, paths, columns["look"])
        return [
            outcome if stat is not None and stat == then else None
            for outcome, then, stat in zip(outcomes, sizes_and_times, stats, strict=True)
        ]

    def add(self, keys: Sequence[str], stats: Sequence[Stat | None], outcomes: Sequence[Outcome]) -> None:
        """Take in outcomes, known or new; those without a stat or without bytes are left out."""
        rows = [
            (
                key,
                *stat,
                outcome.sha256,
                outcome.width,
                outcome.height,
                outcome.reason,
                " ".join(outcome.paths),
                outcome.look,
            )
            for key, stat, outcome in zip(keys, stats, outcomes, strict=True)
            if stat is not None and outcome.sha256
        ]
        if rows:
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), _SCHEMA.types, strict=True)
            ]
            self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def save(self) -> None:
        """Write all outcomes taken in so far, replacing each file at once: a reader sees the old one or the new one."""
        table = pa.Table.from_batches(self._batches, schema=self._schema)
        for path in self._paths:
            try:
                if path.is_relative_to(user_cache()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                write_table(path, table)
            except OSError as error:
                # The job can do without; only the next one will take longer.
                level = logging.WARNING if path == self._paths[0] else logging.INFO
                logger.log(level, "what was found of %d images cannot be kept: %s", table.num_rows, error)
        self.is_behind = False

    def _load(self, path: Path) -> pa.Table | None:
        """Return the known outcomes in the order of the job's keys, null where there is none."""
        try:
            table = read_table(path, "every image is decoded again").content
        except FileNotFoundError:
            return None
        except CorruptRunError as error:
            logger.warning("%s", error)
            return None
        if not table.schema.equals(self._schema, check_metadata=True):
            logger.info("%s was made with other settings: every image is decoded again", path)
            return None
        positions = pc.index_in(pa.array(self._keys, pa.string()), value_set=table["key"].combine_chunks())
        return table.take(positions)


def _fingerprint(settings: DecodeSettings) -> str:
    # An image that was rejected for want of a plugin is read once that is there.
    missing = [kind for kind in PLUGIN_KINDS if missing_plugin(kind)]
    values = {"version": _VERSION, "pillow": PIL.__version__, "missing": missing, **asdict(settings)}
    return json.dumps(values, sort_keys=True)
