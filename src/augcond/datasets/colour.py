"""Colour profiles: which of them stand for other colours than sRGB, and what these are in sRGB."""

from __future__ import annotations

import io
import logging
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""The mode of images that profiles of a colour space are for."""

_ALIKE = 3
"""Grey levels: makers' profiles of sRGB differ by so much. An image with one of them is left as it is."""


def transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what makes sRGB of an image's colours; None where they are sRGB, or no usable profile says otherwise.

    A broken profile, or one for another kind of image than it lies in, is passed over, as browsers do.

    Args:
        profile: an ICC profile; may be empty.
        mode: of the image, as Pillow opened it.
    """
    space = _SPACES.get(profile[16:20])
    return _transform(profile, space) if space is not None and space == _kind(mode) else None


def in_srgb(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """Return `image` (RGB, L or CMYK, as the profile of `transform` is) in sRGB, mode RGB."""
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # noqa: S101 - it is where nothing is changed in place
    # A grey may come out with one channel a level off.
    return converted.getchannel("G").convert("RGB") if image.mode == "L" else converted


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Return an image of mode LAB in mode RGB."""
    return ImageCms.applyTransform(image, _lab()) or image


def _kind(mode: str) -> str | None:
    if mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16"):
        return "L"
    return {"CMYK": "CMYK", "LAB": None}.get(mode, "RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, space: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Optimised, curves of greys are tables of 33 entries, some 10 levels off where they are steep.
        flags = ImageCms.Flags.NOOPTIMIZE if space == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, _srgb(), space, "RGB", flags=flags)
        if space == "CMYK":
            return transform
        colours = _ramp() if space == "L" else _colours()
        moved = np.asarray(in_srgb(colours, transform)).astype(int) - np.asarray(colours.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        logger.debug("a colour profile cannot be used (%s): its image is taken as sRGB", error)
        return None
    return transform if np.abs(moved).max() > _ALIKE else None


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=1)
def _lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


def _ramp() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


def _colours() -> Image.Image:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(grid.reshape(len(levels), -1, 3))
