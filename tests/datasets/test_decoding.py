from __future__ import annotations

import io
import itertools
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from augcond.datasets.base import DecodeSettings
from augcond.datasets.decoding import decode, probe
from augcond.errors import ConfigError, ImageError
from tests.datasets.photos import encode, exif, grey_png_16, huge_png, picture, png, rgb_png_16

PLAIN = DecodeSettings()
RNG = np.random.default_rng(1)
PHOTO = picture(RNG, 48, 33)

REAL_FILES = {
    "jpeg": encode(PHOTO, "JPEG", exif=exif(6)),
    "progressive": encode(PHOTO, "JPEG", progressive=True),
    "grey jpeg": encode(PHOTO.convert("L"), "JPEG"),
    "cmyk jpeg": encode(PHOTO.convert("CMYK"), "JPEG"),
    "png": encode(PHOTO, "PNG", exif=exif(3)),
    "palette png": encode(PHOTO.convert("P"), "PNG", transparency=3),
    "deep png": grey_png_16(RNG.integers(0, 65536, (9, 7))),
    "webp": encode(PHOTO, "WEBP"),
    "lossless webp": encode(PHOTO.convert("RGBA"), "WEBP", lossless=True),
    "bmp": encode(PHOTO, "BMP"),
    "tiff": encode(PHOTO, "TIFF"),
    "lzw tiff": encode(PHOTO, "TIFF", compression="tiff_lzw"),
    "float tiff": encode(PHOTO.convert("F"), "TIFF"),
    "gif": encode(PHOTO, "GIF"),
}


def outcome(function, data: bytes, config: DecodeSettings = PLAIN):
    """Return the size or the reason; any other exception fails the test."""
    try:
        result = function(data, config)
    except ImageError as error:
        reason = str(error)
        assert 0 < len(reason) < 60
        assert "0x" not in reason and "BytesIO" not in reason
        return reason
    return result.size if isinstance(result, Image.Image) else result


# Where the picture's four corners (1 2 / 3 4 as stored) are seen, by the EXIF specification's wording: orientation n
# says which side of the scene row 0 and column 0 are.
SEEN = {
    1: [[1, 2], [3, 4]],  # row 0 top, column 0 left
    2: [[2, 1], [4, 3]],  # top, right
    3: [[4, 3], [2, 1]],  # bottom, right
    4: [[3, 4], [1, 2]],  # bottom, left
    5: [[1, 3], [2, 4]],  # left, top
    6: [[3, 1], [4, 2]],  # right, top
    7: [[4, 2], [3, 1]],  # right, bottom
    8: [[2, 4], [1, 3]],  # left, bottom
}
COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255), 4: (255, 255, 0)}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", SEEN)
def test_each_orientation_shows_each_corner_where_exif_says(kind, orientation):
    stored = np.zeros((32, 64, 3), np.uint8)
    for number, (row, column) in zip(COLOURS, itertools.product((0, 16), (0, 32)), strict=True):
        stored[row : row + 16, column : column + 32] = COLOURS[number]
    data = encode(Image.fromarray(stored), kind, exif=exif(orientation))
    image = decode(data, PLAIN)
    assert image.size == probe(data, PLAIN) == ((32, 64) if orientation >= 5 else (64, 32))
    for row, column in itertools.product((0, 1), (0, 1)):
        x, y = int((column + 0.5) * image.width / 2), int((row + 0.5) * image.height / 2)
        expected = COLOURS[SEEN[orientation][row][column]]
        assert np.abs(np.subtract(image.getpixel((x, y)), expected)).max() <= 60, (row, column)


@pytest.mark.parametrize("value", [0, 9, 257, 65535])
def test_an_undefined_orientation_is_upright(value):
    assert decode(encode(PHOTO, "JPEG", exif=exif(value)), PLAIN).size == PHOTO.size


