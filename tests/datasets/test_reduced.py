"""JPEGs decoded at a fraction of their size: the same picture, wherever a part of it is looked for."""

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from augcond.datasets import DecodeSettings, decode
from augcond.datasets.reduced import SCALES, Reduced, decode_reduced, jpeg_size
from augcond.errors import ImageError
from tests.datasets.photos import ORIENTATION_TAG, P3, colour_profile, encode, picture

SETTINGS = DecodeSettings()
RNG = np.random.default_rng(0)


def difference(data, scale, box, *, alone):
    """Return the root mean square of the difference, in levels, between a part shown reduced and whole."""
    image, reduced = decode(data, SETTINGS), decode_reduced(data, SETTINGS, scale)
    assert jpeg_size(data, SETTINGS) == reduced.size == image.size
    shown = [
        np.asarray(each.show(box, (16, 16), Resampling.BICUBIC, alone=alone), float)
        for each in (reduced, Reduced(image, image.size))
    ]
    return np.sqrt(np.mean((shown[0] - shown[1]) ** 2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_is_where_it_was_whatever_the_size_and_the_way_it_was_turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    for width, height in ((263, 251), (257, 310)):
        data = encode(picture(RNG, width, height), "JPEG", quality=95, exif=exif.tobytes())
        upright = jpeg_size(data, SETTINGS)
        for scale in SCALES:
            for box in ((0, 0, *upright), (upright[0] - 248.5, 1.5, upright[0], 250)):
                assert difference(data, scale, box, alone=scale == 2) < 1.5


def test_a_picture_moved_by_a_pixel_would_be_found():
    data = encode(picture(RNG, 263, 251), "JPEG", quality=95)
    image, reduced = decode(data, SETTINGS), decode_reduced(data, SETTINGS, 8)
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, 16, 0, 1, 0))
    edges = ((0, 0, 240, 240), (16, 16), Resampling.BICUBIC)
    ours, theirs = (np.asarray(each.show(*edges, alone=False), float) for each in (reduced, Reduced(moved, image.size)))
    assert np.sqrt(np.mean((ours - theirs) ** 2)) > 3


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"icc_profile": colour_profile(P3)}),
    ],
)
def test_every_kind_of_jpeg_is_the_picture_that_it_is_whole(mode, options):
    data = encode(picture(RNG, 300, 260).convert(mode), "JPEG", quality=95, **options)
    for scale in SCALES:
        assert difference(data, scale, (0, 0, 300, 260), alone=False) < 1.5


def test_a_half_written_jpeg_is_refused_at_any_scale():
    data = encode(picture(RNG, 300, 260), "JPEG")
    for scale in SCALES:
        with pytest.raises(ImageError, match="truncated JPEG"):
            decode_reduced(data[: len(data) * 2 // 3], SETTINGS, scale)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_no_jpeg_is_decoded_whole(kind):
    assert jpeg_size(encode(picture(RNG, 64, 48), kind), SETTINGS) is None
