"""The built-in world's small dataset, which ships with the package."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from augcond.assets import WORLD
from augcond.datasets.base import DatasetReader, HeldOut, Listing, Role
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config import DataConfig

WorldFile = Literal["pool", "validation", "test"]


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads images out of one file of the world, which each process loads once.

    Attributes:
        name: which file.
        folder: where its parquet file lies; the package's own assets where None.
    """

    name: WorldFile
    folder: Path | None = None

    def read(self, key: str) -> bytes:
        """Return the encoded image behind `key`.

        Raises:
            FileNotFoundError: there is no such key in this file.
        """
        try:
            return _load(self.name, self.folder).images[key]
        except KeyError:
            raise FileNotFoundError(f"no image {key} in the {self.name} of the built-in world") from None

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return size in bytes, and in the place of a time of change, which installers set as they like, a checksum."""
        image = _load(self.name, self.folder).images.get(key)
        return None if image is None else (len(image), int.from_bytes(hashlib.sha256(image).digest()[:7]))


@dataclass(frozen=True, slots=True)
class _World:
    classes: tuple[str, ...]
    images: dict[str, bytes]
    labels: tuple[int, ...]


def list_builtin(name: WorldFile = "pool", *, folder: Path | None = None) -> Listing:
    """Return one file of the built-in world: real garments in one narrow style.

    Keys are `class/source file-number.png`, such as `t-shirt/train-31531.png`, after the picture's row in the official
    Fashion-MNIST files; they are unique over all files.

    Args:
        name: `pool` to train on (200 a class), `validation` (50 a class) or `test` (300 a class).
        folder: a folder with another world's `<name>.parquet`; the package's own assets where None.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    world = _load(name, folder)
    return Listing(
        classes=world.classes,
        class_names=world.classes,
        keys=tuple(world.images),
        labels=world.labels,
        reader=ParquetReader(name, folder),
    )


@lru_cache(maxsize=8)
def _load(name: WorldFile, folder: Path | None) -> _World:
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = (folder or WORLD) / f"{name}.parquet"
    try:
        table = pq.read_table(io.BytesIO(origin.read_bytes()))
        info = json.loads(table.schema.metadata[b"huggingface"])["info"]
        classes = tuple(info["features"]["label"]["names"])
        rows = table.select(["image", "label", "source_file", "source_index"]).to_pylist()
        keys = [f"{classes[row['label']]}/{row['source_file']}-{row['source_index']:05d}.png" for row in rows]
        images = {key: bytes(row["image"]["bytes"]) for key, row in zip(keys, rows, strict=True)}
    except FileNotFoundError:
        raise DatasetError(f"{origin} is missing: reinstall augcond") from None
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        raise DatasetError(f"{origin} is damaged ({error}): reinstall augcond") from error
    if len(images) != len(rows):
        raise DatasetError(f"{origin} is damaged (a picture comes twice): reinstall augcond")
    return _World(classes, images, tuple(row["label"] for row in rows))


class BuiltinReader(DatasetReader):
    """`builtin`: the built-in world's own images."""

    takes = frozenset()

    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images of the world's file for the role."""
        return list_builtin("pool" if role == "train" else role)

    def held_out(self, config: DataConfig) -> tuple[HeldOut, ...]:
        """Return both: the world has validation and test images."""
        return ("validation", "test")


READER = BuiltinReader()