@pytest.mark.parametrize(
    "block", [b"", b"MM", b"II*\0", b"II*\0\xff\xff\xff\xff", b"\0" * 30, b"MM\0*\0\0\0\x08\xff\xff" + b"\x99" * 60]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_rubbish_for_exif_does_not_cost_the_image(kind, block):
    data = encode(PHOTO, kind, exif=b"Exif\0\0" + block)
    assert decode(data, PLAIN).size == probe(data, PLAIN) == PHOTO.size


def test_sixteen_bit_grey_is_rescaled():
    values = np.array([[0, 128, 257, 1000], [32768, 40000, 65000, 65535]])
    pixels = np.asarray(decode(grey_png_16(values), PLAIN))
    assert pixels.shape == (2, 4, 3)
    assert (pixels == np.rint(values / 257)[..., None]).all()


def test_sixteen_bit_colour_is_rescaled():
    values = RNG.integers(0, 65536, (5, 6, 3))
    pixels = np.asarray(decode(rgb_png_16(values), PLAIN)).astype(float)
    assert np.abs(pixels - values / 257).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bit_tiff_is_rescaled(mode):
    values = np.array([[0, 1000], [40000, 65535]], np.uint16)
    image = Image.frombytes(mode, (2, 2), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    pixels = np.asarray(decode(encode(image, "TIFF"), PLAIN))[..., 0]
    assert (pixels == np.rint(values / 257)).all()


def test_sixteen_bit_tiff_with_white_as_zero_is_not_a_negative():
    data = encode(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF")
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert data.count(entry) == 1
    pixels = np.asarray(decode(data.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0)), PLAIN))
    assert pixels[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 127.0, 255.0], [0, 127, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
    ],
)
def test_float_ranges(values, expected):
    data = encode(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert np.asarray(decode(data, PLAIN))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 255], [0, 1, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([-100, 0, 200], [0, 85, 255]),
        ([0, 1, 1], [0, 1, 1]),
    ],
)
def test_integer_ranges(values, expected):
    data = encode(Image.fromarray(np.array([values], np.int32)), "TIFF")
    assert np.asarray(decode(data, PLAIN))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_refused(value):
    data = encode(Image.fromarray(np.array([[0.0, value]], np.float32)), "TIFF")
    with pytest.raises(ImageError, match="not finite"):
        decode(data, PLAIN)
    with pytest.raises(ImageError, match="not finite"):
        probe(data, PLAIN)


def test_cmyk_with_and_without_adobe_inversion():
    colour = (10, 200, 120)
    ink = np.full((16, 16, 4), (*(255 - c for c in colour), 0), np.uint8)
    tiff = encode(Image.fromarray(ink, "CMYK"), "TIFF")
    jpeg = encode(Image.fromarray(ink, "CMYK"), "JPEG", quality=98)
    assert b"Adobe" in jpeg  # Pillow writes it inverted, as Photoshop does
    assert decode(tiff, PLAIN).getpixel((8, 8)) == colour
    assert np.abs(np.subtract(decode(jpeg, PLAIN).getpixel((8, 8)), colour)).max() <= 6


