"""From encoded bytes to RGB images: whole, upright, in true brightness, or refused with a reason."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

# Imported for their registration: `Image.open` would else import every plugin there is at the first WebP or TIFF.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageColor,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from augcond.datasets.colour import in_srgb, lab_to_srgb, transform_to_srgb
from augcond.datasets.depth import is_wide, to_8_bit
from augcond.datasets.formats import kind_of, missing_plugin
from augcond.datasets.headers import Header, take_apart
from augcond.errors import ConfigError, ImageError, LargeImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from PIL.ImageCms import ImageCmsTransform

    from augcond.datasets.base import DecodeSettings

with suppress(ImportError):  # Pillow < 11.3 has none
    from PIL import AvifImagePlugin  # noqa: F401

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is read without asking for a plugin."""

MOST_SECONDS = 60.0
"""Of a processor, for one image. A photo takes a tenth of a second, the largest image that is allowed some seconds."""

_LARGE = 25_000_000
_large_ones: AbstractContextManager[object] = threading.BoundedSemaphore(4)
"""So many images of more pixels than that are in memory at once; the largest that is allowed takes up to 2 GB."""


class _Left:
    def __enter__(self) -> None:
        raise LargeImageError("left to another process")

    def __exit__(self, *_: object) -> None:
        pass


def leave_large_ones() -> None:
    """Decode none of the images that few are decoded of at once: this process is one of many that do.

    A `LargeImageError` is raised from now on.
    """
    global _large_ones
    _large_ones = _Left()


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

GLIMPSE_EDGE = 64


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of an image that was found whole.

    Attributes:
        width: in pixels, upright.
        height: in pixels, upright.
        paths: see `ImageRecord.paths`.
        small: the image, maybe smaller: `GLIMPSE_EDGE` pixels a side at least, where it has them.
    """

    width: int
    height: int
    paths: tuple[str, ...]
    small: Image.Image


def decode(data: bytes, settings: DecodeSettings) -> Image.Image:
    """Return the whole image in mode RGB, sRGB, upright by its EXIF orientation.

    Of an animation or a multi-page file this is the first frame; the others are not looked at. Transparent pixels are
    composited on `settings.background`. Wider values than 8 bits are rescaled as `depth.to_8_bit` says. A colour
    profile is applied where it stands for other colours than sRGB.

    The work is bounded, whatever the file: by `settings.max_pixels`, by the number of scans of a JPEG, by what may be
    unpacked besides pixels, by `MOST_SECONDS`.

    Args:
        data: an encoded JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or (with pillow-heif) HEIC file.
        settings: background colour and the largest size allowed.

    Raises:
        ImageError: the image cannot be decoded whole; the message is a short reason that names no file.
        ConfigError: `settings.background` is no colour.
    """
    background = background_colour(settings)
    with short_reasons(data, settings), opened_image(data, settings) as opened:
        return _decode(opened, background)[0]


def examine(data: bytes, settings: DecodeSettings) -> Examined:
    """Return what is known of what `decode` returns, and raise where it raises, but faster for JPEG.

    A JPEG's compressed data is read to its last byte (so that a half-written file is noticed), while as little as an
    eighth of each dimension is reconstructed, `GLIMPSE_EDGE` pixels at least where it has them. Other formats are
    decoded.

    Args:
        data: as in `decode`.
        settings: as in `decode`.

    Raises:
        ImageError: as in `decode`.
        ConfigError: as in `decode`.
    """
    background = background_colour(settings)
    with short_reasons(data, settings), opened_image(data, settings) as opened:
        if opened.image.format != "JPEG":
            image, paths = _decode(opened, background)
            return Examined(*image.size, paths, image)
        width, height = opened.image.size
        paths = ("jpeg", "profile") if opened.transform() else ("jpeg",)
        opened.image.draft("RGB", (GLIMPSE_EDGE, GLIMPSE_EDGE))
        opened.image.load()
        orientation = opened.header.orientation
        small = upright(to_rgb(opened.image, background, opened.transform()), orientation)
        if orientation >= 5:
            width, height = height, width
        return Examined(width, height, paths, small)


def probe(data: bytes, settings: DecodeSettings) -> tuple[int, int]:
    """Return width and height of what `decode` returns; see `examine`."""
    found = examine(data, settings)
    return found.width, found.height


def background_colour(settings: DecodeSettings) -> tuple[int, int, int]:
    """Return `settings.background` as red, green, blue in [0, 255].

    Raises:
        ConfigError: it is no colour that Pillow knows.
    """
    try:
        return cast("tuple[int, int, int]", ImageColor.getcolor(settings.background, "RGB"))
    except ValueError:
        raise ConfigError(
            f"data.background: {settings.background!r} is no colour: expected a name such as white, or #rrggbb"
        ) from None


@dataclass(frozen=True, slots=True)
class _Opened:
    image: Image.Image
    header: Header

    def transform(self) -> ImageCmsTransform | None:
        """Return what makes sRGB of the colours; None where they are."""
        return transform_to_srgb(self.header.profile, self.image.mode)


def _open(data: bytes, settings: DecodeSettings) -> _Opened:
    """Return the opened, not yet decoded image, having checked what its header and its frame of bytes tell."""
    if not data:
        raise ImageError("empty file")
    kind = kind_of(data)
    header = take_apart(data, kind)
    image = Image.open(_Metered(header.data), formats=FORMATS if kind in (None, *FORMATS) else (_plugin(kind),))
    if 0 in image.size:
        raise ImageError("image without pixels")
    if image.width * image.height > settings.max_pixels:
        raise ImageError(_too_large(settings.max_pixels))
    if image.format == "TIFF":
        _check_tiles(image, settings)
    elif image.format == "BMP" and image.width * image.height > _MOST_RLE_PIXELS and image.tile[0][0] == "bmp_rle":
        raise ImageError(f"too long to decode: a run-length encoded BMP of more than {_MOST_RLE_PIXELS} pixels")
    if kind not in ("JPEG", "PNG", "TIFF"):  # Pillow turns a TIFF itself
        exif, xmp = (image.info.get(key) or b"" for key in ("exif", "xmp"))
        header = replace(header, exif=exif, xmp=xmp.encode() if isinstance(xmp, str) else xmp)
    if kind not in ("JPEG", "PNG"):
        header = replace(header, profile=image.info.get("icc_profile") or b"")
    return _Opened(image, header)


@contextmanager
def opened_image(data: bytes, settings: DecodeSettings) -> Iterator[_Opened]:
    """Open an image, and wait until there is room for it."""
    opened = _open(data, settings)
    with _large_ones if opened.image.width * opened.image.height > _LARGE else nullcontext():
        yield opened


_MOST_RLE_PIXELS = 16_000_000
"""Pillow decodes these in Python."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323


