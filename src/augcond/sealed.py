"""Files that carry their own sha256: what is read is what was written, or an error.

The digest is that of the whole file with zeros in its own place, so that one atomic write commits both. Files of 0.1
carry none, and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from augcond.errors import CorruptRunError
from augcond.files import is_special, write_atomically

# Arrow is imported by the functions that need it: finding a checkpoint needs none.
if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pydantic import TypeAdapter

Content = TypeVar("Content")

SEAL = "seal"
"""The key of the digest in JSON, and in the footer of a parquet file."""
BLANK = "0" * 64
"""What stands in the place of the digest before there is one."""
MEND_DISK = "it may be whole: mend that, and run the same command again"
"""What is to be done where a disk, or a permission, keeps a file from being read."""
_IN_FOOTER = re.compile(SEAL.encode() + rb"\x18@[0-9a-f]{64}")
"""A seal as it lies in a footer of parquet: a bit that changed before it can hide it from who reads the footer."""
_OTHER_KEYS = (b"ARROW:schema", b"augcond", b"augcond.warnings")


@dataclass(frozen=True, slots=True)
class Sealed(Generic[Content]):
    """What a file holds.

    Attributes:
        content: without the seal.
        sealed: whether it carries a seal, which fits; False for files of 0.1.
        sha256: hex digest of the file's bytes as they are.
    """

    content: Content
    sealed: bool
    sha256: str


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path` with a seal as the last key, in the way of `write_atomically`."""
    write_atomically(path, sealed_json(values))


def sealed_json(values: Mapping[str, Any]) -> bytes:
    """Return what `write_json` writes."""
    text = json.dumps({**values, SEAL: BLANK}, indent=1, ensure_ascii=False) + "\n"
    return seal(text.encode())


def read_json(path: Path, mend: str) -> Sealed[dict[str, Any]]:
    """Return what `write_json` wrote, or a JSON object of 0.1.

    Args:
        path: the file.
        mend: what is to be done where the file is not what was written; the end of the error.

    Raises:
        FileNotFoundError: there is none.
        CorruptRunError: it is not what was written.
    """
    return parse_json(_read(path, mend), path, mend)


