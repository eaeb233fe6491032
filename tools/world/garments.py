"""Fashion-MNIST as Debian ships it, and who may see which garment."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CLASS_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
PARTITION_SEED = 20261122
GENERATOR_COUNT = 50_000
_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, slots=True)
class Garments:
    """Grey garments with their class and their place in an official file.

    Attributes:
        images: (N, 28, 28) uint8, backdrop 0.
        labels: (N,) int64, index into `CLASS_NAMES`.
        source_index: (N,) int64, row in the official file.
        source_file: "train" or "test".
    """

    images: Tensor
    labels: Tensor
    source_index: Tensor
    source_file: str

    def __len__(self) -> int:
        """Number of garments."""
        return len(self.labels)

    def take(self, rows: Tensor) -> Garments:
        """The garments at `rows`, in that order."""
        return Garments(self.images[rows], self.labels[rows], self.source_index[rows], self.source_file)


def read_official(source_file: str, folder: Path = DEFAULT_FOLDER) -> Garments:
    """Read one official file pair ("train": 60,000 garments, "test": 10,000)."""
    prefix = _PREFIX[source_file]
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", header=8)
    return Garments(
        images=torch.from_numpy(images.copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        source_index=torch.arange(len(labels)),
        source_file=source_file,
    )


def _read_idx(path: Path, header: int) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; install Debian's dataset-fashion-mnist or pass --garments FOLDER")
    with gzip.open(path, "rb") as stream:
        return np.frombuffer(stream.read(), dtype=np.uint8, offset=header)


def partition(train: Garments) -> tuple[Garments, Garments]:
    """Split the official training garments into the generator's 50,000 and the 10,000 it never sees."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(PARTITION_SEED))
    return train.take(order[:GENERATOR_COUNT].sort().values), train.take(order[GENERATOR_COUNT:])


def first_per_class(garments: Garments, count: int, skip: int = 0) -> Garments:
    """Rows `skip` to `skip + count` of every class, classes in order."""
    rows = [torch.nonzero(garments.labels == label).flatten()[skip : skip + count] for label in range(len(CLASS_NAMES))]
    if any(len(part) < count for part in rows):
        raise ValueError(f"fewer than {skip + count} garments in a class of {garments.source_file}")
    return garments.take(torch.cat(rows))
