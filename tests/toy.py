"""Small labelled image sets and configs that tests of every stage share."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from augcond.config import RunConfig, parse_config
from augcond.datasets import Dataset, ImageRecord


class MemoryReader:
    """Serves encoded images from a dictionary."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)

    def read(self, key: str) -> bytes:
        return self._files[key]


class Counted:
    """A progress that counts what it is told, and calls `on_item` with the number of items that are done."""

    def __init__(self, on_item: Callable[[int], object] = lambda done: None) -> None:
        self.total = self.done = self.failed = 0
        self._on_item = on_item

    def start(self, total: int, what: str | None = None) -> None:
        self.total, self.done, self.failed = total, 0, 0

    def advance(self, made: int, failed: int) -> None:
        self.done += made
        self.failed += failed
        self._on_item(self.done)


def png(seed: int, size: tuple[int, int] = (20, 20)) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def toy_dataset(counts: Mapping[str, int]) -> Dataset:
    """Return a dataset in memory with so many images per class."""
    files = {f"{name}/{i}.png": png(hash_of(name, i)) for name, count in counts.items() for i in range(count)}
    labels = {name: label for label, name in enumerate(counts)}
    images = tuple(
        ImageRecord(key, labels[key.rsplit("/", 1)[0]], 20, 20, hashlib.sha256(data).hexdigest())
        for key, data in files.items()
    )
    return Dataset(tuple(counts), tuple(counts), images, (), MemoryReader(files))


def hash_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")


def write_photos(root: Path, counts: Mapping[str, int]) -> Path:
    """Write a folder of class folders and return it."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(png(hash_of(name, i), (16 + i, 24)))
    return root


def toy_config(root: Path, counts: Mapping[str, int] | None = None, **sections: Any) -> RunConfig:
    """Return the config of a small run of the fake generator under `root`, whose photos are written if missing."""
    photos = root / "photos"
    if not photos.exists():
        write_photos(photos, counts or {"cat": 3, "dog": 4})
    values: dict[str, Any] = {
        "data": {"path": photos},
        "run": root / "run",
        "plan": {"per_class": 5},
        "conditioning": {"recipe": ["text", "image", "mixup", "embed-cutmix-dropout"]},
        "generator": {"name": "fake"},
        "engine": {"shard_size": 16, "batch_size": 6},
    }
    return config_with(values, sections)


def config_with(values: Mapping[str, Any], sections: Mapping[str, Any]) -> RunConfig:
    """Return the config of `values`, with the keys of `sections` in place of theirs."""
    merged = dict(values)
    for name, value in sections.items():
        merged[name] = {**merged[name], **value} if isinstance(merged.get(name), dict) else value
    return parse_config(merged)


def shard_bytes(run: Path) -> dict[str, bytes]:
    """Return the bytes of every shard of a run, by its plain name: one that was made again has another.

    No shard has two files.
    """
    paths = sorted((run / "shards").glob("*.parquet"))
    found = {f"{path.name.partition('.')[0]}.parquet": path.read_bytes() for path in paths}
    assert len(found) == len(paths)
    return found
