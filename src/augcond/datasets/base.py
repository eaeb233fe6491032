"""Labelled real images: what every dataset source yields."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from augcond.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from augcond.config.data import DataConfig

HeldOut = Literal["test", "validation"]
"""Which real images models are judged on: `test` to measure, `validation` to choose."""

Role = Literal["train", "validation", "test"]
"""What images of a data set are for: to learn from, to choose on, to measure on."""


DECODING_VERSIONS: Mapping[str, int] = {"jpeg": 1, "wide": 1, "range": 2, "profile": 2}
"""Paths of computation from a file to pixels: JPEG; more than 8 bits a channel; brightness that is read off such values
because the file does not tell it; a colour profile that is applied. Where one comes to give other pixels, its version
goes up for the images that take it."""


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
        skipped: folders that hold no photos of a class, such as a NAS's thumbnails.
        warnings: what looks wrong, each with what to do.
        several_names: each of `class_names` holds several, parted by `|`.
    """

    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    reader: Reader
    ignored: tuple[str, ...] = ()
    rejected: tuple[RejectedFile, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    several_names: bool = False


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One readable real image.

    Attributes:
        key: see `Listing.keys`.
        label: index into the dataset's classes.
        width: in pixels, after EXIF rotation.
        height: in pixels, after EXIF rotation.
        sha256: hex digest of the file's bytes; part of the fingerprint of every row made from this image.
        paths: the paths of computation that decoding it takes, of those in `DECODING_VERSIONS`.
        look: what `look_alikes.look_of` keeps of how it looks; empty where that is not known.
    """

    key: str
    label: int
    width: int
    height: int
    sha256: str
    paths: tuple[str, ...] = ()
    look: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """One file that cannot be used, and why."""

    key: str
    label: int
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A folder that was not looked into, as a path relative to the root, and why."""

    path: str
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
        skipped: see `Listing`.
        warnings: see `Listing`.
        several_names: see `Listing`.
    """

    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[ImageRecord, ...]
    rejected: tuple[RejectedFile, ...]
    reader: Reader
    decoding: DecodeSettings = DecodeSettings()
    ignored: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    several_names: bool = False

    @property
    def drawn_names(self) -> tuple[tuple[str, ...], ...]:
        """The names that a prompt of each class draws from, in label order; one each unless there are several."""
        return tuple(names_in(name) if self.several_names else (name,) for name in self.class_names)

    def counts(self) -> list[int]:
        """Return the number of readable images per class, in label order."""
        counts = [0] * len(self.classes)
        for image in self.images:
            counts[image.label] += 1
        return counts

    def contents_sha256(self) -> str:
        """Return the hex digest of which images it holds: their keys, labels and pixels, whatever their order."""
        later = {path for path, version in DECODING_VERSIONS.items() if version != 1}
        lines = sorted(
            (image.key, image.label, image.sha256, *(f"{p}={DECODING_VERSIONS[p]}" for p in image.paths if p in later))
            for image in self.images
        )
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def names_in(text: str) -> tuple[str, ...]:
    """Return the names that `text` holds, parted by `|`, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split("|")))


class DatasetReader(ABC):
    """Lists the labelled images of one kind of `data.source`, and says what such a source is.

    Attributes:
        takes: the keys of `data` that are for some sources only and that this one takes, of `path`, `validation`,
            `test`, `huggingface` and `webdataset`. A path is needed where it is taken, unless `check` is overridden.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"path", "validation", "test"})

    @abstractmethod
    def list_images(self, config: DataConfig, role: Role) -> Listing:
        """Return the images of a role, none of them opened.

        Asked for are `train` and what `held_out` names. Images that `data.validation` or `data.test` name are asked for
        as `train`, with that path as `path`. Class names of a file (`data.class_names`) are not this method's business.

        Raises:
            DatasetError: they cannot be listed.
        """

    def held_out(self, config: DataConfig) -> Collection[HeldOut]:
        """Return which of validation and test images the source brings of its own; nothing is read."""
        return ()

    def check(self, config: DataConfig) -> None:
        """Check that the section `data` holds what such a source needs, and nothing that it does not take.

        Raises:
            ValueError: naming the key.
        """
        self.refuse_others(config)
        if "path" in self.takes and config.path is None:
            raise ValueError(f"source {config.source!r} needs a path")

    def refuse_others(self, config: DataConfig) -> None:
        """Refuse keys that this source does not take.

        Raises:
            ValueError: naming the first.
        """
        for key in ("path", "validation", "test", "huggingface", "webdataset"):
            if key not in self.takes and getattr(config, key) is not None:
                raise ValueError(f"source {config.source!r} takes no {key}")


def path_of(config: DataConfig) -> Path:
    """Return `data.path`, which every source that needs one has been checked for.

    Raises:
        ConfigError: it is not set.
    """
    if config.path is None:
        raise ConfigError(f"data.path: source {config.source!r} needs a path")
    return config.path
