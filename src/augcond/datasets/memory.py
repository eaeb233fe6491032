"""Labelled images that a program has in memory: PIL images, tensors, arrays, data sets of other libraries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from augcond.config.data import HuggingFaceConfig
from augcond.datasets.base import Listing, Reader, RejectedFile
from augcond.datasets.class_names import names_for
from augcond.datasets.huggingface import labelled_rows, stored_image, stored_images
from augcond.datasets.readers import FileReader, read_file
from augcond.datasets.text import label_order
from augcond.errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    InMemory = Image.Image | Tensor | np.ndarray | bytes | Path

_OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes that PNG holds without loss; TIFF has the others."""


def list_memory(
    images: Any, labels: Sequence[int | str] | None = None, classes: Sequence[str] | None = None
) -> Listing:
    """Return labelled images that a program has in memory; none is looked at yet.

    Args:
        images: a sequence of PIL images, tensors (C, H, W) and arrays (H, W, C), uint8 or floats in [0, 1], encoded
            bytes or paths; or a data set of its own labels: a `datasets.Dataset`, or one of torchvision's kind, whose
            items are (image, label). Of an `ImageFolder` the files themselves are read, without its transforms.
        labels: of each image: its class, or the number of it; a data set has its own.
        classes: class ids, which prompts use (`_` as a space), by number; a data set may have its own. Where labels are
            classes and this is None, they are in numeric order where all are integers, else sorted.

    Returns:
        A listing whose keys are the places of the images in 8 digits; of an `ImageFolder`, the paths in it.

    Raises:
        DatasetError: labels and images do not fit, or classes are numbers without names.
    """
    if labels is None and hasattr(images, "features") and hasattr(images, "select_columns"):
        return _of_rows(images, classes)
    known = classes if classes is not None else getattr(images, "classes", None)
    if labels is None and hasattr(images, "samples") and hasattr(images, "root"):
        root = Path(images.root)
        keys = tuple(Path(path).relative_to(root).as_posix() for path, _ in images.samples)
        return _listing(keys, [label for _, label in images.samples], known, FileReader(root))
    if labels is None:
        labels = _labels_of(images)
        reader: Reader = MemoryReader(images, items=True)
    else:
        reader = MemoryReader(images)
    if len(labels) != len(images):
        raise DatasetError(f"{len(labels)} labels for {len(images)} images")
    return _listing(_keys(len(images)), labels, known, reader)


@dataclass(frozen=True, slots=True)
class MemoryReader:
    """Gives images that a program has in memory as files without loss.

    Attributes:
        images: see `list_memory`.
        items: whether its items are (image, label).
    """

    images: Any = field(repr=False)
    items: bool = False

    def read(self, key: str) -> bytes:
        """Return the image at that place, encoded.

        Raises:
            DatasetError: it is no image.
            OSError: its file cannot be read.
        """
        item = self.images[int(key)]
        return encoded(item[0] if self.items else item, key)


@dataclass(frozen=True, slots=True)
class RowsReader:
    """Gives the images of a `datasets.Dataset` as they are stored.

    Attributes:
        rows: the column of the images alone.
        column: its name.
    """

    rows: Any = field(repr=False)
    column: str

    def read(self, key: str) -> bytes:
        """Return the image of a row, encoded.

        Raises:
            OSError: the row has none.
        """
        return stored_image(self.rows[int(key)][self.column])


def encoded(image: InMemory, key: str) -> bytes:
    """Return `image` as a file that holds the same pixels, colour profile and orientation.

    Args:
        image: see `list_memory`.
        key: how messages call it.

    Raises:
        DatasetError: it is no image.
        OSError: its file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, Path):
        return read_file(image)
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_as_array(image, key))
    buffer = io.BytesIO()
    try:
        # Little is gained by packing more tightly what is unpacked again at once.
        turned = {"exif": exif} if (exif := image.getexif()) else {}
        image.save(buffer, "PNG" if image.mode in _OF_PNG else "TIFF", compress_level=1, **turned)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"image {key}: mode {image.mode} cannot be stored ({error}): convert it to RGB") from error
    return buffer.getvalue()


def _as_array(image: Tensor | np.ndarray, key: str) -> np.ndarray:
    """Return uint8 (H, W, 3)."""
    if hasattr(image, "detach"):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    else:
        array = np.asarray(image)
        array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise DatasetError(
            f"image {key} is a {type(image).__name__} of shape {tuple(np.shape(image))}: expected a PIL image, a "
            "tensor (C, H, W) or an array (H, W, C), of 1 or 3 channels"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DatasetError(f"image {key} has values outside of [0, 1]: give it as it is before it is normalised")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise DatasetError(f"image {key} has values of type {array.dtype}: expected uint8, or floats in [0, 1]")
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _keys(count: int) -> tuple[str, ...]:
    return tuple(f"{place:08d}" for place in range(count))


def _labels_of(images: Any) -> Sequence[int | str]:
    """Return the labels of a data set of torchvision's kind; where it has no list of them, by looking at each item."""
    for name in ("targets", "labels"):
        found = getattr(images, name, None)
        if found is not None and len(found) == len(images):
            return list(found)
    try:
        return [label for _, label in (images[place] for place in range(len(images)))]
    except (TypeError, ValueError) as error:
        raise DatasetError("labels: give one for each image, or a data set whose items are (image, label)") from error


def _listing(keys: tuple[str, ...], labels: Sequence[Any], known: Sequence[str] | None, reader: Reader) -> Listing:
    if not keys:
        raise DatasetError("there are no images")
    labels = [label.item() if hasattr(label, "item") else label for label in labels]
    numbers = all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    if numbers and known is None:
        raise DatasetError("labels are numbers: name the classes that they stand for (classes=[...]), for the prompts")
    names = tuple(map(str, known)) if known is not None else label_order(map(str, labels))
    if len(set(names)) != len(names):
        raise DatasetError("classes: two have one name")
    index = {name: number for number, name in enumerate(names)}
    found = [int(label) if numbers else index.get(str(label), -1) for label in labels]
    for key, label, number in zip(keys, labels, found, strict=True):
        if not 0 <= number < len(names):
            raise DatasetError(f"image {key} has the label {label!r}, which is none of the {len(names)} classes")
    return Listing(names, names_for(names, None), keys, tuple(found), reader)


def _of_rows(rows: Any, classes: Sequence[str] | None) -> Listing:
    column, own, texts = labelled_rows(rows, HuggingFaceConfig(), "the data set")
    index = {class_id: place for place, class_id in enumerate(own)}
    names = own if classes is None else tuple(classes)
    if len(names) != len(own):
        raise DatasetError(f"classes: {len(names)} names for the {len(own)} classes of the data set")
    keys = _keys(len(texts))
    labelled = [(key, index[text]) for key, text in zip(keys, texts, strict=True) if text is not None]
    return Listing(
        classes=names,
        class_names=names_for(names, None),
        keys=tuple(key for key, _ in labelled),
        labels=tuple(label for _, label in labelled),
        reader=RowsReader(stored_images(rows, column), column),
        rejected=tuple(RejectedFile(k, -1, "no label") for k, text in zip(keys, texts, strict=True) if text is None),
    )
