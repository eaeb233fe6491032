from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from augcond.config import OutputConfig
from augcond.config.base import counted
from augcond.store.images import ImageFormat, encode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def test_effort_is_that_of_the_webp_encoder_and_4_what_it_was_before_there_was_one():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "WEBP", quality=90)
    before = ImageFormat.resolve(OutputConfig(format="webp", effort=4), PIXELS.shape[:2])
    assert encode_image(PIXELS, before) == buffer.getvalue()
    quick = ImageFormat.resolve(OutputConfig(format="webp"), PIXELS.shape[:2])
    assert quick.effort == 2 and encode_image(PIXELS, quick) != buffer.getvalue()
    assert "effort" not in counted(OutputConfig(effort=4), "images")
    assert counted(OutputConfig(effort=0), "images")["effort"] == 0


def test_small_images_are_stored_without_loss_and_larger_ones_as_jpeg():
    assert [ImageFormat.resolve(OutputConfig(), (edge, edge)).name for edge in (64, 65)] == ["png", "jpeg"]


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_other_formats_know_no_effort(name):
    image_format = ImageFormat(name, 90, None)
    assert encode_image(PIXELS, replace(image_format, effort=0)) == encode_image(PIXELS, image_format)