@pytest.mark.parametrize("background", ["white", "#102030", "black"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_on_the_background(kind, background):
    values = RNG.integers(0, 256, (9, 8, 4), dtype=np.uint8)
    values[0, :, 3] = 0
    values[1, :, 3] = 255
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = np.asarray(decode(encode(Image.fromarray(values), kind, **options), DecodeSettings(background))).astype(
        float
    )
    behind = {"white": (255, 255, 255), "#102030": (16, 32, 48), "black": (0, 0, 0)}[background]
    share = values[..., 3:] / 255
    assert np.abs(pixels - (share * values[..., :3] + (1 - share) * behind)).max() <= 1
    assert (pixels[0] == behind).all()
    assert (pixels[1] == values[1, :, :3]).all()


def test_grey_alpha_is_composited():
    values = np.array([[[100, 0], [100, 255], [100, 128]]], np.uint8)
    pixels = np.asarray(decode(encode(Image.fromarray(values, "LA"), "PNG"), PLAIN))
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[0, 1].tolist() == [100] * 3
    assert abs(int(pixels[0, 2, 0]) - (100 * 128 + 255 * 127) / 255) <= 1


def test_premultiplied_alpha_is_not_darkened_twice():
    # Associated alpha in a TIFF (ExtraSamples = 1): red 100 of alpha 128 stands for red 199.
    plain = Image.new("RGBA", (4, 4), (100, 0, 0, 128))
    data = encode(plain, "TIFF")
    entry = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert data.count(entry) == 1
    pixel = decode(data.replace(entry, struct.pack("<HHIHH", 338, 3, 1, 1, 0)), DecodeSettings("black")).getpixel(
        (1, 1)
    )
    assert abs(pixel[0] - 100) <= 1 and pixel[1:] == (0, 0)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
def test_palette_transparency(transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    pixels = np.asarray(decode(encode(image, "PNG", transparency=transparency), DecodeSettings("#010203")))
    assert pixels[0].tolist() == [[255, 0, 0], [1, 2, 3], [0, 0, 255]]


@pytest.mark.parametrize(
    ("depth", "raw", "key", "expected"),
    [
        (1, b"\0\x40", 1, [0, 9, 0]),
        (2, b"\0\x18", 1, [0, 9, 170]),
        (4, b"\0\x0f\x30", 15, [0, 9, 51]),
        (8, b"\0\x00\x07\x08", 7, [0, 9, 8]),
        (16, b"\0\x00\x00\x10\x01\x10\x02", 0x1001, [0, 9, 16]),
    ],
)
def test_grey_png_with_a_transparent_colour_at_each_bit_depth(depth, raw, key, expected):
    data = png(3, 1, depth, 0, raw, (b"tRNS", struct.pack(">H", key)))
    assert np.asarray(decode(data, DecodeSettings("#090909")))[0, :, 0].tolist() == expected


def test_sixteen_bit_colour_with_a_transparent_colour():
    values = np.array([[[0x8010, 0x4020, 0x2030], [0xFFFF, 0, 0]]])
    data = rgb_png_16(values, (b"tRNS", struct.pack(">HHH", 0x8010, 0x4020, 0x2030)))
    assert np.asarray(decode(data, DecodeSettings("#090909")))[0].tolist() == [[9, 9, 9], [255, 0, 0]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "F", "I;16", "LAB", "YCbCr"])
def test_every_mode_that_can_be_stored_becomes_rgb(mode):
    source = PHOTO.convert("L").convert("I;16") if mode == "I;16" else None
    if mode == "LAB":
        source = Image.frombytes("LAB", (4, 4), bytes([200, 0, 0]) * 16)
    source = source or PHOTO.convert(mode)
    image = decode(encode(source, "TIFF"), PLAIN)
    assert image.mode == "RGB"
    assert image.size == source.size
    if mode == "LAB":
        assert np.ptp(image.getpixel((0, 0))) <= 2  # a neutral grey


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(data, PLAIN).getpixel((4, 3)) == (255, 0, 0)


def test_later_pages_do_not_matter():
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (30, 40), "blue")
    data = encode(first, "TIFF", save_all=True, append_images=[second])
    assert probe(data, PLAIN) == (8, 6)


def test_a_jpeg_with_several_pictures_is_its_first():
    data = encode(PHOTO, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert decode(data, PLAIN).size == probe(data, PLAIN) == PHOTO.size


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"Dear all\n", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"\xff\xd8\xff", "broken or truncated JPEG file"),
        (b"\x89PNG\r\n\x1a\n", "broken or truncated PNG file"),
        (huge_png(), "too large: more than 100000000 pixels"),
        (REAL_FILES["jpeg"][:-400], "truncated JPEG file"),
        (REAL_FILES["png"][:-400], "truncated PNG file"),
    ],
)
def test_reasons(data, reason):
    assert outcome(decode, data) == outcome(probe, data) == reason


