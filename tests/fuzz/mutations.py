"""Image files of every kind, and what goes wrong with files: bits, lengths, parts that are cut, doubled, exchanged."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping

import numpy as np
from PIL import Image, TiffImagePlugin, features

from tests.datasets import bombs
from tests.datasets.photos import (
    P3,
    colour_profile,
    encode,
    exif,
    grey_png_16,
    grey_profile,
    picture,
    rgb_png_16,
)

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> Mapping[str, bytes]:
    """Return small image files of every format, mode and compression that is read, by name."""
    rng = np.random.default_rng(1)
    photo = picture(rng, 48, 33)
    # Pillow keeps on an image how it was last saved, so each format gets its own.
    mpo, apng, webp, gif, tiff = ([photo.rotate(angle) for angle in (0, 90, 180)] for _ in range(5))
    p3, turned = colour_profile(P3), exif(6)
    files = {
        "jpeg": encode(photo, "JPEG", exif=turned, icc_profile=p3, comment=b"x" * 20),
        "progressive": encode(photo, "JPEG", progressive=True, subsampling=0, restart_marker_blocks=2),
        "grey jpeg": encode(photo.convert("L"), "JPEG", icc_profile=grey_profile(1.8)),
        "cmyk jpeg": encode(photo.convert("CMYK"), "JPEG"),
        "mpo": encode(mpo[0], "MPO", save_all=True, append_images=mpo[1:]),
        "scans": bombs.jpeg_of_scans(40, 40, 90),
        "png": encode(photo, "PNG", exif=turned, icc_profile=p3),
        "palette png": encode(photo.convert("P"), "PNG", transparency=3),
        "alpha png": encode(photo.convert("RGBA"), "PNG"),
        "deep png": grey_png_16(rng.integers(0, 65536, (9, 7))),
        "deep colours": rgb_png_16(rng.integers(0, 65536, (9, 7, 3)), (b"tRNS", bytes(6))),
        "animated png": encode(apng[0], "PNG", save_all=True, append_images=apng[1:]),
        "texts": bombs.png_with((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bombs.packed(99)), (b"zTXt", b"a\0\0b")),
        "webp": encode(photo, "WEBP", exif=turned, icc_profile=p3),
        "lossless webp": encode(photo.convert("RGBA"), "WEBP", lossless=True),
        "animated webp": encode(webp[0], "WEBP", save_all=True, append_images=webp[1:]),
        "bmp": encode(photo, "BMP"),
        "palette bmp": encode(photo.convert("P"), "BMP"),
        "runs": bombs.bmp_of_runs(30, 20),
        "gif": encode(photo, "GIF"),
        "animated gif": encode(gif[0], "GIF", save_all=True, append_images=gif[1:]),
        "tiff": encode(photo, "TIFF", exif=turned, icc_profile=p3),
        "float tiff": encode(photo.convert("F"), "TIFF", tiffinfo=_nodata()),
        "integer tiff": encode(photo.convert("I"), "TIFF"),
        "deep tiff": bombs.grey_16(rng.integers(0, 4096, (9, 7)), "TIFF"),
        "lab tiff": encode(Image.new("LAB", (9, 7), (99, 3, 9)), "TIFF"),
        "pages": encode(tiff[0], "TIFF", save_all=True, append_images=tiff[1:]),
        "tiles": bombs.tiff(20, 20, _tiles(), bytes(range(256)) * 4),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_ccitt", "group4"):
        mode = "1" if compression in ("tiff_ccitt", "group4") else "RGB"
        files[f"{compression} tiff"] = encode(photo.convert(mode), "TIFF", compression=compression)
    if features.check("avif"):
        files["avif"] = encode(photo, "AVIF", exif=turned.tobytes())
    return files


def _nodata() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "0"
    return tags


def _tiles() -> dict[int, tuple[int, list[int]]]:
    return {259: (3, [1]), 322: (4, [16]), 323: (4, [16]), 324: (4, [8, 264, 520, 776]), 325: (4, [256] * 4)}


def mutate(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Return `data` with one to six things wrong with it.

    Args:
        data: a file.
        rng: draws what.
        other: a file to take parts of.
    """
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        # Most of what can go wrong lies in headers.
        place = rng.randrange(min(len(mutated), rng.choice((16, 64, 400, 1 << 30))) or 1)
        length = rng.choice((1, 2, 4, 12, 100))
        _MUTATIONS[rng.randrange(len(_MUTATIONS))](mutated, place, length, rng, other)
    return bytes(mutated)


def _flip(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    if mutated:
        mutated[place % len(mutated)] ^= 1 << rng.randrange(8)


def _noise(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    mutated[place : place + length] = rng.randbytes(length)


def _number(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    kind = rng.choice(("B", ">H", "<H", ">I", "<I"))
    size = struct.calcsize(kind)
    mutated[place : place + size] = struct.pack(kind, rng.choice(_EXTREMES) & (256**size - 1))


def _cut(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    del mutated[place : place + length]


def _end(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    del mutated[rng.randrange(len(mutated) + 1) :]


def _zeros(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    mutated[place:] = bytes(len(mutated) - place)


def _double(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    mutated[place:place] = mutated[place : place + length] * rng.choice((1, 1, 300))


def _splice(mutated: bytearray, place: int, length: int, rng: random.Random, other: bytes) -> None:
    start = rng.randrange(len(other) or 1)
    mutated[place : place + length] = other[start : start + rng.choice((length, 1000))]


_MUTATIONS = (_flip, _flip, _noise, _number, _number, _cut, _end, _zeros, _double, _splice)
