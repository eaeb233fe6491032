from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from augcond.datasets.base import DecodeSettings
from augcond.datasets.decoding import decode, examine
from tests.datasets.photos import P3, SRGB, colour_profile, encode, grey_profile, picture, png, rgb_png_16

PLAIN = DecodeSettings()
RNG = np.random.default_rng(3)
LOSSLESS = {"WEBP": {"lossless": True}}


def linear(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(values):
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def p3_in_srgb(pixels):
    xyz = linear(pixels / 255) @ np.array(P3).T
    return 255 * encoded(xyz @ np.linalg.inv(np.array(SRGB)).T)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_display_p3_becomes_srgb(kind):
    stored = RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    data = encode(Image.fromarray(stored), kind, icc_profile=colour_profile(P3), **LOSSLESS.get(kind, {}))
    expected = p3_in_srgb(stored)
    assert np.abs(np.asarray(decode(data, PLAIN)) - expected).max() <= 1.5
    assert np.abs(stored - expected).max() > 40  # of colours that screens show
    assert examine(data, PLAIN).paths == ("profile",)


def test_a_photo_of_a_phone_becomes_srgb():
    photo = picture(RNG, 64, 48)
    plain, p3 = encode(photo, "JPEG"), encode(photo, "JPEG", icc_profile=colour_profile(P3))
    expected = p3_in_srgb(np.asarray(decode(plain, PLAIN)))
    assert np.abs(np.asarray(decode(p3, PLAIN)) - expected).max() <= 1.5
    assert examine(p3, PLAIN).paths == ("jpeg", "profile")
    # As long profiles are stored, in parts of any order.
    assert b"ICC_PROFILE\0\1\1" in p3


@pytest.mark.parametrize(
    "profile", [colour_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_of_srgb_changes_no_pixel(kind, profile):
    photo = picture(RNG, 48, 33)
    plain, marked = encode(photo, kind), encode(photo, kind, icc_profile=profile)
    assert decode(marked, PLAIN).tobytes() == decode(plain, PLAIN).tobytes()
    assert examine(marked, PLAIN).paths == examine(plain, PLAIN).paths


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_of_another_gamma(mode):
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
    pixels = np.asarray(decode(encode(ramp, "PNG", icc_profile=grey_profile(1.0)), PLAIN))
    assert np.abs(pixels[0, :, 0] - 255 * encoded(np.arange(256) / 255)).max() <= 1
    assert (pixels == pixels[..., :1]).all()


def test_sixteen_bits_and_a_profile():
    values = RNG.integers(0, 65536, (9, 8, 3))
    data = rgb_png_16(values, (b"iCCP", b"p3\0\0" + _deflated(colour_profile(P3))))
    assert np.abs(np.asarray(decode(data, PLAIN)) - p3_in_srgb(values >> 8)).max() <= 1.5
    assert examine(data, PLAIN).paths == ("wide", "profile")


def test_the_background_of_a_picture_with_a_profile_is_srgb():
    stored = np.zeros((2, 1, 4), np.uint8)
    stored[1] = (200, 100, 50, 255)
    data = encode(Image.fromarray(stored), "PNG", icc_profile=colour_profile(P3))
    pixels = np.asarray(decode(data, DecodeSettings("#c86432")))
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert np.abs(pixels[1, 0] - p3_in_srgb(stored[1, 0, :3])).max() <= 1


def test_a_palette_with_a_profile():
    image = Image.new("P", (1, 1))
    image.putpalette([200, 100, 50])
    data = encode(image, "PNG", icc_profile=colour_profile(P3))
    assert np.abs(np.asarray(decode(data, PLAIN))[0, 0] - p3_in_srgb(np.array([200, 100, 50]))).max() <= 1


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"\0" * 200,
        b"rubbish" * 50,
        colour_profile(P3)[:-60],
        grey_profile(1.0),
        colour_profile(P3)[:20],
        bytes(5 << 20),
    ],
    ids=["none", "zeros", "rubbish", "cut", "of greys", "short", "huge"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_profile_that_cannot_be_used_is_passed_over(kind, profile):
    photo = picture(RNG, 24, 16)
    plain, marked = encode(photo, kind), encode(photo, kind, icc_profile=profile)
    assert decode(marked, PLAIN).tobytes() == decode(plain, PLAIN).tobytes()
    assert examine(marked, PLAIN).paths == examine(plain, PLAIN).paths


def test_a_profile_that_is_not_packed_rightly_is_passed_over():
    data = png(1, 1, 8, 2, b"\0\x10\x20\x30", (b"iCCP", b"p3\0\0rubbish"))
    assert decode(data, PLAIN).getpixel((0, 0)) == (0x10, 0x20, 0x30)


def _deflated(data):
    import zlib

    return zlib.compress(data)
