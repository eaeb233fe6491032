"""Parquet files of strangers: what unpacks to more than augcond writes is not unpacked.

Imported by the functions that need Arrow; see `augcond.files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_MOST_ROWS: Final = 2**20
_MOST_BYTES: Final = 2**32
"""Of a row group that is written here: at most, and more than ever."""

_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12}
"""Bytes of a value; 8 of all others."""
_TEXT: Final = "BYTE_ARRAY"


class BoundedFile(pq.ParquetFile):  # type: ignore[misc]
    """An open parquet file, whose row groups are unpacked only where they are of a size that is written here.

    Args:
        source: its path, or its bytes.
        vouched: whether its bytes are known to be those that were written.

    Raises:
        pa.ArrowException: it is no parquet file, or a row group says that it has more rows or bytes.
    """

    def __init__(self, source: Path | pa.Buffer, *, vouched: bool) -> None:
        super().__init__(_opened(source))
        self._reopened, self._vouched = source, vouched
        for number in range(self.num_row_groups):
            group = self.metadata.row_group(number)
            if not (0 <= group.num_rows <= _MOST_ROWS and 0 <= group.total_byte_size <= _MOST_BYTES):
                raise _no_such(number, group.num_rows, group.total_byte_size)

    def read_row_group(self, i: int, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """Return a row group; see `pyarrow.parquet.ParquetFile`.

        Raises:
            pa.ArrowException: it is damaged, or unpacks to more than is written.
        """
        self._refuse(i, columns)
        return super().read_row_group(i, columns=columns, **options)

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """Return all row groups; see `read_row_group`."""
        for number in range(self.num_row_groups):
            self._refuse(number, columns)
        return super().read(columns=columns, **options)

    def _refuse(self, number: int, columns: Sequence[str] | None) -> None:
        """Raise where numbers or texts that are kept once, and stand in many rows, make more than is written.

        A file of 534 bytes can stand for 256 GiB of text.
        """
        described = [(place, self.schema.column(place)) for place in range(len(self.schema.names))]
        asked = [
            (place, column)
            for place, column in described
            if columns is None or column.path.partition(".")[0] in columns
        ]
        names = [column.path for _, column in asked if column.physical_type == _TEXT]
        if not self._vouched:
            flat = [column.path for _, column in asked if not column.max_repetition_level]
            self._try_footer(number, names, {*names, *flat})
        group = self.metadata.row_group(number)
        chunks = [group.column(place) for place, _ in asked]
        numbers: list[int] = [chunk.num_values * _WIDTHS.get(chunk.physical_type, 8) for chunk in chunks]
        if min(numbers, default=0) < 0 or sum(numbers) > _MOST_BYTES:
            raise _no_such(number, group.num_rows, sum(numbers))
        texts = [chunk for chunk in chunks if chunk.physical_type == _TEXT]
        if sum(chunk.total_uncompressed_size * chunk.num_values for chunk in texts) <= _MOST_BYTES:
            return
        with pq.ParquetFile(_opened(self._reopened), read_dictionary=names) as kept_once:
            size = sum(
                _unpacked(part)
                for column in kept_once.read_row_group(number, columns=names).columns
                for part in column.chunks
            )
        if size > _MOST_BYTES:
            raise pa.ArrowInvalid(f"row group {number} unpacks to {size:,} bytes of text; augcond writes no such")

    def _try_footer(self, number: int, texts: Sequence[str], columns: set[str]) -> None:
        """Read a row of these columns, to raise where they are described wrongly.

        Asked for such a description, Arrow would end the process. Lists of numbers, of which a row may have any number,
        are not tried.
        """
        with pq.ParquetFile(_opened(self._reopened), read_dictionary=texts) as kept_once:
            next(kept_once.iter_batches(1, row_groups=[number], columns=[*columns]), None)


def _opened(source: Path | pa.Buffer) -> Any:
    return source if isinstance(source, Path) else pa.BufferReader(source)


def _no_such(number: int, rows: int, size: int) -> pa.ArrowInvalid:
    return pa.ArrowInvalid(
        f"row group {number} says that it unpacks to {rows:,} rows of {size:,} bytes; augcond writes no such"
    )


def _unpacked(array: pa.Array) -> int:
    """Return the bytes of texts in an array whose texts are kept once."""
    if pa.types.is_dictionary(array.type):
        sizes = pc.take(pc.binary_length(array.dictionary), array.indices)
        return int(pc.sum(sizes).as_py() or 0)
    if pa.types.is_struct(array.type):
        return sum(_unpacked(array.field(place)) for place in range(array.type.num_fields))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _unpacked(array.flatten())
    return 0
