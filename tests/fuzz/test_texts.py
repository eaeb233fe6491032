"""Broken lists, tables, configs and tar files: read, or refused by an error that augcond raises on purpose."""

from __future__ import annotations

import io
import random
import tarfile
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augcond.config import WebDatasetConfig, load_config
from augcond.datasets import DecodeSettings, list_from_file, list_webdataset, read_class_names, verify
from augcond.errors import AugcondError
from tests.fuzz.mutations import mutate
from tests.toy import png

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CSV = b'path,label\n"a,b.jpg",cat\nb.jpg,dog\n#x.jpg,cat\n\xc3\xa9.jpg,"with ""quotes"""\nc.jpg,3\n'
TEXT = b"# a list\nphotos/a.jpg 0\nphotos/with blank.jpg 1\n./#b.jpg 1\n\nphotos/../c.jpg 2\n"
NAMES = "n01440764\ttench\nn01443537\tgoldfish, Carassius\nn1\té\n".encode()
YAML = b"""\
data: {path: photos, source: folder, split: {validation_per_class: 3}}
plan:
  per_class: {cat: 2, dog: 1}
conditioning: {recipe: [text, mixup], augment: [{name: RandomCrop, size: 24}]}
generator: {name: fake, steps: 3}
prompt: "a photo of a {class_name}"
training: {seeds: 2, arms: [{name: one, recipe: mixup}]}
run: run
"""
TOKENS = (
    *(
        b": ",
        b"\n",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"<<: *a\n",
        b"data: 1\n",
    ),
    *(b"010", b"1:30", b"no", b"nan", b"-1", b"1e999", b"..", b"%s"),
    *(b"\0", b"\xff", b"\xe2\x80\xa8", b'"', b"'", b",", b"\t", b"#", b"\r"),
)


def broken(text: bytes, seed: int) -> bytes:
    """Return a text with things wrong with it, as bytes and as what its reader makes of tokens."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return mutate(text, rng, YAML)
    parts = bytearray(text)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(parts) + 1)
        parts[place : place + rng.choice((0, 1, 9))] = rng.choice(TOKENS)
    return bytes(parts)


def read_or_refused(function, path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        function(path)
    except AugcondError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("name", "text", "function"),
    [
        ("list.csv", CSV, list_from_file),
        ("list.txt", TEXT, list_from_file),
        ("names.txt", NAMES, read_class_names),
        ("c.yaml", YAML, load_config),
    ],
    ids=["csv", "list", "names", "yaml"],
)
def test_texts(tmp_path, name, text, function):
    (tmp_path / name).write_bytes(text)
    function(tmp_path / name)

    @QUICK
    @given(st.integers(0, 2**32))
    def try_one(seed):
        read_or_refused(function, tmp_path / name, broken(text, seed))

    try_one()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS + "data: *i\nrun: *i\n", "aliases .* stand for more than 100,000 values"),
        ("data: &a [*a]\nrun: x\n", "aliases .* stand for more than 100,000 values"),
        ("data: " + "[" * 1200 + "]" * 1200, "cannot be read as YAML"),
        ("data: " + "{a: " * 1200 + "1" + "}" * 1200, "cannot be read as YAML"),
        (f"data: {{max_pixels: {'9' * 5000}}}", "cannot be read as YAML"),
        ("plan: {seed: 2024-13-45}", "c.yaml"),
    ],
    ids=["aliases", "circle", "lists", "mappings", "number", "date"],
)
def test_configs_that_are_small_and_become_huge(tmp_path, text, reason):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(AugcondError, match=reason):
        load_config(tmp_path / "c.yaml")


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(4):
            members = {"png": png(number, (4, 4)), "cls": b"%d" % (number % 2), "json": b'{"label": "x", "n": [1]}'}
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"folder/{number:04d}é.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("label", ["cls", "json:label", None])
def test_tars(tmp_path, label):
    path, whole = tmp_path / "a.tar", tar()
    config = WebDatasetConfig(label=label)

    def read_all(path):
        return verify(list_webdataset(path, config), DecodeSettings(), max_bad_share=1.0, workers=1)

    path.write_bytes(whole)
    assert len(read_all(path).images) == 4

    @QUICK
    @given(st.integers(0, 2**32))
    def try_one(seed):
        read_or_refused(read_all, path, broken(whole, seed))

    try_one()
