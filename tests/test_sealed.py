"""Files that carry their own sha256: whatever is changed in them is noticed."""

import json
import os
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from augcond.errors import CorruptRunError
from augcond.sealed import fits, read_json, read_table, seal, typed, write_json, write_table

VALUES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda key: key != "seal"),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")) | st.just("0" * 64),
    max_size=5,
)
TABLE = pa.table({"key": ["a/1.jpg", "b/2.jpg"], "label": [0, 1], "sources": [["x"], ["y", "z"]]})
same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


@same_folder
@given(values=VALUES, bit=st.integers(0, 10**6))
def test_json_is_read_as_written_and_no_flipped_bit_passes(tmp_path, values, bit):
    path = tmp_path / "a.json"
    write_json(path, values)
    read = read_json(path, "write it again")
    assert (read.content, read.sealed) == (values, True)
    path.write_bytes(flipped(path.read_bytes(), bit))
    try:
        changed = read_json(path, "write it again")
    except CorruptRunError as error:
        assert str(error).startswith(f"{path} is not what augcond wrote") and str(error).endswith("; write it again")
    else:
        # The key of the seal itself: who reads the file knows no such key.
        assert not changed.sealed
        assert len(changed.content.keys() - values.keys()) == 1


@same_folder
@given(bit=st.integers(0, 10**6))
@example(bit=16093)  # which hides all keys of the footer
def test_a_table_is_read_as_written_and_no_flipped_bit_passes(tmp_path, bit):
    path = tmp_path / "a.parquet"
    table = TABLE.replace_schema_metadata({b"augcond": b"{}"})
    sha256 = write_table(path, table)
    for expected in (None, sha256):
        read = read_table(path, "write it again", sha256=expected)
        assert (read.content.to_pydict(), read.content.schema.metadata) == (table.to_pydict(), table.schema.metadata)
        assert (read.sealed, read.sha256) == (True, sha256)
    assert read_table(path, "", ["sources", "key"]).content.to_pydict() == TABLE.select(["sources", "key"]).to_pydict()
    path.write_bytes(flipped(path.read_bytes(), bit))
    with pytest.raises(CorruptRunError, match=r"(?s)is not what augcond wrote: .*; write it again"):
        read_table(path, "write it again")


@pytest.mark.parametrize("data", [b"", b"\0" * 300, b"[1]", b"{", b"\xff\xfe{}"])
def test_what_is_none_of_ours_is_refused(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(CorruptRunError, match="is not what augcond wrote"):
        read_json(path, "mend it")
    with pytest.raises(CorruptRunError, match="is not what augcond wrote"):
        read_table(path, "mend it")
    path.unlink()
    for read in (read_json, read_table):
        with pytest.raises(FileNotFoundError):
            read(path, "mend it")
    path.mkdir()
    for read in (read_json, read_table):
        with pytest.raises(CorruptRunError, match=r"it is no file: remove it"):
            read(path, "mend it")


def test_files_without_a_seal_are_read_as_those_of_0_1(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    pq.write_table(TABLE, tmp_path / "a.parquet")
    assert not read_json(tmp_path / "a.json", "").sealed
    assert not read_table(tmp_path / "a.parquet", "").sealed
    with pytest.raises(CorruptRunError, match="as another file says"):
        read_table(tmp_path / "a.parquet", "", sha256="0" * 64)
    pq.write_table(TABLE.replace_schema_metadata({"sea1": "0" * 64}), tmp_path / "a.parquet")
    with pytest.raises(CorruptRunError, match="unknown keys"):
        read_table(tmp_path / "a.parquet", "")


def test_a_seal_needs_a_place():
    with pytest.raises(ValueError, match="no place"):
        seal(b"abc")
    assert fits(b"of 0.1", None)
    assert not fits(b"abc", "1" * 64)
    assert not fits(b"abc", 3)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_table):
        with pytest.raises(CorruptRunError, match="it is no file: remove it; write it again"):
            read(tmp_path / "pipe", "write it again")


@dataclass(frozen=True, slots=True)
class Part:
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    part: Part
    share: float | None = None


def test_what_json_holds_has_its_types():
    values = {"name": "a", "part": {"counts": [1, 2]}, "share": 1}
    assert typed(Whole, values) == Whole("a", Part((1, 2)), 1.0)
    for wrong, message in (
        ({"name": 5}, "name: "),
        ({"part": []}, "part: "),
        ({"part": {"counts": 5}}, "part.counts: "),
        ({"part": {}}, "part.counts: "),
        ({"shares": 1}, "unknown key 'shares'"),
    ):
        with pytest.raises(ValueError, match=message):
            typed(Whole, values | wrong)
