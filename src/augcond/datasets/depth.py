"""More than 8 bits a channel: what its values stand for, and which of them are none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from augcond.errors import ImageError

_NODATA_TAG = 42113
"""Of GDAL: the value, as text, of pixels that nothing was measured at."""

_UNSAID_NODATA = (-9999.0, -32768.0, float(np.finfo(np.float32).min))
"""Values that stand for no measurement where no tag says so, if one of them lies far below all others of an image."""


def is_wide(image: Image.Image, data: bytes) -> bool:
    """Return whether an image has more than 8 bits a channel.

    Args:
        image: as Pillow opened it.
        data: of the file.
    """
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or (image.format == "PNG" and data[24] == 16)


def to_8_bit(image: Image.Image, data: bytes) -> tuple[Image.Image, bool]:
    """Return `image` with 8 bits a channel; Pillow's own conversion clips wider values, which turns them white.

    Where a file does not say how far its values go, they are taken to go to 1 (floats), 255, 4095 or 65535: the first
    of these that holds them all. Values that none of these holds are stretched from the lowest to the highest. Values
    that stand for no measurement become transparent.

    Args:
        image: loaded.
        data: of the file.

    Returns:
        The image, and whether its brightness was read off its values where the file promises another (12 bits in 16) or
        some of them are no measurements.

    Raises:
        ImageError: its values make no picture.
    """
    if image.mode == "I" and image.format == "PNG":  # Pillow < 11 opens 16-bit grey PNG so
        image = image.convert("I;16")
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        return _from_32_bit(image)
    if _is_nearly_black(image, data):
        raise ImageError("nearly black: 16-bit colours of 12 bits or fewer; store them with 8 bits")
    if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        image.info["transparency"] = _key_of_8_bits(image.info["transparency"], depth=data[24])
    return image, False


def _is_nearly_black(image: Image.Image, data: bytes) -> bool:
    """Return whether an image of 16-bit colours has no value above 4095; Pillow keeps the higher 8 bits of each."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    depth = data[24] if image.format == "PNG" else 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        depth = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0]
    return depth == 16 and 0 < max(high for _, high in image.getextrema()[:3]) < 16  # type: ignore[misc]


def _from_16_bit(image: Image.Image) -> tuple[Image.Image, bool]:
    values = np.asarray(image)
    white, inverted = 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        white = 2 ** min(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0], 16) - 1
        inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # white is zero
    transparent = image.info.get("transparency")
    key = transparent if isinstance(transparent, int) else _tagged_nodata(image)
    measured = values.ravel() if key is None else values[values != key]
    top = int(measured.max(initial=0))
    narrow = white == 65535 and 0 < top <= 4095
    if narrow:
        white = 255 if top <= 255 else 4095
    scaled = values.astype(np.float32) * np.float32(255 / white)
    grey: NDArray[np.uint8] = np.rint(scaled if key is None else scaled.clip(0, 255)).astype(np.uint8)
    result = Image.fromarray(np.uint8(255) - grey if inverted else grey)
    if key is not None:
        result.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return result, narrow or (len(measured) < values.size and key is not transparent)


def _from_32_bit(image: Image.Image) -> tuple[Image.Image, bool]:
    values: NDArray[Any] = np.asarray(image)
    missing = _missing(values, _tagged_nodata(image))
    measured = values if missing is None else values[~missing]
    if not np.isfinite(measured).all():
        raise ImageError("pixel values that are not finite")
    if not measured.size:
        raise ImageError("no pixel has a value")
    low, high = float(measured.min()), float(measured.max())
    guessed = missing is not None
    tops = (1.0, 255.0, 4095.0, 65535.0) if values.dtype.kind == "f" else (255.0, 4095.0, 65535.0)
    fitting = next((top for top in tops if low >= 0 and high <= top), None)
    if fitting is not None:
        low, high = 0.0, fitting
        guessed |= fitting == 4095.0
    span = high - low or 1.0
    scaled = (values.astype(np.float64) - low) * (255 / span)
    if missing is not None:
        scaled[missing] = 0
    grey = Image.fromarray(np.rint(scaled).astype(np.uint8))
    if missing is not None:
        grey.putalpha(Image.fromarray(np.where(missing, 0, 255).astype(np.uint8)))
    return grey, guessed


def _missing(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Return where nothing was measured; None where that is nowhere."""
    if nodata is None:
        nodata = float(values.min())
        with np.errstate(invalid="ignore"):  # some that are no numbers
            others = values[values != values.min()].astype(np.float64)
        if nodata not in _UNSAID_NODATA or not others.size or others.min() - nodata <= np.ptp(others) / 2:
            return None
    missing = np.isnan(values) if np.isnan(nodata) else np.asarray(values == values.dtype.type(nodata))
    return missing if missing.any() else None


def _tagged_nodata(image: Image.Image) -> float | None:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    try:
        return float(str(image.tag_v2[_NODATA_TAG]).strip(" \0"))
    except (KeyError, ValueError):
        return None


def _key_of_8_bits(key: Any, depth: int) -> Any:
    """Return the transparent colour of a PNG of any bit depth as its 8-bit pixels have it; Pillow does not scale it."""
    if isinstance(key, int):
        white = 2 ** min(depth, 8) - 1
        return (key & white) * 255 // white  # the chunk has 16 bits, of which the lowest count
    if isinstance(key, tuple) and depth == 16:
        return tuple(channel >> 8 for channel in key)  # Pillow keeps the high byte of each channel
    return key
