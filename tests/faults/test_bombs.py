"""Small files made to cost memory or paths outside: refused, or read, within a limit of memory that the system sets."""

from __future__ import annotations

import io
import json
import resource
import tarfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, features
from safetensors.torch import save

from augcond.config import WebDatasetConfig
from augcond.datasets import DecodeSettings, list_from_file, list_webdataset
from augcond.datasets.decoding import decode, examine
from augcond.errors import CorruptRunError, DatasetError, ImageError
from augcond.files import read_groups
from augcond.pipeline import generate
from augcond.sealed import BLANK, SEAL, open_table, read_json, read_table, seal, write_table
from augcond.store import RunFolder, audit_run, run_status
from augcond.store.claims import Claims
from augcond.store.export import export_run
from augcond.training.cards import load_checkpoint
from tests.toy import png, toy_config

DEEP = b"[" * 200_000


@contextmanager
def memory(more: int):
    """Let this process have so many bytes more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Parquet: a text that is kept once, and stands in every row.

ROWS, TEXT = 2**16, "x" * 2**22
ONCE = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), [TEXT])
LAUGHS = {
    "texts": ONCE,
    "lists": pa.ListArray.from_arrays(pa.array([0, ROWS], pa.int32()), ONCE),
    "structs": pa.StructArray.from_arrays([ONCE], ["bytes"]),
}


@pytest.mark.parametrize("column", LAUGHS)
def test_a_text_that_stands_in_every_row_is_not_unpacked(tmp_path, column):
    path = tmp_path / "t.parquet"
    table = pa.table({"a": LAUGHS[column]})
    pq.write_table(table, path, compression="zstd", store_schema=False, dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 1000
    with memory(256 << 20):
        for read in (
            lambda: list(read_groups(path)),
            lambda: read_table(path, "do so").content,
            lambda: open_table(path, "do so").content.read_row_group(0),
        ):
            with pytest.raises((pa.ArrowInvalid, CorruptRunError), match=r"unpacks to 274,877,906,944 bytes of text"):
                read()


def test_numbers_that_are_kept_once_count_as_often_as_they_stand(tmp_path):
    path = tmp_path / "t.parquet"
    numbers = pa.ListArray.from_arrays(pa.array([0, 2**22], pa.int32()), pa.nulls(2**22, pa.int8()).fill_null(0))
    pq.write_table(pa.table({"a": pa.chunked_array([numbers])}), path)
    with pq.ParquetFile(path) as file:
        assert file.metadata.row_group(0).column(0).num_values == 2**22
    assert path.stat().st_size < 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("augcond.unpacking._MOST_BYTES", 2**23)
        with memory(256 << 20), pytest.raises(CorruptRunError, match="says that it unpacks to 1 rows of 16,777,216"):
            read_table(path, "do so")


def test_want_of_memory_does_not_pass_for_a_damaged_file(tmp_path):
    write_table(tmp_path / "t.parquet", pa.table({"a": np.arange(2**22)}))
    with memory(8 << 20), pytest.raises(MemoryError):
        read_table(tmp_path / "t.parquet", "do so")


# Tars.


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "../../outside"
    return info.tobuf(tarfile.GNU_FORMAT)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def samples(**members: bytes) -> bytes:
    """Return a tar of two samples, with the extension and contents of each label."""
    stream = io.BytesIO()
    kind, *_ = members
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in range(2):
            for name, data in ((f"{number}.png", png(number)), (f"{number}.{kind}", members[kind] % number)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


GOOD = samples(cls=b"%d")
TWO = ("t.tar/0.png", "t.tar/1.png")


def old_sparse() -> bytes:
    """Return a member of which 512 bytes are there, and which says that it has 2^40."""
    made = bytearray(header("2.cls", 512, tarfile.GNUTYPE_SPARSE))
    made[386:410] = b"%011o\0%011o\0" % (0, 512)
    made[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
    made[148:156] = b"%06o\0 " % (sum(made[:148]) + 256 + sum(made[156:512]))
    return bytes(made) + bytes(512)


def pax(record: bytes) -> bytes:
    """Return an extended header of one record, and a member that it is of."""
    line = b" %s\n" % record
    line = b"%d%s" % (len(line) + len(str(len(line) + 2)), line)
    return header("x", len(line), tarfile.XHDTYPE) + block(line) + header("2.cls", 1) + block(b"1")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [2**33 - 1, 2**62])
def test_a_tar_whose_header_says_that_it_is_huge_is_refused(tmp_path, kind, size):
    (tmp_path / "t.tar").write_bytes(header("x", size, kind) + GOOD)
    with memory(128 << 20), pytest.raises(DatasetError, match=r"cut off or damaged after 0 samples .* a header of"):
        list_webdataset(tmp_path / "t.tar", WebDatasetConfig())


@pytest.mark.parametrize(
    "first",
    [
        header("2.cls", -5),
        header("2.cls", 2**40),
        pax(b"size=99999999999999999999"),
        pax(b"GNU.sparse.size=x"),
        pax(b"GNU.sparse.map=1,2,3,4"),
    ],
    ids=["negative", "larger than the file", "size", "sparse size", "sparse map"],
)
def test_a_tar_of_impossible_sizes_is_refused_or_passed_over(tmp_path, first):
    (tmp_path / "t.tar").write_bytes(first + GOOD)
    with memory(128 << 20):
        try:
            assert list_webdataset(tmp_path / "t.tar", WebDatasetConfig()).keys == TWO
        except DatasetError as error:
            assert "cut off or damaged after" in str(error)


@pytest.mark.parametrize(
    "first",
    [
        old_sparse(),
        b"".join(header("2.png", 0, kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)),
        b"".join(header("2.cls", 0, kind) for kind in (tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)),
    ],
    ids=["sparse", "links", "devices"],
)
def test_members_of_a_tar_that_are_no_plain_files_are_none(tmp_path, first):
    (tmp_path / "t.tar").write_bytes(first + GOOD)
    with memory(128 << 20):
        listed = list_webdataset(tmp_path / "t.tar", WebDatasetConfig())
    assert listed.keys == TWO and listed.rejected == ()


@pytest.mark.parametrize("label", ["2.cls", "2.json"])
def test_a_label_that_fills_a_disk_is_none(tmp_path, label):
    with (tmp_path / "t.tar").open("wb") as file:
        file.write(samples(**{label[2:]: b"%d" if label == "2.cls" else b'{"label": %d}'}).rstrip(b"\0"))
        file.truncate(-(-file.tell() // 512) * 512)
        file.seek(0, 2)
        file.write(header("2.png", len(png(2))) + block(png(2)) + header(label, 2**36))
        # 64 GiB that take no room.
        file.truncate(file.tell() + 2**36 + 1024)
    (tmp_path / "t.tar").stat()
    with memory(128 << 20), (tmp_path / "t.tar").open("rb") as file:
        file.seek(-1024, 2)
        assert file.read() == bytes(1024)
        listed = list_webdataset(tmp_path / "t.tar", WebDatasetConfig())
    assert listed.keys == TWO
    assert [(each.key, each.reason) for each in listed.rejected] == [
        ("t.tar/2.png", f"no label: .{label[2:]} has more than 16,777,216 bytes")
    ]


def test_json_without_end_is_no_label(tmp_path):
    (tmp_path / "t.tar").write_bytes(samples(json=DEEP + b"%d"))
    listed = list_webdataset(tmp_path / "t.tar", WebDatasetConfig())
    assert {each.reason for each in listed.rejected} == {"no label: .json cannot be read"}


@pytest.mark.parametrize("pattern", ["t-{0..999999999}.tar", "t-{0..9999}{0..9999}{0..9999}.tar"])
def test_a_pattern_that_stands_for_billions_of_shards_is_refused(tmp_path, pattern):
    with memory(128 << 20), pytest.raises(DatasetError, match="stands for more than 1,000,000 shards"):
        list_webdataset(tmp_path / pattern, WebDatasetConfig())


# Depth.


def test_json_without_end_in_files_of_a_run_is_refused_or_made_anew(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(DEEP)
    with pytest.raises(CorruptRunError, match="it is no JSON"):
        read_json(path, "do so")
    about = {"augcond": DEEP.decode(), SEAL: BLANK}
    (tmp_path / "c.safetensors").write_bytes(seal(save({"module.x": torch.zeros(1)}, metadata=about)))
    module = torch.nn.Linear(1, 1)
    assert load_checkpoint(tmp_path / "c.safetensors", module, torch.optim.SGD(module.parameters()), "f") is None
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "0123456789ab.worker").write_bytes(DEEP)
    with Claims(locks) as claims:
        claims.bury_dead(at_once=True)
    assert list(locks.iterdir()) == []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = toy_config(tmp_path_factory.mktemp("made"), plan={"per_class": 2}, conditioning={"recipe": "text"})
    generate(config)
    return RunFolder(config.run)


@pytest.mark.parametrize(
    ("name", "key", "read"),
    [
        ("plan.parquet", b"augcond", RunFolder.read_plan),
        ("plan.parquet", b"augcond", lambda run: run.holds_good(0, run.marker_path(0).read_bytes(), "other")),
        ("sources.parquet", b"augcond.warnings", RunFolder.read_data_warnings),
    ],
)
def test_json_without_end_in_a_footer_is_refused(made, name, key, read):
    path = made.path / name
    before = {each: each.read_bytes() for each in (made.plan_path, made.sources_path)}
    table = pq.read_table(path)
    about = {key: value for key, value in (table.schema.metadata or {}).items() if key != SEAL.encode()}
    sha256 = write_table(path, table.replace_schema_metadata(about | {key: DEEP}))
    if path == made.sources_path:
        plan = pq.read_table(made.plan_path)
        values = json.loads(plan.schema.metadata[b"augcond"]) | {"sources": sha256}
        write_table(made.plan_path, plan.replace_schema_metadata({b"augcond": json.dumps(values).encode()}))
    try:
        found = read(made)
        assert found is False
    except CorruptRunError as error:
        assert name in str(error)
    finally:
        for each, data in before.items():
            each.write_bytes(data)


# Images.


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"])
def test_an_image_of_more_pixels_than_allowed_is_refused_before_they_are_unpacked(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    stream = io.BytesIO()
    options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    Image.new("RGB", (2500, 2500), (9, 9, 9)).save(stream, kind, **options)
    settings = DecodeSettings(max_pixels=6_000_000)
    for function in (decode, examine):  # what they need beside
        function(png(1), settings)
    with memory(6 << 20):
        for function in (decode, examine):
            with pytest.raises(ImageError, match="too large: more than 6000000 pixels"):
                function(stream.getvalue(), settings)


# Names.


def test_a_class_name_of_a_megabyte_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\na.png,{'x' * 2**20}\n")
    with pytest.raises(DatasetError, match="line 2: field larger than field limit"):
        list_from_file(tmp_path / "list.csv")


NAMES = {
    "../../../outside": "a path",
    "..": "the folder above",
    "/tmp/outside": "an absolute path",  # noqa: S108 - is not opened
    "x" * 100_000: "long",
    "line\x1b[2J\x07bell": "control characters",
    "\u202egnp.cod\u2066": "right to left",
    "CON": "a device",
    "a\u0301" * 300: "accents",
}


def test_no_class_name_leads_out_or_stops_anything(tmp_path):
    root = tmp_path / "inside" / "deep"
    root.mkdir(parents=True)
    lines = ["path,label"]
    for number, name in enumerate(NAMES):
        for each in range(2):
            (root / f"{number}-{each}.png").write_bytes(png(number * 2 + each))
            lines.append(f'{number}-{each}.png,"{name}"')
    (root / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = toy_config(
        root,
        data={"path": root / "list.csv", "source": "list"},
        plan={"per_class": 1},
        conditioning={"recipe": "mixup"},
        prompt="a photo",
    )
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)}
    with memory(512 << 20):
        generate(config)
        run = RunFolder(config.run)
        assert run_status(run).ok == len(NAMES)
        assert audit_run(run).problems == ()
        assert export_run(run, root / "folders", "imagefolder") == len(NAMES)
        assert export_run(run, root / "tars", "webdataset") == len(NAMES)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)} == before
    folders = [path for path in (root / "folders").iterdir() if path.is_dir()]
    assert len(folders) == len(NAMES)
    assert all(path.name.isprintable() and len(path.name.encode()) < 255 for path in folders)
    with tarfile.open(next((root / "tars").glob("*.tar"))) as tar:
        assert all("/" not in name and not name.startswith(".") for name in tar.getnames())
