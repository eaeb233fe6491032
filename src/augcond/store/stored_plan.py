"""A plan whose rows are read as they are asked for: who makes some shards of a million rows needs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augcond.errors import CorruptRunError
from augcond.planning import Plan, PlanRow, bounds_of, rows_of
from augcond.sealed import unpacked

GROUP = 2**16
"""Rows of a plan that are read at once."""

_KEPT = 2
"""Groups that are kept in memory: a shard may lie in two."""


class Groups:
    """The row groups of a plan's file.

    Args:
        file: in memory, verified: a run that grows replaces what is on the disk.
        path: where it lies, for errors.
        mend: what is to be done where rows are not what was written; the end of the error.
    """

    def __init__(self, file: pq.ParquetFile, path: Path, mend: str) -> None:
        self.file, self._path, self._mend = file, path, mend
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._group: Callable[[int], pa.Table] = lru_cache(_KEPT)(self._read)

    def __len__(self) -> int:
        """Return how many there are; one at least of a plan with rows."""
        return int(self.file.num_row_groups)

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """For each shard, its first row and the row after its last."""
        return bounds_of(np.concatenate([part["shard"].to_numpy() for part in self.columns(["shard"])]))

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return rows `start` to `stop`, one at least, in plan order."""
        first, last = np.searchsorted(self._starts, [start, stop - 1], "right") - 1
        parts = pa.concat_tables([self._group(number) for number in range(first, last + 1)])
        return parts.slice(start - self._starts[first], stop - start).unify_dictionaries()

    def columns(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns, a group at a time."""
        return (self._read(number, names) for number in range(len(self)))

    @cached_property
    def whole(self) -> pa.Table:
        """All rows; kept once they are asked for: who compares plans or counts images asks again and again."""
        return self._checked(self.file.read).unify_dictionaries()

    def _read(self, number: int, names: Sequence[str] | None = None) -> pa.Table:
        table = self._checked(lambda: self.file.read_row_group(number, columns=names))
        return table if names is None else table.select(names)

    def _checked(self, read: Callable[[], pa.Table]) -> pa.Table:
        table = unpacked(read, self._path, self._mend)
        if any(column.null_count for column in table.columns):
            raise CorruptRunError(f"{self._path} is not what augcond wrote: rows lack values; {self._mend}")
        return table.replace_schema_metadata(None)


class StoredPlan(Plan):
    """See `Plan`; whoever asks for the whole table reads it then.

    Args:
        groups: of its file.
    """

    __slots__ = ("_groups",)

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    @property
    def table(self) -> pa.Table:
        """All rows; see `Plan`."""
        return self._groups.whole

    @property
    def column_names(self) -> list[str]:
        """Those of `table`."""
        return list(self._groups.file.schema_arrow.names)

    def columns(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns, in parts; see `Plan`."""
        return self._groups.columns(names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._groups.file.metadata.num_rows)

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return len(self._groups.bounds)

    def shard(self, number: int) -> list[PlanRow]:
        """Return the rows of shard `number`, in plan order."""
        return list(rows_of(self._groups.rows(*self._groups.bounds[number])))

    def bounds(self) -> list[tuple[int, int]]:
        """Return, for each shard, its first row and the row after its last."""
        return self._groups.bounds