def parse_json(data: bytes, path: Path, mend: str) -> Sealed[dict[str, Any]]:
    """Return what `data`, the contents of `path`, says; see `read_json`."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise unfit(path, f"it is no JSON ({error})", mend) from error
    if not isinstance(values, dict):
        raise unfit(path, "it holds no object", mend)
    return Sealed(values, _checked(path, data, values.pop(SEAL, None), mend), hashlib.sha256(data).hexdigest())


def typed(schema: type[Content], values: Mapping[str, Any]) -> Content:
    """Return the dataclass that `values`, as JSON holds them, stand for: its lists as tuples, its parts as dataclasses.

    A seal says that a file is what was written, not by whom: a value of another type would fail who uses it, later.

    Raises:
        ValueError: a key is unknown or missing, or its value of another type.
    """
    from pydantic import ValidationError

    if unknown := sorted(values.keys() - {known.name for known in fields(schema)}):  # type: ignore[arg-type]
        raise ValueError(f"unknown key {unknown[0]!r}")
    try:
        read: Content = _reader_of(cast("Hashable", schema)).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}") from error
    return read


@lru_cache
def _reader_of(schema: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def parse_texts(data: bytes, path: Path, mend: str) -> tuple[str, ...]:
    """Return the texts of a JSON list in the file at `path`; see `read_json`."""
    try:
        return tuple(map(str, json.loads(data)))
    except (ValueError, TypeError, RecursionError) as error:
        raise unfit(path, f"it holds no list of texts ({error})", mend) from error


def write_table(path: Path, table: pa.Table, rows: int | None = None) -> str:
    """Write `table` to `path` as parquet with a seal in its footer, in the way of `write_atomically`.

    Args:
        path: the file.
        table: what it is to hold.
        rows: of a group of it, which can be read alone; 2^20 where None.

    Returns:
        The sha256 of the file's bytes, for who vouches for this very file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=rows)
        writer.add_key_value_metadata({SEAL: BLANK})
    data = seal(sink.getvalue().to_pybytes())
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def open_table(path: Path, mend: str, *, sha256: str | None = None, by: str = "") -> Sealed[pq.ParquetFile]:
    """Return the parquet file that `write_table` wrote, in memory; its bytes are verified, nothing is unpacked.

    Args:
        path: the file.
        mend: see `read_json`.
        sha256: of the file, where another one vouches for it.
        by: name of that other one.

    Raises:
        FileNotFoundError: there is none.
        CorruptRunError: it is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from augcond.unpacking import BoundedFile

    data = _read(path, mend)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise unfit(path, f"its sha256 is {digest[:12]}..., not {sha256[:12]}... as {by or 'another file'} says", mend)
    try:
        about = dict(pq.read_metadata(pa.BufferReader(data)).metadata or {})
        inside = about.pop(SEAL.encode(), None)
        sealed = _checked(path, data, None if inside is None else inside.decode(errors="replace"), mend)
        if not about.keys() <= {*_OTHER_KEYS} or (inside is None and _IN_FOOTER.search(data)):
            raise pa.ArrowInvalid("its footer has unknown keys")
        file = BoundedFile(pa.py_buffer(data), vouched=sealed or sha256 is not None)
    except MemoryError:
        raise  # Arrow's is an error of its own, too: the file may be whole
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise unfit(path, error, mend) from error
    return Sealed(file, sealed, digest)


def read_table(
    path: Path, mend: str, columns: Sequence[str] | None = None, *, sha256: str | None = None, by: str = ""
) -> Sealed[pa.Table]:
    """Return what `write_table` wrote, or a table of 0.1.

    Args:
        path: the file.
        mend: see `read_json`.
        columns: which columns, in this order; all where None.
        sha256: of the file, where another one vouches for it.
        by: see `open_table`.

    Raises:
        FileNotFoundError: there is none.
        CorruptRunError: it is not what was written.
    """
    opened = open_table(path, mend, sha256=sha256, by=by)

    def read() -> pa.Table:
        table = opened.content.read(columns=None if columns is None else list(columns))
        return table if columns is None else table.select(columns)

    table = unpacked(read, path, mend)
    own = {key: value for key, value in (table.schema.metadata or {}).items() if key != SEAL.encode()}
    return Sealed(table.replace_schema_metadata(own or None), opened.sealed, opened.sha256)


def unpacked(read: Callable[[], pa.Table], path: Path, mend: str) -> pa.Table:
    """Return the table that `read` gives of the file at `path`, checked to be one.

    Raises:
        CorruptRunError: it is not what was written.
    """
    import pyarrow as pa

    try:
        table = read()
        # What was changed before there were seals can still be unpacked, to texts that are none.
        table.validate(full=True)
    except MemoryError:
        raise  # Arrow's is an error of its own, too: the file may be whole
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise unfit(path, error, mend) from error
    return table


def seal(data: bytes) -> bytes:
    """Return `data` with its digest in place of the last run of 64 zeros.

    Raises:
        ValueError: there is no such place.
    """
    before, place, after = data.rpartition(BLANK.encode())
    if not place:
        raise ValueError("no place for the seal")
    return before + hashlib.sha256(data).hexdigest().encode() + after


def fits(data: bytes, digest: object) -> bool:
    """Return whether `data` is what `seal` made when it put `digest` there; None, of a file of 0.1, fits."""
    if digest is None:
        return True
    before, place, after = data.rpartition(str(digest).encode())
    return bool(place) and hashlib.sha256(before + BLANK.encode() + after).hexdigest() == digest


def _checked(path: Path, data: bytes, digest: object, mend: str) -> bool:
    if not fits(data, digest):
        raise unfit(path, "its sha256 is another", mend)
    return digest is not None


def _read(path: Path, mend: str) -> bytes:
    if is_special(path) or path.is_dir():
        raise unfit(path, "it is no file: remove it", mend)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unfit(path, error, mend) from error


def unfit(path: Path, reason: object, mend: str) -> CorruptRunError:
    """Return the error for a file that is not what augcond wrote, or cannot be read at all."""
    if isinstance(reason, OSError) and reason.errno is not None:
        # Permissions, a failing disk: what is there may be whole, and is not to be deleted or written anew for that.
        return CorruptRunError(f"{path} cannot be read: {reason.strerror}; {MEND_DISK}")
    return CorruptRunError(f"{path} is not what augcond wrote: {' '.join(str(reason).split())}; {mend}")
