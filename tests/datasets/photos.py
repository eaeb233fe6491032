"""Builders of awkward images and of a nasty photo folder, for any test that needs real-looking input."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATION_TAG = 0x0112
CLASSES = ("Café crème", "golden_retriever", "n01440764", "tree frog")


@dataclass(frozen=True)
class PhotoFolder:
    """What `make_photo_folder` made.

    Attributes:
        root: the folder of class folders.
        classes: class ids, in label order.
        sizes: key -> width and height after EXIF rotation, of every image that must decode.
        rejected: key -> the reason that must be recorded.
        ignored: files that are no images by their name.
        duplicates: two keys with the same bytes under two labels.
    """

    root: Path
    classes: tuple[str, ...]
    sizes: dict[str, tuple[int, int]]
    rejected: dict[str, str]
    ignored: tuple[str, ...]
    duplicates: tuple[str, str]

    def counts(self) -> list[int]:
        """Return the number of good images per class."""
        return [sum(key.startswith(f"{name}/") for key in self.sizes) for name in self.classes]


def picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a smooth RGB picture with some grain."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    grain = rng.integers(-8, 9, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + grain).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return `image` as a file of format `kind`."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


P3 = ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407))
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))
"""From linear red, green, blue to XYZ under D50, of Display P3 and of sRGB."""


def colour_profile(to_xyz: Any) -> bytes:
    """Return an ICC profile of colours with sRGB's curve and these primaries."""
    curve = b"para" + struct.pack(">IHHiiiii", 0, 3, 0, *(_fixed(v) for v in (2.4, 1 / 1.055, 0.055 / 1.055)),
                                  *(_fixed(v) for v in (1 / 12.92, 0.04045)))  # fmt: skip
    tags = {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    tags |= {name + b"XYZ": _xyz([row[i] for row in to_xyz]) for i, name in enumerate((b"r", b"g", b"b"))}
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """Return an ICC profile of greys."""
    return _profile(b"GRAY", {b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2, 28) + b"\0x"
    tags = {b"desc": text, b"cprt": text, b"wtpt": _xyz([0.9642, 1.0, 0.8249]), **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s", start + len(body), b"lcms", 0x04200000, b"mntr", space, b"XYZ ", b"acsp")
    return header.ljust(68, b"\0") + _xyz([0.9642, 1.0, 0.8249])[8:] + bytes(48) + table + body


def _xyz(values: list[float]) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *map(_fixed, values))


def _fixed(value: float) -> int:
    return round(value * 65536)


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data that hold just an orientation."""
    data = Image.Exif()
    data[ORIENTATION_TAG] = orientation
    return data


def png(width: int, height: int, depth: int, colour_type: int, raw: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG put together by hand: `raw` holds filter byte and samples of each row, `chunks` go before it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    middle = b"".join(chunk(name, body) for name, body in chunks)
    end = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + end


def grey_png_16(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return 16-bit grey `values` (H, W) as a PNG."""
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 0, raw, *chunks)


def rgb_png_16(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return 16-bit colours (H, W, 3) as a PNG, which Pillow cannot write."""
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 2, raw, *chunks)


def huge_png() -> bytes:
    """Return a PNG of some 70 bytes whose header promises 3.6 billion pixels."""
    return png(60_000, 60_000, 8, 2, b"\0" * 8)


def make_photo_folder(root: Path, seed: int = 0) -> PhotoFolder:
    """Fill `root` with four classes of photos as users have them: odd formats, odd names, some broken.

    One file in fourteen cannot be used, so the default `max_bad_share` lets it pass.
    """
    rng = np.random.default_rng(seed)
    sizes: dict[str, tuple[int, int]] = {}
    rejected: dict[str, str] = {}
    cream, dog, tench, frog = CLASSES

    def put(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def good(key: str, kind: str, width: int, height: int, mode: str = "RGB", **options: Any) -> None:
        put(key, encode(picture(rng, width, height).convert(mode), kind, **options))
        sizes[key] = (width, height)

    def bad(key: str, data: bytes, reason: str) -> None:
        put(key, data)
        rejected[key] = reason

    for name in CLASSES:
        for index in range(8):
            width, height = (int(edge) for edge in rng.integers(24, 160, 2))
            suffix, kind = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("JPEG", "JPEG"))[index % 4]
            good(f"{name}/photo-{index:02d}.{suffix}", kind, width, height)

    for orientation in range(1, 9):
        key = f"{dog}/turned/orientation {orientation}.jpg"
        good(key, "JPEG", 60, 40, exif=exif(orientation))
        sizes[key] = (40, 60) if orientation >= 5 else (60, 40)

    good(f"{cream}/tiny.png", "PNG", 1, 1)
    good(f"{cream}/panorama.jpg", "JPEG", 400, 20, progressive=True)
    good(f"{cream}/grey.jpg", "JPEG", 50, 50, mode="L")
    good(f"{cream}/press.jpg", "JPEG", 50, 40, mode="CMYK")
    good(f"{cream}/bitmap.bmp", "BMP", 33, 31)
    good(f"{cream}/fax.tif", "TIFF", 40, 60, mode="1")
    good(f"{tench}/palette.gif", "GIF", 40, 30, mode="P")
    good(f"{tench}/palette.png", "PNG", 40, 30, mode="P", transparency=0)
    good(f"{tench}/alpha.png", "PNG", 30, 30, mode="RGBA")
    good(f"{tench}/grey-alpha.png", "PNG", 30, 30, mode="LA")
    good(f"{tench}/scan.TIFF", "TIFF", 64, 48, compression="tiff_lzw")
    good(f"{tench}/animated.gif", "GIF", 20, 20, save_all=True, append_images=[picture(rng, 20, 20)])
    good(f"{frog}/pages.tiff", "TIFF", 25, 35, save_all=True, append_images=[picture(rng, 10, 10)])
    put(f"{frog}/deep.png", grey_png_16(rng.integers(0, 65536, (30, 44))))
    sizes[f"{frog}/deep.png"] = (44, 30)
    put(f"{frog}/deep colour.png", rgb_png_16(rng.integers(0, 65536, (30, 44, 3))))
    sizes[f"{frog}/deep colour.png"] = (44, 30)
    for odd in (
        "with  two spaces.jpg",
        "<b>..x.jpg",
        "日本 🐸.jpg",
        "line\nbreak.jpg",
        "'quo\"te', a.jpg",
        "100%#&=?.jpg",
    ):
        good(f"{frog}/{odd}", "JPEG", 32, 32)

    whole = encode(picture(rng, 120, 90), "JPEG")
    bad(f"{dog}/half.jpg", whole[: len(whole) // 2], "truncated JPEG file")
    bad(f"{dog}/zero.png", b"", "empty file")
    bad(f"{tench}/letter.jpg", b"Dear all, the photos follow.\n", "not an image of a known format")
    bad(f"{frog}/huge.png", huge_png(), "too large: more than 100000000 pixels")

    put(f"{frog}/copy of a dog.jpg", (root / dog / "photo-00.jpg").read_bytes())
    sizes[f"{frog}/copy of a dog.jpg"] = sizes[f"{dog}/photo-00.jpg"]

    put(f"{dog}/.DS_Store", b"\0")
    put(".hidden/photo.jpg", b"")
    put(f"{dog}/Thumbs.db", b"\0")
    put("notes.txt", b"four classes\n")
    _put_undecodable_name(root / cream, rejected)
    return PhotoFolder(
        root=root,
        classes=CLASSES,
        sizes=sizes,
        rejected=rejected,
        ignored=("notes.txt", f"{dog}/Thumbs.db"),
        duplicates=(f"{frog}/copy of a dog.jpg", f"{dog}/photo-00.jpg"),
    )


def _put_undecodable_name(folder: Path, rejected: dict[str, str]) -> None:
    name = b"caf\xe9.jpg"
    try:
        with open(os.fsencode(folder) + b"/" + name, "wb") as stream:  # noqa: PTH123 - Path takes no bytes
            stream.write(b"\xff\xd8")
    except OSError:
        return  # macOS and some network folders allow UTF-8 names only
    rejected[f"{folder.name}/caf\\xe9.jpg"] = "file name is not UTF-8"
