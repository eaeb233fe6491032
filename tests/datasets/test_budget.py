"""Files made to keep a decoder busy, or to fill the memory: refused by what their headers tell, or read cheaply."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from augcond.datasets import DecodeSettings, decoding
from augcond.datasets.decoding import decode, examine
from augcond.datasets.headers import MOST_SCANS
from augcond.errors import ImageError
from tests.datasets import bombs
from tests.datasets.photos import encode, exif, picture, png

PLAIN = DecodeSettings()
PHOTO = picture(np.random.default_rng(5), 48, 33)
PIXELS = decode(encode(PHOTO, "JPEG"), PLAIN).tobytes()


def refused(data: bytes) -> str:
    """Return why both functions refuse `data`."""
    with pytest.raises(ImageError) as caught:
        decode(data, PLAIN)
    with pytest.raises(ImageError) as again:
        examine(data, PLAIN)
    assert str(caught.value) == str(again.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [64, 4096])
def test_a_jpeg_of_three_thousand_scans_is_refused(size):
    # At 4096 pixels libjpeg takes a minute for it, at 64 it is the file of 193 KiB that was reported.
    data = bombs.jpeg_of_scans(size, size, 3000, 193 << 10)
    assert len(data) < 195 << 10
    assert refused(data) == "too long to decode: a JPEG of more than 100 scans"


def test_scans_are_counted_to_the_end_of_the_picture():
    assert decode(bombs.jpeg_of_scans(64, 64, MOST_SCANS), PLAIN).size == (64, 64)
    assert "scans" in refused(bombs.jpeg_of_scans(64, 64, MOST_SCANS + 1))
    # Previews of other pictures may follow, with scans of their own.
    several = encode(PHOTO, "JPEG", progressive=True) * 20
    assert several.count(b"\xff\xda") > MOST_SCANS
    assert decode(several, PLAIN).size == PHOTO.size


def test_an_end_within_a_comment_hides_no_scan():
    data = bombs.jpeg_of_scans(64, 64, 3000)
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 1)
    hidden = data[:start] + bombs.segment(0xFE, b"\xff\xd9") + data[start:]
    assert "scans" in refused(hidden)


TILE = {259: (3, [8]), 322: (4, [30_000]), 323: (4, [30_000]), 324: (4, [8]), 325: (4, [99])}
STRIPS = {273: (4, [8] * 1_000_001), 279: (4, [64])}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bombs.jpeg_with_segments(20_000, b"\xff\xfe\0\2", PHOTO), "too long to decode: more than 10000 segments"),
        (bombs.tiff(8, 8, TILE, bytes(99)), "too large: more than 100000000 pixels"),
        (bombs.tiff(8, 8, STRIPS, bytes(64)), "too long to decode: a TIFF tag of more than 1000000 numbers"),
        (bombs.bmp_of_runs(5000, 5000), "too long to decode: a run-length encoded BMP of more than 16000000 pixels"),
    ],
    ids=["segments", "tile", "strips", "runs"],
)
def test_what_headers_promise_is_refused(data, reason):
    assert refused(data) == reason


def test_chunks_are_counted(monkeypatch):
    monkeypatch.setattr("augcond.datasets.headers._MOST_CHUNKS", 5)
    assert refused(bombs.png_with(*[(b"abCd", b"")] * 5)) == "too long to decode: more than 5 chunks"


@pytest.mark.parametrize(
    "data",
    [
        bombs.png_with(*[(b"zTXt", b"a\0\0" + bombs.packed(3_000_000))] * 20),
        bombs.png_with(*[(b"iCCP", b"a\0\0" + bombs.packed(60_000_000))] * 20),
        bombs.png_with((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bombs.packed(60_000_000))),
        bombs.png_with((b"zTXt", b"Raw profile type exif\0\0" + bombs.packed(60_000_000))),
        bombs.jpeg_with_segments(1, bombs.segment(0xE1, b"Exif\0\0" + bombs.exif_of_one_block(2500, 30_000)), PHOTO),
        bombs.jpeg_with_segments(300, bombs.segment(0xE1, b"Exif\0\0" + bytes(9000)), PHOTO),
        encode(PHOTO, "WEBP", exif=b"Exif\0\0" + bombs.exif_of_one_block(2500, 30_000)),
        bombs.gif_of_frames(20_000),
        bombs.gif_with_comment(3_000_000),
    ],
    ids=["texts", "profiles", "xmp", "raw exif", "exif", "exifs", "webp exif", "frames", "comment"],
)
def test_what_makes_no_pixels_is_not_unpacked(data):
    decode(data, PLAIN)
    tracemalloc.start()
    assert decode(data, PLAIN).size in (PHOTO.size, (4, 4))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20


def test_a_tiff_whose_tags_lie_within_one_another():
    # Pillow 13 passes over them; earlier ones copy the block 3,000 times.
    data = bombs.tiff_of_one_block(3000, 100_000)
    try:
        assert decode(data, PLAIN).size == (4, 4)
    except ImageError as error:
        assert str(error) == "too long to decode: its parts lie within one another"


def test_bytes_are_handed_out_so_often():
    metered = decoding._Metered(bytes(1 << 20))
    with pytest.raises(ImageError, match="its parts lie within one another"):
        for _ in range(100):
            metered.seek(0)
            metered.read()
    assert metered.tell() == 1 << 20


def test_seconds(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_SECONDS", -1.0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF"):
        assert refused(encode(PHOTO, kind)) == "too long to decode: more than -1 seconds"


def test_a_long_text_or_a_large_profile_does_not_cost_a_png():
    for chunk in (
        (b"tEXt", b"workflow\0" + b"x" * 3_000_000),
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iCCP", b"p\0\0" + zlib.compress(bytes(2_000_000))),
    ):
        assert decode(bombs.png_with(chunk), PLAIN).getpixel((0, 0)) == (0x50,) * 3


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_is_found_in_texts_of_a_png(orientation):
    block = b"Exif\0\0" + exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    xmp = b'<x tiff:Orientation="%d"/>' % orientation
    digits = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    size = (3, 5) if orientation == 6 else (5, 3)
    for chunk in (
        (b"eXIf", block),
        (b"eXIf", block[6:]),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
        (b"tEXt", b"Raw profile type exif\0" + digits),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    ):
        stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
        data = png(5, 3, 8, 0, b"".join(b"\0" + row.tobytes() for row in stored), chunk)
        assert (examine(data, PLAIN).width, examine(data, PLAIN).height) == size
        expected = np.rot90(stored, -1) if orientation == 6 else stored[::-1, ::-1]
        assert (np.asarray(decode(data, PLAIN))[..., 0] == expected).all()


def test_fill_bytes_between_segments_do_no_harm():
    whole = encode(PHOTO, "JPEG")
    assert decode(whole[:2] + b"\xff" * 1_000_000 + whole[2:], PLAIN).tobytes() == PIXELS
    assert refused(whole[:2] + b"\xff" * 1_000_000) == "broken or truncated JPEG file"


def test_the_largest_images_wait_for_one_another(monkeypatch):
    inside = []

    class Semaphore:
        def __enter__(self):
            inside.append(True)

        def __exit__(self, *_):
            inside.append(False)

    monkeypatch.setattr(decoding, "_large_ones", Semaphore())
    monkeypatch.setattr(decoding, "_LARGE", 48 * 33)
    decode(encode(PHOTO, "PNG"), PLAIN)
    assert inside == []
    decode(encode(Image.new("L", (48, 34)), "PNG"), PLAIN)
    assert inside == [True, False]
