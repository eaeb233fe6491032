"""Thumbnails beside the page: small images as they are, larger ones scaled down to webp."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from augcond.datasets import DecodeSettings, decode, list_images
from augcond.datasets.contents import RecordedReader
from augcond.errors import DatasetError, ImageError
from augcond.report.facts import RunFacts
from augcond.report.sample import Group, SampledRow
from augcond.store.images import LARGEST_LOSSLESS, decode_stored

if TYPE_CHECKING:
    from augcond.datasets import Reader

FOLDER = "images"
_MANY = 1000
"""So many pictures and more are made smaller, that the page stays easy to pass on."""


class SourceImages:
    """The run's real images, decoded as the run decoded them.

    Attributes:
        problem: why none of them can be read, such as a folder that is gone; empty where they can.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.problem = ""
        self._decoding = DecodeSettings.of(facts.config.data)
        try:
            listing = list_images(facts.config.data)
            recorded = {key: sha256 for key, (_, sha256) in facts.folder.read_sources().items()}
            self._reader: Reader | None = RecordedReader(listing.reader, recorded)
            # What a run calls a source is opened only if it is one: keys of a stranger's run may be any paths.
            self._keys = frozenset(listing.keys)
        except DatasetError as error:
            # A run may be looked at where its real images are not; the page says that they are missing.
            self._reader, self._keys, self.problem = None, frozenset(), str(error)

    def open(self, key: str) -> Image.Image | None:
        """Return the image behind `key`, or None where it can no longer be read or is another now."""
        if self._reader is None or key not in self._keys:
            return None
        try:
            return decode(self._reader.read(key), self._decoding)
        except Exception:  # readers of one's own raise what they like, and the page says that sources are lost
            return None


@dataclass(slots=True)
class Thumbnails:
    """Writes pictures below the page's folder, each source once.

    Attributes:
        folder: the page's folder.
        sources: opens real images.
        edge: longest edge in pixels of what is scaled down.
        limit: bytes after which no more are written.
        bytes: written so far.
        count: written so far.
        lost: keys of sources that can no longer be read, or are other images now.
    """

    folder: Path
    sources: SourceImages
    edge: int = 256
    limit: int = 13_000_000
    bytes: int = 0
    count: int = 0
    lost: set[str] = field(default_factory=set)
    _known: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def sized_for(cls, folder: Path, sources: SourceImages, pictures: int) -> Thumbnails:
        """Return thumbnails whose size suits so many of them."""
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        return cls(folder, sources, edge=160 if pictures >= _MANY else 256)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.bytes >= self.limit

    def source(self, key: str) -> str | None:
        """Return the file name of the real image `key`, written at first use; None where it cannot be read."""
        if key not in self._known:
            image = self.sources.open(key)
            if image is None:
                self.lost.add(key)
            self._known[key] = None if image is None else self._write(image)
        return self._known[key]

    def held_out(self, key: str, opener: Callable[[str], Image.Image | None]) -> str | None:
        """Return the file name of a test image, written at first use; None where it cannot be read."""
        known = f"\1{key}"
        if known not in self._known:
            image = opener(key)
            self._known[known] = None if image is None else self._write(image)
        return self._known[known]

    def generated(self, row: SampledRow) -> str | None:
        """Return the file name of a generated image, written at first use; None where the row failed."""
        if row.image is None:
            return None
        # A plan key cannot be taken for a source's: those are paths of files, and it starts with a NUL.
        known = f"\0{row.key}"
        if known not in self._known:
            try:
                self._known[known] = self._write(decode_stored(row.image))
            except ImageError:
                self._known[known] = None
        return self._known[known]

    def _write(self, image: Image.Image) -> str:
        data, extension = encode_thumbnail(image, self.edge)
        name = f"{self.count:05d}{extension}"
        (self.folder / FOLDER / name).write_bytes(data)
        self.count += 1
        self.bytes += len(data)
        return name


def encode_thumbnail(image: Image.Image, edge: int) -> tuple[bytes, str]:
    """Return the encoded picture, at most `edge` pixels long, and its file name extension."""
    image = image.convert("RGB")
    buffer = io.BytesIO()
    if max(image.size) <= LARGEST_LOSSLESS:
        image.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    # Twice reduced: a fast box filter first, then a good one; photographs are much larger than thumbnails.
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.save(buffer, "WEBP", quality=80, method=1)
    return buffer.getvalue(), ".webp"


def gallery_data(facts: RunFacts, groups: Iterable[Group], thumbnails: Thumbnails) -> dict[str, object]:
    """Return what the page's script shows of `groups`, as plain values for JSON; writes the pictures.

    Seeds are texts: they have 63 bits, and numbers in a browser 53.
    """
    prompts: dict[str, int] = {}
    entries: list[dict[str, object]] = []
    shown = 0
    for group in groups:
        if thumbnails.full:
            break
        shown += len(group.rows)
        entries.append(
            {
                "label": group.label,
                "index": group.index,
                "seed": str(group.seed),
                "sources": [[thumbnails.source(key), key] for key in dict.fromkeys(group.source_keys)],
                "rows": [_row_data(facts, row, thumbnails, prompts) for row in group.rows],
            }
        )
    return {
        "recipes": list(facts.recipes),
        "classes": [[entry.class_id, entry.class_name] for entry in facts.classes],
        "prompts": list(prompts),
        "shown": shown,
        "of": facts.status.attempted,
        "groups": entries,
    }


def _row_data(facts: RunFacts, row: SampledRow, thumbnails: Thumbnails, prompts: dict[str, int]) -> dict[str, object]:
    return {
        "key": row.key,
        "rejected": row.key in facts.rejected_images,
        "recipe": facts.recipes.index(row.recipe),
        "image": thumbnails.generated(row),
        "lam": _rounded(row.lam),
        "share": _rounded(row.share),
        "weights": [round(weight, 3) for weight in row.weights],
        "sources": len(row.source_keys),
        "prompt": prompts.setdefault(row.prompt, len(prompts)),
        "error": row.error,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
