"""Oxford Flowers102: 102 kinds of flowers, with labels and split in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from augcond.datasets.base import Listing, Role
from augcond.datasets.benchmarks.base import Benchmark, Found, differs, first_folder, require
from augcond.datasets.benchmarks.flower_names import FLOWER_NAMES
from augcond.datasets.readers import FileReader
from augcond.errors import DatasetError, MissingExtraError

_FOLDERS = (".", "flowers-102", "flowers102")
_IDS: dict[Role, tuple[str, ...]] = {"train": ("trnid", "valid"), "test": ("tstid",)}
_SIZES: dict[Role, int] = {"train": 2_040, "test": 6_149}


def list_role(root: Path, role: Role) -> Found:
    """Return the official training and validation images for `train` (20 a class), the official test images for `test`.

    Alone, the official training images are 10 a class: too few for 16 shots. Validation images are drawn from these 20
    (`data.split.validation_per_class`), apart from those that are trained on.

    Raises:
        MissingDataError: a file or folder is missing.
        DatasetError: a MATLAB file is damaged, or the two do not fit.
        MissingExtraError: SciPy is not installed.
    """
    require(root)
    home = first_folder(root, _FOLDERS, "imagelabels.mat")
    labels = _vector(home / "imagelabels.mat", "labels")
    numbers = np.concatenate([_vector(require(home / "setid.mat", "file"), name) for name in _IDS[role]])
    require(home / "jpg")
    if labels.size and not (labels.min() >= 1 and labels.max() <= len(FLOWER_NAMES)):
        raise DatasetError(f"{home / 'imagelabels.mat'}: labels from {labels.min()} to {labels.max()}, not 1 to 102")
    if numbers.size and not (numbers.min() >= 1 and numbers.max() <= labels.size):
        raise DatasetError(
            f"{home / 'setid.mat'} names images {numbers.min()} to {numbers.max()}, but imagelabels.mat has "
            f"{labels.size}: download both anew"
        )
    numbers.sort()
    listing = Listing(
        classes=tuple(f"{number:03d}" for number in range(1, len(FLOWER_NAMES) + 1)),
        class_names=FLOWER_NAMES,
        keys=tuple(f"jpg/image_{number:05d}.jpg" for number in numbers.tolist()),
        labels=tuple((labels[numbers - 1] - 1).tolist()),
        reader=FileReader(home),
    )
    return Found(listing, differs(f"images in {' and '.join(_IDS[role])} of setid.mat", numbers.size, _SIZES[role]))


def _vector(path: Path, name: str) -> np.ndarray:
    """Return the numbers that a MATLAB file holds under `name`, (N,) int64."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError(
            "source 'flowers102' needs SciPy, which is not installed: pip install 'augcond[benchmarks]'"
        ) from None
    try:
        return np.asarray(loadmat(path, variable_names=[name])[name]).ravel().astype(np.int64)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise DatasetError(
            f"{path} holds no {name!r} ({type(error).__name__}: {error}): download it anew from "
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
        ) from error


BENCHMARK = Benchmark(
    name="flowers102",
    title="Oxford Flowers102",
    classes=len(FLOWER_NAMES),
    sizes="2,040 / 6,149 images for train / test (official train and validation together: 20 a class)",
    layout=(
        "imagelabels.mat, setid.mat",
        "jpg/image_00001.jpg ...",
        "(data.path may also hold these three in flowers-102/, as torchvision lays them)",
    ),
    download=("102flowers.tgz, imagelabels.mat and setid.mat from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",),
    list_role=list_role,
    roles=("train", "test"),
    modules=("scipy",),
)
