from __future__ import annotations

import json
import pickle
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augcond.datasets import DecodeSettings, decode, list_builtin, verification
from augcond.errors import DatasetError
from tests.datasets.photos import CLASSES, encode, picture


@pytest.mark.parametrize(("role", "per_class"), [("pool", 200), ("validation", 50), ("test", 300)])
def test_each_part(role, per_class):
    listing = list_builtin(role)
    assert len(listing.classes) == 10
    assert Counter(listing.labels) == dict.fromkeys(range(10), per_class)
    assert len(set(listing.keys)) == len(listing.keys)
    for key, label in zip(listing.keys, listing.labels, strict=True):
        assert key.split("/")[0] == listing.classes[label]
    assert decode(listing.reader.read(listing.keys[-1]), DecodeSettings()).size == (32, 32)


def test_parts_share_no_key_and_agree_on_classes():
    roles = [list_builtin(role) for role in ("pool", "validation", "test")]
    assert len({key for role in roles for key in role.keys}) == sum(len(role.keys) for role in roles)
    assert len({role.classes for role in roles}) == 1
    assert list_builtin() == roles[0]


def test_reader_is_picklable_and_refuses_unknown_keys():
    listing = list_builtin("validation")
    reader = pickle.loads(pickle.dumps(listing.reader))  # noqa: S301
    assert reader.read(listing.keys[0]) == listing.reader.read(listing.keys[0])
    assert len(pickle.dumps(reader)) < 1000
    with pytest.raises(FileNotFoundError, match="no image x in the validation"):
        reader.read("x")


def write_world(folder, numbers, seed=0):
    import numpy as np

    data = encode(picture(np.random.default_rng(seed), 8, 8), "PNG")
    rows = [
        {"image": {"bytes": data, "path": None}, "label": 1, "source_file": "train", "source_index": number}
        for number in numbers
    ]
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), folder / "pool.parquet")


def test_another_folder(tmp_path):
    write_world(tmp_path, [3, 14])
    listing = list_builtin(folder=tmp_path)
    assert listing.classes == CLASSES
    assert listing.keys == ("golden_retriever/train-00003.png", "golden_retriever/train-00014.png")


def test_what_decoding_found_is_kept_until_an_image_is_another(tmp_path, monkeypatch):
    examined = []

    def examine(reader, settings, examiners, keys, own=verification._examine):
        examined.extend(keys)
        return own(reader, settings, examiners, keys)

    monkeypatch.setattr(verification, "_examine", examine)
    found = []
    for folder, seed in (("a", 0), ("a", 0), ("b", 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_world(tmp_path / folder, [3, 14], seed)
        listing = list_builtin(folder=tmp_path / folder)
        found.append(verification.verify(listing, DecodeSettings(), cache=tmp_path / "kept.parquet").images)
    assert found[0] == found[1] != found[2]
    assert examined == [*listing.keys, *listing.keys]


def test_damaged_worlds(tmp_path):
    with pytest.raises(DatasetError, match=r"pool.parquet is missing: reinstall"):
        list_builtin(folder=tmp_path)
    (tmp_path / "pool.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"pool.parquet is damaged"):
        list_builtin(folder=tmp_path)
    write_world(tmp_path, [3, 3])
    with pytest.raises(DatasetError, match=r"a picture comes twice"):
        list_builtin(folder=tmp_path)
