"""Small files that keep a decoder busy, or make it fill the memory, and files that only look like such."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from tests.datasets.photos import encode, png


def jpeg_of_scans(width: int, height: int, scans: int, size: int = 0) -> bytes:
    """Return a grey progressive JPEG of so many scans that goes on for `size` bytes, in comments, at least."""
    whole = encode(Image.new("L", (width, height), 90), "JPEG", progressive=True)
    start = whole.rfind(b"\xff\xda")
    # The first bit of each coefficient, of every block at once: zeros, in runs that end with the image.
    scan = whole[start:-2]
    more = scans - whole.count(b"\xff\xda")
    padding = max(0, size - len(whole) - more * len(scan)) // max(more, 1)
    comment = b"\xff\xfe" + struct.pack(">H", max(2, padding - 2)) + bytes(max(0, padding - 4))
    return whole[:-2] + (comment + scan) * more + b"\xff\xd9"


def jpeg_with_segments(count: int, segment: bytes, photo: Image.Image) -> bytes:
    """Return a JPEG whose header holds a segment so many times."""
    whole = encode(photo, "JPEG")
    return whole[:2] + segment * count + whole[2:]


def exif_of_one_block(entries: int, size: int) -> bytes:
    """Return EXIF data whose entries all point to the same `size` bytes."""
    directory = struct.pack("<H", entries)
    start = 8 + 2 + 12 * entries + 4
    directory += b"".join(struct.pack("<HHII", 0x9000 + entry, 7, size, start) for entry in range(entries))
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4 + size)


def segment(marker: int, body: bytes) -> bytes:
    """Return one segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of 4 x 4 grey pixels with chunks before the pixels."""
    return png(4, 4, 8, 0, b"\0\x50\x50\x50\x50" * 4, *chunks)


def packed(size: int) -> bytes:
    """Return `size` zeros, packed."""
    return zlib.compress(bytes(size), 9)


def tiff(width: int, height: int, tags: dict[int, tuple[int, list[int]]], body: bytes) -> bytes:
    """Return a grey TIFF put together by hand; `body` lies at byte 8.

    Args:
        width: in pixels.
        height: in pixels.
        tags: (type, values) by number, beside those of size and depth; type 3 has 2 bytes a value, 4 has 4, 2 text.
        body: what offsets point to.
    """
    plain = {256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 262: (3, [1])}
    entries, extra = [], b""
    start = 8 + len(body)
    data_at = start + 2 + 12 * len({**plain, **tags}) + 4
    for tag, (kind, values) in sorted({**plain, **tags}.items()):
        packed_values = struct.pack(f"<{len(values)}{ {2: 'B', 3: 'H', 4: 'I', 7: 'B'}[kind] }", *values)
        if len(packed_values) > 4:
            place = struct.pack("<I", data_at + len(extra))
            extra += packed_values
        else:
            place = packed_values.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, len(values)) + place)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", start) + body + directory + extra


def tiff_of_one_block(entries: int, size: int) -> bytes:
    """Return a TIFF of 4 x 4 pixels with `entries` private tags that all point to the same `size` bytes."""
    small = {273: (4, [8]), 279: (4, [16])}
    plain = tiff(4, 4, small, bytes(16) + bytes(size))
    (start,) = struct.unpack_from("<I", plain, 4)
    (count,) = struct.unpack_from("<H", plain, start)
    known = plain[start + 2 : start + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", 40_000 + entry, 7, size, 24) for entry in range(entries))
    return plain[:start] + struct.pack("<H", count + entries) + known + more + bytes(4)


def gif_of_frames(count: int) -> bytes:
    """Return an animated GIF of 4 x 4 pixels whose `count` frames are one, many times."""
    whole = encode(Image.new("P", (4, 4), 1), "GIF", save_all=True, append_images=[Image.new("P", (4, 4), 2)])
    second = whole.rfind(b"\x21\xf9")
    return whole[:-1] + whole[second:-1] * (count - 2) + whole[-1:]


def gif_with_comment(size: int) -> bytes:
    """Return a GIF of 4 x 4 pixels with a comment of `size` bytes."""
    whole = encode(Image.new("P", (4, 4), 1), "GIF")
    place = whole.index(b"\x2c")
    blocks = (b"\xff" + bytes(255)) * (size // 255)
    return whole[:place] + b"\x21\xfe" + blocks + b"\0" + whole[place:]


def bmp_of_runs(width: int, height: int) -> bytes:
    """Return a run-length encoded BMP whose lines end after one pixel."""
    palette = bytes(4 * 256)
    body = b"\1\5\0\0" * height + b"\0\1"
    offset = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + palette + body


def grey_16(values: np.ndarray, kind: str) -> bytes:
    """Return 16-bit grey values (H, W) as a file."""
    return encode(Image.fromarray(values.astype(np.uint16)), kind)
