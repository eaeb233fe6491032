from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from augcond.errors import ImageError
from augcond.store.images import ImageFormat, encode_image
from augcond.store.marks import SOURCE_TYPE, marked

PIXELS = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)


IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def source_types(image):
    """Return what the XMP packet that Pillow finds in an image says in `DigitalSourceType`."""
    root = ElementTree.fromstring(image.info["xmp"])  # noqa: S314 - our own
    return [found.text for found in root.iter(f"{IPTC}DigitalSourceType")]


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_an_image_says_that_it_is_generated_and_keeps_its_pixels(name):
    plain = encode_image(PIXELS, ImageFormat(name, 90, None))
    before, after = (Image.open(io.BytesIO(data)) for data in (plain, marked(plain)))
    assert source_types(after) == [SOURCE_TYPE]
    assert "xmp" not in before.info
    assert (after.format, after.size, after.mode) == (before.format, before.size, before.mode)
    assert np.array_equal(before, after)


def test_transparency_of_a_webp_stays():
    buffer = io.BytesIO()
    Image.new("RGBA", (5, 4), (10, 200, 30, 77)).save(buffer, "WEBP", lossless=True)
    after = Image.open(io.BytesIO(marked(buffer.getvalue())))
    assert after.mode == "RGBA"
    assert after.getpixel((2, 2)) == (10, 200, 30, 77)


def test_what_is_no_stored_image_is_refused():
    with pytest.raises(ImageError, match="does not decode"):
        marked(b"GIF89a")
