"""A user's folder of awkward photos, from inspect to export, with real Stable unCLIP pipelines."""

from __future__ import annotations

import json
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from torchvision.datasets import ImageFolder

import augcond.__main__ as program
from augcond.testing import TinyShape, save_tiny_stable_unclip
from tests.datasets.photos import make_photo_folder

RECIPES = ["text", "image", "mixup", "embed-cutmix-dropout"]
SHAPES = {
    "vector of 16, AutoencoderKL": TinyShape(),
    "other sizes, AutoencoderTiny": TinyShape(
        embedding=24, latent=6, vae_scale=4, encoder_input=16, autoencoder="tiny"
    ),
}


def augcond(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["augcond", *arguments])
    try:
        program.main()
    except SystemExit as stop:
        captured = capsys.readouterr()
        assert not stop.code, captured.err
        return captured.out
    raise AssertionError("the command line did not exit")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_from_photos_to_an_exported_dataset(tmp_path, monkeypatch, capsys, shape):
    photos = make_photo_folder(tmp_path / "photos")
    model = save_tiny_stable_unclip(tmp_path / "model", shape=shape)
    config = {
        "data": {"path": "photos"},
        "run": "run",
        "plan": {"per_class": 2},
        "conditioning": {"recipe": RECIPES},
        "generator": {"model": f"./{model.name}", "steps": 2},
        "engine": {"shard_size": 20, "batch_size": 8},
    }
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)

    found = json.loads(augcond(monkeypatch, capsys, "inspect", "photos", "--json"))
    assert {file["key"]: file["reason"] for file in found["rejected"]} == photos.rejected
    assert [entry["images"] for entry in found["classes"]] == photos.counts()

    total = 2 * len(RECIPES) * len(photos.classes)
    assert json.loads(augcond(monkeypatch, capsys, "plan", "photos.yaml", "--json"))["total"] == total
    augcond(monkeypatch, capsys, "generate", "photos.yaml")
    assert json.loads(augcond(monkeypatch, capsys, "status", "run", "--json"))["ok"] == total
    assert "sound" in augcond(monkeypatch, capsys, "check", "run")
    augcond(monkeypatch, capsys, "export", "run", "--to", "synthetic")
    folder = ImageFolder(str(tmp_path / "synthetic"))
    assert len(folder) == total
    assert folder[0][0].size == (shape.latent * shape.vae_scale,) * 2
    metadata = pq.read_table(tmp_path / "synthetic" / "metadata.parquet").to_pylist()
    sources = {key for row in metadata for key in row["source_keys"]}
    assert sources
    assert sources <= set(photos.sizes)
    augcond(monkeypatch, capsys, "preview", "photos.yaml", "--class", photos.classes[0], "--to", "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
