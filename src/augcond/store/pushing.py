"""The shards of a run as the data files of a dataset on the hub, without the rows that are left out."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from augcond.errors import RunError
from augcond.files import read_groups, write_parquet
from augcond.progress import NoProgress, Progress
from augcond.store.rejection import rejected_keys
from augcond.store.shards import OK, shard_columns

if TYPE_CHECKING:
    from augcond.store.commit import ShardMarker
    from augcond.store.folder import RunFolder

logger = logging.getLogger(__name__)

DATA = "data"
"""The folder of the data files, in a dataset."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows of the finished shards are no part of the dataset.

    Attributes:
        failed: rows without an image.
        rejected: images that a person rejected.
        screened: images that screening dropped.
        unfinished: shards that are not generated yet.
    """

    failed: int
    rejected: int
    screened: int
    unfinished: int


def write_data_files(
    folder: RunFolder, to: Path, screened: frozenset[str], progress: Progress | None = None
) -> LeftOut:
    """Write `to`/data/train-NNNNN.parquet per shard that is done, and return what is left out.

    A shard of which every row stays is that very file (a hard link, or a copy where there are none); of others the
    remaining rows are written, in the same order and with the same schema. The same run gives the same bytes.

    Args:
        folder: the run.
        to: an empty folder.
        screened: keys of images that screening dropped, and that are left out like those that a person rejected.
        progress: is told how many shards are written.

    Raises:
        RunError: nothing is left to push.
        CorruptRunError: the run is not what augcond wrote.
    """
    plan = folder.read_plan()
    markers = folder.verified_markers(plan)
    left_out, progress = rejected_keys(folder) | screened, progress or NoProgress()
    (to / DATA).mkdir()
    progress.start(sum(marker is not None for marker in markers))
    made = left = 0
    for number, marker in enumerate(markers):
        if marker is None:
            continue
        mask = _kept(folder.shards / marker.file, left_out)
        kept = pc.sum(mask).as_py() or 0
        if kept:
            _write(folder.shards / marker.file, mask, kept, to / DATA / f"train-{number:05d}.parquet")
        made, left = made + kept, left + marker.ok - kept
        progress.advance(1, 0)
    unfinished = markers.count(None)
    if not made:
        raise RunError(f"{folder.path} holds no image to push: run augcond generate first, or restore rejected ones")
    if unfinished:
        logger.warning("%d of %d shards are not generated yet, and not pushed", unfinished, len(markers))
    return LeftOut(_failed(markers), left - len(screened), len(screened), unfinished)


def _failed(markers: list[ShardMarker | None]) -> int:
    return sum(marker.failed for marker in markers if marker is not None)


def _kept(shard: Path, left_out: frozenset[str]) -> pa.ChunkedArray:
    """Return (rows,) bool: whether a row of the shard has an image that is not left out."""
    table = shard_columns(shard, ("key", "status"))
    made = pc.equal(table["status"], OK)
    return pc.and_(made, pc.invert(pc.is_in(table["key"], value_set=pa.array(left_out, pa.string()))))


def _write(shard: Path, mask: pa.ChunkedArray, kept: int, to: Path) -> None:
    if kept < len(mask):
        with to.open("wb") as file:
            write_parquet(file, _remaining(shard, mask))
        return
    try:
        os.link(shard, to)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(shard, to)


def _remaining(shard: Path, mask: pa.ChunkedArray) -> Iterator[pa.Table]:
    start = 0
    for group in read_groups(shard):  # every column: some runs have further ones
        yield group.filter(mask.slice(start, group.num_rows))
        start += group.num_rows
