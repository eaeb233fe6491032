"""The images of shards where they can be read one by one.

For one image of a parquet file a whole row group is unpacked, which is of no use to who asks for them in any order. So
each shard is copied, when the first of its images is asked for, to a file that is mapped into memory, which all
processes of a machine share.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa

from augcond.errors import CorruptRunError, RunError
from augcond.files import is_special, replacing
from augcond.store.shards import shard_groups

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.store.commit import ShardMarker
    from augcond.store.folder import RunFolder

_SCHEMA = pa.schema({"image": pa.binary(), "sha256": pa.binary()})
_OF = b"augcond.shard"


class MappedShard:
    """The encoded images of one shard, mapped into memory.

    Args:
        table: of `_SCHEMA`, a row for each of the shard's.
        path: of the file, for messages.
    """

    def __init__(self, table: pa.Table, path: Path) -> None:
        self._images, self._digests, self._path = table["image"], table["sha256"], path

    def image(self, place: int) -> bytes:
        """Return the encoded image of a row of the shard that has one.

        Raises:
            CorruptRunError: it is not what was written.
        """
        data: bytes = self._images[place].as_py()
        if hashlib.sha256(data).digest() != self._digests[place].as_py():
            raise CorruptRunError(f"{self._path} is not what augcond wrote: delete it, it is written anew")
        return data


def map_shard(folder: RunFolder, number: int, marker: ShardMarker, path: Path) -> MappedShard:
    """Return the images of a shard, mapped into memory; they are written to `path` where they do not lie there.

    Raises:
        CorruptRunError: the shard is not what was committed.
        RunError: `path` cannot be written.
    """
    table = _opened(path, marker)
    if table is None:
        if not folder.is_intact(number, marker):
            raise CorruptRunError(
                f"shard {number:05d} of {folder.path} is not what was committed: augcond check says more"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(folder.shards / marker.file, marker, path)
        except OSError as error:
            raise RunError(f"{path} cannot be written ({error.strerror}): name another folder as `cache`") from error
        table = _opened(path, marker)
        if table is None:
            raise CorruptRunError(f"{path} reads back otherwise than it was written: is the disk failing?")
    return MappedShard(table, path)


def _opened(path: Path, marker: ShardMarker) -> pa.Table | None:
    """Return the file at `path`, mapped; None where there is none that can be read, or that of another shard."""
    try:
        if is_special(path):
            return None
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException):
        return None
    fits = (table.schema.metadata or {}).get(_OF) == marker.sha256.encode() and table.schema.equals(_SCHEMA)
    return table if fits and table.num_rows == marker.rows else None


def _write(shard: Path, marker: ShardMarker, path: Path) -> None:
    with (
        replacing(path) as temporary,  # other processes write the same
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA.with_metadata({_OF: marker.sha256})) as writer,
    ):
        for group in shard_groups(shard, ("image",)):
            images = [row and row["bytes"] for row in group["image"].to_pylist()]
            digests = [data and hashlib.sha256(data).digest() for data in images]
            writer.write_batch(
                pa.record_batch([pa.array(images, pa.binary()), pa.array(digests, pa.binary())], _SCHEMA)
            )