def test_what_is_cut_short_is_refused_where_the_caller_lets_pillow_take_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert outcome(decode, REAL_FILES["jpeg"][:-400]) == outcome(probe, REAL_FILES["jpeg"][:-400])
    assert outcome(decode, REAL_FILES["png"][:-400]) == "truncated PNG file"
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_size_is_refused_by_the_header_before_decoding():
    # Rows for 1 of 60,000 lines: decoding it would complain of truncation, and a canvas of it would be 10 GB.
    assert outcome(decode, huge_png(), DecodeSettings(max_pixels=1000)) == "too large: more than 1000 pixels"
    exactly = encode(PHOTO, "PNG")
    assert decode(exactly, DecodeSettings(max_pixels=48 * 33)).size == (48, 33)
    assert outcome(decode, exactly, DecodeSettings(max_pixels=48 * 33 - 1)).startswith("too large")


def test_a_limit_above_pillows_own_is_named_truly():
    reason = outcome(decode, huge_png(), DecodeSettings(max_pixels=10**12))
    assert reason == f"too large: more than {2 * Image.MAX_IMAGE_PIXELS} pixels"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_no_warning_between_pillows_limits(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 48 x 33 lies between this and twice this
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encode(PHOTO, kind), PLAIN).size == (48, 33)


def test_filters_of_warnings_are_as_before_and_hold_in_threads():
    data = [encode(PHOTO, "JPEG", exif=b"Exif\0\0II*\0"), b"rubbish", *REAL_FILES.values()] * 20
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda item: outcome(decode, item), data))
    assert warnings.filters == before
    assert outcomes == outcomes[: len(outcomes) // 20] * 20


def test_an_unknown_background_is_a_wrong_setting_not_a_bad_image():
    for function in (decode, probe):
        with pytest.raises(ConfigError, match=r"data\.background: 'octarine'"):
            function(REAL_FILES["jpeg"], DecodeSettings("octarine"))


@pytest.mark.parametrize("name", REAL_FILES)
def test_probe_and_decode_refuse_the_same_truncations(name):
    data = REAL_FILES[name]
    cuts = {*range(0, len(data), max(1, len(data) // 60)), *range(max(0, len(data) - 14), len(data))}
    for cut in sorted(cuts):
        found = outcome(decode, data[:cut])
        assert outcome(probe, data[:cut]) == found, cut
        # The last bytes of a GIF end the file, not its first frame; those of a PNG are the checksum of its empty end.
        spare = {"gif": 2, "png": 4}.get(name.split()[-1], 0)
        if cut < len(data) - spare:
            assert isinstance(found, str), cut


@pytest.mark.parametrize("name", ["jpeg", "progressive", "grey jpeg", "cmyk jpeg", "png", "deep png", "lzw tiff"])
def test_a_file_allocated_in_full_but_half_written_is_refused(name):
    data = REAL_FILES[name]
    for share in (0.5, 0.8, 0.95):
        kept = int(len(data) * share)
        zeroed = data[:kept] + bytes(len(data) - kept)
        assert isinstance(outcome(decode, zeroed), str), share
        assert outcome(probe, zeroed) == outcome(decode, zeroed)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    for tail in (b"\0" * 100, b"SEFT\0\0"):
        assert decode(REAL_FILES["jpeg"] + tail, PLAIN).size == (33, 48)


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(REAL_FILES["png"])
    data[len(data) // 2] ^= 1
    assert "PNG" in outcome(decode, bytes(data))


@settings(deadline=None)  # machines under load are slow
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    assert isinstance(outcome(decode, data), str)
    assert outcome(probe, data) == outcome(decode, data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_files_decode_or_are_refused_alike(data):
    original = REAL_FILES[data.draw(st.sampled_from(sorted(REAL_FILES)))]
    mutated = bytearray(original)
    # Most of what can go wrong lies in headers.
    limit = data.draw(st.sampled_from([40, 200, len(original)]))
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(0, min(limit, len(original)) - 1))] = data.draw(st.integers(0, 255))
    small = DecodeSettings(max_pixels=1_000_000)
    assert outcome(probe, bytes(mutated), small) == outcome(decode, bytes(mutated), small)


def test_probe_is_the_cheaper_one():
    buffer = io.BytesIO(encode(picture(RNG, 400, 300), "JPEG"))
    image = Image.open(buffer)
    image.draft("L", (1, 1))
    assert image.size == (50, 38)  # what probe decodes: one 64th of the pixels
