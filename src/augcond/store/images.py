"""Encode generated images for storage, and decode them again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from augcond.config import OutputConfig
from augcond.errors import ImageError

if TYPE_CHECKING:
    import numpy as np

_STORED = ("PNG", "WEBP", "JPEG")
_MOST_PIXELS = 2**26
"""Of an edge of 8,192 pixels."""
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

LARGEST_LOSSLESS = 64
"""Edge length in pixels up to which `auto` stores png: 1.2 million pngs of 768 pixels would be a terabyte."""


EFFORT = 2
"""Of the webp encoder, where the config says nothing else."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How images are stored.

    Attributes:
        name: `png`, `webp` or `jpeg`.
        quality: 1 to 100; unused for png.
        size: edge length in pixels to resize to, or None to keep the generated size.
        effort: 0 to 6, of the webp encoder; unused for others.
    """

    name: str
    quality: int
    size: int | None
    effort: int = EFFORT

    @property
    def extension(self) -> str:
        """File name extension with its dot."""
        return ".jpg" if self.name == "jpeg" else f".{self.name}"

    @classmethod
    def resolve(cls, config: OutputConfig, generated: tuple[int, int]) -> ImageFormat:
        """Return the format for images generated at `generated` (height, width) pixels."""
        edge = config.size or max(generated)
        name = config.format if config.format != "auto" else ("png" if edge <= LARGEST_LOSSLESS else "jpeg")
        return cls(name, config.quality, config.size, EFFORT if config.effort is None else config.effort)


def encode_image(pixels: np.ndarray, image_format: ImageFormat) -> bytes:
    """Return the encoded bytes of `pixels`, uint8 (H, W, 3)."""
    image = Image.fromarray(pixels)
    if image_format.size is not None and image.size != (image_format.size, image_format.size):
        image = image.resize((image_format.size, image_format.size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if image_format.name == "png":
        image.save(buffer, "PNG")
    elif image_format.name == "webp":
        image.save(buffer, "WEBP", quality=image_format.quality, method=image_format.effort)
    else:
        image.save(buffer, image_format.name.upper(), quality=image_format.quality)
    return buffer.getvalue()


def decode_stored(data: bytes) -> Image.Image:
    """Return the image behind bytes that `encode_image` made, fully decoded.

    A run may be a stranger's: other formats are not tried (for some, Pillow runs other programs), nor larger images
    than generators make.

    Raises:
        ImageError: the bytes are no whole image of a stored format and size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_STORED)
        if image.width * image.height > _MOST_PIXELS:
            raise ImageError(f"does not decode: {image.width} x {image.height} pixels are more than a generator makes")
        image.load()
    except (OSError, SyntaxError, ValueError, MemoryError, *_BOMBS) as error:
        raise ImageError(f"does not decode: {error}") from error
    return image