def _check_tiles(image: Image.Image, settings: DecodeSettings) -> None:
    """Refuse a TIFF whose tiles reach far beyond it: what is unpacked are whole tiles."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    width, length = tags.get(_TILE_WIDTH, 1), tags.get(_TILE_LENGTH, 1)
    if -(-image.width // width) * width * -(-image.height // length) * length > settings.max_pixels:
        raise ImageError(_too_large(settings.max_pixels))


@lru_cache(maxsize=8)
def _plugin(kind: str) -> str:
    """Return the format that Pillow reads by a plugin that need not be there.

    Raises:
        ImageError: it is not there; the message says how to get it.
    """
    missing = missing_plugin(kind)
    if missing is not None:
        raise ImageError(missing)
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return kind


class _Metered(io.BytesIO):
    """Bytes for a decoder that wants them for so long and so often at most.

    Time is that of the thread: a machine under load changes nothing.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = 4 * len(data) + (64 << 20)
        self._until = time.thread_time() + MOST_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes.

        Raises:
            ImageError: the decoder has had its share.
        """
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ImageError("too long to decode: its parts lie within one another")
        if time.thread_time() > self._until:
            raise ImageError(f"too long to decode: more than {MOST_SECONDS:.0f} seconds")
        return data


def _decode(opened: _Opened, background: tuple[int, int, int]) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the image as `decode` does, and which paths of computation were taken."""
    image, transform = opened.image, opened.transform()
    image.load()
    wide = is_wide(image, opened.header.data)
    image, guessed = to_8_bit(image, opened.header.data)
    orientation = 1 if opened.image.format == "TIFF" else opened.header.orientation
    taken = {
        "jpeg": opened.image.format == "JPEG",
        "wide": wide,
        "range": guessed,
        "profile": transform is not None,
    }
    turned = upright(to_rgb(image, background, transform), orientation)
    return turned, tuple(path for path, is_taken in taken.items() if is_taken)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned as its EXIF orientation says."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def to_rgb(image: Image.Image, background: tuple[int, int, int], transform: ImageCmsTransform | None) -> Image.Image:
    """Return a loaded image in mode RGB, sRGB, on the background where it is transparent."""
    if image.mode == "LAB":
        return lab_to_srgb(image)
    if image.mode == "RGB" and image.format == "JPEG" and transform is None:
        return image  # no copy: nothing holds on to its file
    if not image.has_transparency_data:
        return image.convert("RGB") if transform is None else _in_srgb(image, transform)
    canvas, shown = Image.new("RGBA", image.size, (*background, 255)), image.convert("RGBA")
    if transform is not None:
        grey = image.mode in ("L", "LA", "La")
        opaque = _in_srgb(shown.getchannel("R") if grey else shown, transform)
        opaque.putalpha(shown.getchannel("A"))
        shown = opaque
    return Image.alpha_composite(canvas, shown).convert("RGB")


def _in_srgb(image: Image.Image, transform: ImageCmsTransform) -> Image.Image:
    grey = image.mode in ("1", "L")
    return in_srgb(image.convert("L" if grey else "RGB") if image.mode != "CMYK" else image, transform)


@contextmanager
def short_reasons(data: bytes, settings: DecodeSettings) -> Iterator[None]:
    """Turn every failure inside into an ImageError whose reason is alike for alike failures."""
    try:
        with quiet_pillow:
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        kind = kind_of(data)
        raise ImageError(f"broken or truncated {kind} file" if kind else "not an image of a known format") from error
    except Image.DecompressionBombError as error:
        pillow_limit = 2 * (Image.MAX_IMAGE_PIXELS or settings.max_pixels)
        raise ImageError(_too_large(min(settings.max_pixels, pillow_limit))) from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    # Pillow's plugins raise nearly anything on rubbish: struct.error, KeyError, ZeroDivisionError, ...
    except Exception as error:
        state = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(f"{state} {kind_of(data) or 'image'} file") from error


def _too_large(limit: int) -> str:
    return f"too large: more than {limit} pixels"


class _QuietPillow:
    """Keeps Pillow's warnings (odd EXIF, sizes we check ourselves) from users while any thread decodes.

    Pillow refuses images that are cut short then, too, whatever the caller has told it.

    `warnings.catch_warnings` must not be entered by several threads at once: the first one in enters it, the last one
    out leaves it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings[None] | None = None
        self._lenient = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._caught is None:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._caught is not None:
                self._caught.__exit__(None, None, None)
                self._caught = None
                ImageFile.LOAD_TRUNCATED_IMAGES = self._lenient


quiet_pillow = _QuietPillow()
"""Whoever has threads decode enters it: then none of them changes the filters of warnings, which all threads share."""


def available_cores() -> int:
    """Return the number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
