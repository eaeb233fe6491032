"""Which image formats are read, how files of them begin and end their names, and what reads those that are not."""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"}
)
"""By these files are known as images. One that needs a package that is missing is an image too: it is rejected, with
the way to read it, where passing it over would say nothing."""

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    *((order + number, "TIFF") for order in (b"II", b"MM") for number in (b"*\0", b"\0*", b"+\0", b"\0+")),
    (b"GIF8", "GIF"),
)

_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


PLUGIN_KINDS = ("AVIF", "HEIF")


def kind_of(data: bytes) -> str | None:
    """Return the format that the first bytes of a file tell, as Pillow calls it (HEIC is `HEIF`); None for others."""
    if data[4:8] == b"ftyp":
        # The brand, then a version, then brands that the file conforms to as well; `mif1` is of both.
        header = data[: min(int.from_bytes(data[:4], "big"), 256)]
        brands = {data[8:12], *(header[place : place + 4] for place in range(16, len(header), 4))}
        return "AVIF" if brands & _AVIF else "HEIF" if brands & _HEIC else None
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def missing_plugin(kind: str) -> str | None:
    """Return what has to be installed to read images of a format; None where it is there."""
    if kind == "HEIF" and find_spec("pillow_heif") is None:
        return "HEIC is not read without pillow-heif: pip install 'augcond[heic]'"
    return "AVIF is not read by this Pillow: pip install 'pillow>=11.3'" if kind == "AVIF" and not _has_avif() else None


def _has_avif() -> bool:
    try:
        from PIL.AvifImagePlugin import SUPPORTED
    except ImportError:
        return False
    return SUPPORTED


def describe_ignored(files: Iterable[str], most: int = 5) -> str:
    """Return how many files have which suffix, most frequent first, such as `12 x .cr2, 1 x .txt`.

    Args:
        files: names or paths.
        most: so many suffixes are named.
    """
    suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in files)  # noqa: PTH122
    named = [f"{count} x {suffix}" for suffix, count in suffixes.most_common(most)]
    return ", ".join([*named, "..."] if len(suffixes) > most else named)
