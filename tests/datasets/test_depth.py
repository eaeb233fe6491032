"""What wide values stand for, where files do not tell it or tell it wrongly."""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from augcond.datasets import DecodeSettings, list_folder, verify
from augcond.datasets.decoding import decode, examine
from augcond.errors import ImageError
from tests.datasets import bombs
from tests.datasets.bombs import grey_16
from tests.datasets.photos import encode, rgb_png_16

PLAIN = DecodeSettings()
RAMP_12 = np.arange(32 * 32).reshape(32, 32) * 4  # up to 4092


def floats(values, **tags):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[int(tag.removeprefix("tag"))] = value
    return encode(Image.fromarray(np.asarray(values, np.float32)), "TIFF", tiffinfo=directory)


def greys(data, settings=PLAIN):
    return np.asarray(decode(data, settings))[..., 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_not_nearly_black(kind):
    data = grey_16(RAMP_12, kind)
    assert (greys(data) == np.rint(RAMP_12 / (4095 / 255))).all()
    assert examine(data, PLAIN).paths == ("wide", "range")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_eight_bits_in_sixteen_are_those_eight(kind):
    values = np.arange(256).reshape(16, 16)
    assert (greys(grey_16(values, kind)) == values).all()


@pytest.mark.parametrize("values", [[[0, 4096]], [[0, 65535]], [[0, 0]]])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_stay_what_they_were(values, kind):
    data = grey_16(np.array(values), kind)
    assert (greys(data) == np.rint(np.array(values) / 257)).all()
    assert examine(data, PLAIN).paths == ("wide",)


def test_twelve_bits_with_white_as_zero():
    data = grey_16(np.array([[0, 4095]]), "TIFF")
    data = data.replace(struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 262, 3, 1, 0, 0))
    assert greys(data)[0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_twelve_bits_in_thirty_two(dtype):
    data = encode(Image.fromarray(np.array([[0, 819, 4095]], dtype)), "TIFF")
    assert greys(data)[0].tolist() == [0, 51, 255]


@pytest.mark.parametrize("nodata", [-9999.0, -32768.0, float(np.finfo(np.float32).min)])
def test_where_nothing_was_measured_the_background_is_seen(nodata):
    data = floats([[nodata, 0.0, 0.2, 1.0]])
    assert greys(data, DecodeSettings("#090909"))[0].tolist() == [9, 0, 51, 255]
    assert examine(data, PLAIN).paths == ("wide", "range")


@pytest.mark.parametrize(("tag", "value"), [("nan", np.nan), ("-1", -1.0), ("1e+20", 1e20), ("0", 0.0), (" 3\0", 3.0)])
def test_a_tag_names_the_value_of_no_measurement(tag, value):
    data = floats([[value, 0.25, 1.0]], tag42113=tag)
    assert greys(data, DecodeSettings("#090909"))[0].tolist() == [9, 64, 255]


def test_a_tag_that_no_pixel_uses_or_that_is_no_number_changes_nothing():
    for tag in ("-9999", "none", ""):
        data = floats([[0.0, 0.25, 1.0]], tag42113=tag)
        assert greys(data)[0].tolist() == [0, 64, 255]
        assert examine(data, PLAIN).paths == ("wide",)


def test_a_tag_in_a_file_of_sixteen_bits():
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[42113] = "65535"
    data = encode(Image.fromarray(np.array([[65535, 0, 4095]], np.uint16)), "TIFF", tiffinfo=directory)
    assert greys(data, DecodeSettings("#090909"))[0].tolist() == [9, 0, 255]
    assert examine(data, PLAIN).paths == ("wide", "range")


def test_low_values_among_others_are_measurements():
    for values in ([-9999.0, -9998.0, 0.0], [-9999.0, 0.0, 9999.0 * 3], [-9999.0, -9999.0]):
        data = floats([values])
        assert examine(data, PLAIN).paths == ("wide",)


def test_an_image_without_a_measurement_is_refused():
    with pytest.raises(ImageError, match="no pixel has a value"):
        decode(floats([[np.nan, np.nan]], tag42113="nan"), PLAIN)


def tiff_of_colours(values):
    """Return 16-bit colours (H, W, 3) as a TIFF, which Pillow cannot write."""
    body = values.astype("<u2").tobytes()
    tags = {258: (3, [16] * 3), 262: (3, [2]), 273: (4, [8]), 277: (3, [3]), 279: (4, [len(body)])}
    return bombs.tiff(values.shape[1], values.shape[0], tags, body)


@pytest.mark.parametrize("store", [rgb_png_16, tiff_of_colours])
def test_colours_of_twelve_bits_in_sixteen_are_refused(store):
    # Pillow keeps 8 bits of 16: four are left of these.
    values = np.full((2, 2, 3), 4095)
    with pytest.raises(ImageError, match="nearly black"):
        decode(store(values), PLAIN)
    for whole in (values * 0, values + 1):
        assert decode(store(whole), PLAIN).getpixel((0, 0)) == (whole[0, 0, 0] >> 8,) * 3


def test_colours_of_sixteen_bits_are_what_they_were():
    data = rgb_png_16(np.full((2, 2, 3), 40_000))
    assert examine(data, PLAIN).paths == ("wide",)


def test_it_is_said_that_brightness_was_guessed(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "camera.tif").write_bytes(grey_16(RAMP_12, "TIFF"))
    (tmp_path / "a" / "photo.png").write_bytes(encode(Image.new("RGB", (9, 9)), "PNG"))
    with caplog.at_level(logging.WARNING):
        dataset = verify(list_folder(tmp_path), PLAIN)
    assert [image.paths for image in dataset.images] == [("wide", "range"), ()]
    assert "1 images, such as a/camera.tif, have values of fewer bits" in caplog.text
