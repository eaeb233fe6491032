"""Labelled real images: what every dataset source yields."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from augcond.config.data import DataConfig

HeldOut = Literal["test", "validation"]
"""Which real images models are judged on: `test` to measure, `validation` to choose."""


class Reader(Protocol):
    """Gives the encoded bytes of an image by its key; must be picklable and safe to use from several threads."""

    def read(self, key: str) -> bytes:
        """Return the file's bytes as they lie on disk.

        Raises:
            OSError: the file cannot be read.
        """
        ...


@runtime_checkable
class StatReader(Reader, Protocol):
    """A reader that can tell, without reading an image, whether it has changed."""

    def stat(self, key: str) -> tuple[int, int] | None:
        """Return size in bytes and time of change in ns; None where that cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """Images and labels as listed, none of them opened yet.

    Attributes:
        classes: class ids in label order (folder names); unique.
        class_names: the words that prompts use, one per class; may repeat.
        keys: image keys, unique and stable: the path relative to the dataset's root, with `/`.
        labels: index into `classes`, one per key.
        reader: gives the bytes behind a key.
        ignored: files that are no images by their name (`Thumbs.db`), as paths relative to the root.
        rejected: images that cannot even be listed, such as those whose name is not UTF-8; not among `keys`.
    """

    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    reader: Reader
    ignored: tuple[str, ...] = ()
    rejected: tuple[RejectedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One readable real image.

    Attributes:
        key: see `Listing.keys`.
        label: index into the dataset's classes.
        width: in pixels, after EXIF rotation.
        height: in pixels, after EXIF rotation.
        sha256: hex digest of the file's bytes; part of the fingerprint of every row made from this image.
        paths: the paths of computation that decoding it takes, of `jpeg`, `wide` and `profile`; where one of them comes
            to give other pixels, its version goes up for the images that take it.
    """

    key: str
    label: int
    width: int
    height: int
    sha256: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """One file that cannot be used, and why."""

    key: str
    label: int
    reason: str


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How encoded bytes become RGB images.

    Attributes:
        background: colour behind transparent pixels: a name or #rrggbb, as in `PIL.ImageColor`.
        max_pixels: larger images are refused by their header. Pillow's own limit (twice `Image.MAX_IMAGE_PIXELS`,
            178,956,970 pixels) holds besides.
    """

    background: str = "white"
    max_pixels: int = 100_000_000

    @classmethod
    def of(cls, config: DataConfig) -> DecodeSettings:
        """Return the settings that the `data` section of a config names."""
        return cls(background=config.background, max_pixels=config.max_pixels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled real images, each of which has been decoded once and found whole.

    Attributes:
        classes: class ids in label order; unique.
        class_names: the words that prompts use, one per class.
        images: every readable image, in the order of their listing.
        rejected: every file that cannot be used.
        reader: gives the bytes behind a key.
        decoding: how those bytes become images.
        ignored: files that are no images by their name.
    """

    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[ImageRecord, ...]
    rejected: tuple[RejectedFile, ...]
    reader: Reader
    decoding: DecodeSettings = DecodeSettings()
    ignored: tuple[str, ...] = ()

    def counts(self) -> list[int]:
        """Return the number of readable images per class, in label order."""
        counts = [0] * len(self.classes)
        for image in self.images:
            counts[image.label] += 1
        return counts

    def contents_sha256(self) -> str:
        """Return the hex digest of which images it holds: their keys, labels and bytes, whatever their order."""
        lines = sorted((image.key, image.label, image.sha256) for image in self.images)
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
