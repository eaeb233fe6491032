"""From encoded bytes to RGB images: whole, upright, in true brightness, or refused with a reason."""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

# Imported for their registration: `Image.open` would else import every plugin there is at the first WebP or TIFF.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    ImageColor,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from augcond.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from augcond.datasets.base import DecodeSettings

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"GIF8", "GIF"),
)

_ORIENTATION_TAG = 0x0112
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

_JPEG_END = b"\xff\xd9"


def decode(data: bytes, settings: DecodeSettings) -> Image.Image:
    """Return the whole image in mode RGB, upright by its EXIF orientation.

    Of an animation or a multi-page file this is the first frame. Transparent pixels are composited on
    `settings.background`. 16-bit values are rescaled to 8 bits; 32-bit values as `_rescale_wide` says. Embedded colour
    profiles are not applied, as in the common training pipelines.

    Args:
        data: an encoded JPEG, PNG, WebP, BMP, TIFF or GIF file.
        settings: background colour and the largest size allowed.

    Raises:
        ImageError: the image cannot be decoded whole; the message is a short reason that names no file.
        ConfigError: `settings.background` is no colour.
    """
    background = background_colour(settings)
    with _short_reasons(data, settings):
        image = _open(data, settings)
        image.load()
        orientation = _orientation(image)
        return _upright(_to_rgb(_to_8_bit(image, data), background), orientation)


def probe(data: bytes, settings: DecodeSettings) -> tuple[int, int]:
    """Return width and height of what `decode` returns; see `glimpse`."""
    return glimpse(data, settings)[0]


def glimpse(data: bytes, settings: DecodeSettings) -> tuple[tuple[int, int], Image.Image]:
    """Return width and height of what `decode` returns, and it, maybe smaller; raise where it raises, but faster.

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
    with _short_reasons(data, settings):
        image = _open(data, settings)
        if image.format not in ("JPEG", "MPO"):
            whole = decode(data, settings)
            return whole.size, whole
        width, height = image.size
        image.draft("RGB", (GLIMPSE_EDGE, GLIMPSE_EDGE))
        image.load()
        orientation = _orientation(image)
        small = _upright(_to_rgb(image, background), orientation)
        return ((height, width) if orientation >= 5 else (width, height)), small


def paths_taken(data: bytes) -> tuple[str, ...]:
    """Return which paths of computation `decode` takes with an image that `probe` passed; see `ImageRecord.paths`."""
    with _quiet_pillow:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    wide = image.mode in ("I", "F") or image.mode.startswith("I;16") or (image.format == "PNG" and data[24] == 16)
    found = {
        "jpeg": image.format in ("JPEG", "MPO"),
        "wide": wide,
        "profile": "icc_profile" in image.info,
    }
    return tuple(path for path, taken in found.items() if taken)


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


def _open(data: bytes, settings: DecodeSettings) -> Image.Image:
    """Return the opened, not yet decoded image, having checked what its header and its frame of bytes tell."""
    if not data:
        raise ImageError("empty file")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if 0 in image.size:
        raise ImageError("image without pixels")
    if image.width * image.height > settings.max_pixels:
        raise ImageError(_too_large(settings.max_pixels))
    if image.format == "PNG":
        # Pillow decodes a PNG without its end, or with wrong checksums, as long as the rows suffice.
        image.verify()
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.format in ("JPEG", "MPO") and image.fp and data.find(_JPEG_END, image.fp.tell()) < 0:
        # A file allocated in full but written in part ends in zeros, which libjpeg decodes to grey without an error.
        raise ImageError("truncated JPEG file")
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of a loaded image; 1 where there is none or none that is defined."""
    # Not ImageOps.exif_transpose: it also writes the metadata anew, which fails on much that real cameras wrote.
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception as error:  # nearly any type, as the metadata of PNG and WebP are not checked before
        logger.debug("EXIF data cannot be read (%s): taken as upright", error)
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_8_bit(image: Image.Image, data: bytes) -> Image.Image:
    """Return `image` with 8 bits a channel; Pillow's own conversion clips wider values, which turns them white."""
    if image.mode == "I" and image.format == "PNG":  # Pillow < 11 opens 16-bit grey PNG so
        image = image.convert("I;16")
    if image.mode.startswith("I;16"):
        grey = Image.fromarray(_rescale_16_bit(image))
        key = image.info.get("transparency")
        if isinstance(key, int):
            grey.putalpha(Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("I", "F"):
        return Image.fromarray(_rescale_wide(np.asarray(image)))
    if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        image.info["transparency"] = _key_of_8_bits(image.info["transparency"], depth=data[24])
    return image


def _rescale_16_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Return grey values (H, W) in [0, 255] of a 16-bit (in TIFF also 12-bit) image (H, W)."""
    white, inverted = 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        white = 2 ** min(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0], 16) - 1
        inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # white is zero
    grey: NDArray[np.uint8] = np.rint(np.asarray(image).astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
    return np.uint8(255) - grey if inverted else grey


def _rescale_wide(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey values (H, W) in [0, 255] of 32-bit integers or floats (H, W), whose range no header tells.

    Values that lie in [0, 1] (floats only), [0, 255] or [0, 65535] are read as the first of these ranges that holds
    them; any others are stretched from their lowest to their highest.
    """
    if not np.isfinite(values).all():
        raise ImageError("pixel values that are not finite")
    low, high = float(values.min()), float(values.max())
    tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    fitting = next((top for top in tops if low >= 0 and high <= top), None)
    if fitting is not None:
        low, high = 0.0, fitting
    span = high - low or 1.0
    return np.rint((values.astype(np.float64) - low) * (255 / span)).astype(np.uint8)


def _key_of_8_bits(key: Any, depth: int) -> Any:
    """Return the transparent colour of a PNG of any bit depth as its 8-bit pixels have it; Pillow does not scale it."""
    if isinstance(key, int):
        white = 2 ** min(depth, 8) - 1
        return (key & white) * 255 // white  # the chunk has 16 bits, of which the lowest count
    if isinstance(key, tuple) and depth == 16:
        return tuple(channel >> 8 for channel in key)  # Pillow keeps the high byte of each channel
    return key


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return cast("Image.Image", ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _short_reasons(data: bytes, settings: DecodeSettings) -> Iterator[None]:
    """Turn every failure inside into an ImageError whose reason is alike for alike failures."""
    try:
        with _quiet_pillow:
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        kind = _kind(data)
        raise ImageError(f"broken or truncated {kind} file" if kind else "not an image of a known format") from error
    except Image.DecompressionBombError as error:
        pillow_limit = 2 * (Image.MAX_IMAGE_PIXELS or settings.max_pixels)
        raise ImageError(_too_large(min(settings.max_pixels, pillow_limit))) from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    # Pillow's plugins raise nearly anything on rubbish: struct.error, KeyError, ZeroDivisionError, ...
    except Exception as error:
        state = "truncated" if "truncated" in str(error).lower() else "broken"
        raise ImageError(f"{state} {_kind(data) or 'image'} file") from error


def _kind(data: bytes) -> str | None:
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def _too_large(limit: int) -> str:
    return f"too large: more than {limit} pixels"


class _QuietPillow:
    """Keeps Pillow's warnings (odd EXIF, sizes we check ourselves) from users while any thread decodes.

    `warnings.catch_warnings` must not be entered by several threads at once: the first one in enters it, the last one
    out leaves it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._caught is None:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._caught is not None:
                self._caught.__exit__(None, None, None)
                self._caught = None


_quiet_pillow = _QuietPillow()


def available_cores() -> int:
    """Return the number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
