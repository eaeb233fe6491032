"""What an image file holds beside its pixels, found with work that is bounded by the file's size.

Pillow is given a JPEG or PNG without it. A file of a few kilobytes can else make it unpack gigabytes (text and profiles
of a PNG, entries of EXIF data that all point to the same bytes), and long texts make it refuse a whole PNG.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from augcond.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SCANS = 100
"""Of a JPEG, as in libtiff; progressive ones have about 10, and each scan goes through the whole image."""

_MOST_SEGMENTS = 10_000
_MOST_CHUNKS = _MOST_NUMBERS = 1_000_000
_LARGEST_PROFILE = 4 << 20
"""Bytes; those of printing presses have up to 3 MiB."""
_LARGEST_TEXT = 1 << 20
"""Bytes of metadata that may say which way is up."""

ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Types of TIFF entries, and their format for `struct`."""
_BYTES = frozenset({1, 2, 6, 7})
"""Types of entries that stay bytes."""

_NOT_FILL = re.compile(rb"[^\xff]")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_XMP_KEYWORD, _EXIF_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type exif"
_DROPPED_SEGMENTS = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""Application data but JFIF's and Adobe's, which say what the colours are; comments."""
_SCAN, _END, _ALONE = 0xDA, 0xD9, frozenset({0x00, 0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class Header:
    """An image file, taken apart.

    Attributes:
        data: the file without what makes no pixels.
        exif: the EXIF data, from their byte order on; empty where there are none.
        xmp: the XMP data; empty where there are none.
        profile: the colour profile; empty where there is none.
    """

    data: bytes
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8; 1 where there is none or none that is defined."""
        found = _exif_orientation(self.exif)
        if found is None and (text := _XMP_ORIENTATION.search(self.xmp)):
            found = int(text[1])
        return found if found is not None and 1 <= found <= 8 else 1


def take_apart(data: bytes, kind: str | None) -> Header:
    """Return a JPEG or PNG taken apart, and any other file as it is.

    Args:
        data: of the file.
        kind: see `kind_of`.

    Raises:
        ImageError: it is broken, or would take too long to decode.
    """
    if kind == "JPEG":
        return _jpeg(data)
    if kind == "TIFF":
        _check_tiff(data)
    return _png(data) if kind == "PNG" else Header(data)


def _jpeg(data: bytes) -> Header:
    if not data.startswith(b"\xff\xd8\xff"):
        raise ImageError("broken or truncated JPEG file")
    kept, exif, xmp, profile = [data[:2]], list[bytes](), b"", list[bytes]()
    for marker, segment in _segments(data):
        if marker == _SCAN:
            kept.append(_scans(segment))
        elif marker not in _DROPPED_SEGMENTS:
            kept.append(bytes((0xFF, marker)) + segment)
        elif marker == 0xE1 and segment[2:].startswith(b"Exif\0\0"):
            exif.append(segment[8:])
        elif marker == 0xE1 and segment[2:].startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = segment[31:]
        elif marker == 0xE2 and segment[2:].startswith(b"ICC_PROFILE\0"):
            profile.append(segment[14:])
    profile.sort()  # each part begins with its number, and the number of parts
    whole = bool(profile) and len(profile) == profile[0][1]
    return Header(
        b"".join(kept), b"".join(exif), xmp, b"".join(part[2:] for part in profile)[:_LARGEST_PROFILE] if whole else b""
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes (with their length) of every segment; last the first scan with all that follows."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        start = data.find(b"\xff", place)
        found = _NOT_FILL.search(data, start) if start >= 0 else None
        if found is None:
            raise ImageError("broken or truncated JPEG file")
        marker, place = data[found.start()], found.end()
        if marker == _SCAN:
            yield marker, data[place - 2 :]
            return
        if marker == _END:
            raise ImageError("broken or truncated JPEG file")
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        if length < 2:
            raise ImageError("broken JPEG file")
        if place + length > len(data):
            raise ImageError("truncated JPEG file")
        yield marker, data[place : place + length]
        place += length
    raise ImageError(f"too long to decode: more than {_MOST_SEGMENTS} segments")


def _scans(data: bytes) -> bytes:
    """Return the scans of a JPEG: `data` begins with the first."""
    # A file allocated in full but written in part ends in zeros, which libjpeg decodes to grey without an error.
    if data.rfind(b"\xff\xd9") < 0:  # from the end, where it stands: megabytes take milliseconds
        raise ImageError("truncated JPEG file")
    # Whatever a decoder takes for a scan begins with these bytes; other pictures after the end may have some too.
    if data.count(b"\xff\xda") > MOST_SCANS:
        data = data[: _end_of_scans(data)]
        if data.count(b"\xff\xda") > MOST_SCANS:
            raise ImageError(f"too long to decode: a JPEG of more than {MOST_SCANS} scans")
    return data


_IN_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker in a scan that is none of those that stand alone."""


def _end_of_scans(data: bytes) -> int:
    place, scans = 0, 0
    while scans <= MOST_SCANS and (found := _IN_SCAN.search(data, place)):
        marker, place = data[found.start() + 1], found.end()
        if marker == _END:
            return place
        scans += marker == _SCAN
        place += int.from_bytes(data[place : place + 2], "big")
    return len(data)


def _png(data: bytes) -> Header:
    kept, exif, profile, texts = [data[:8]], b"", b"", dict[bytes, tuple[bytes, bytes]]()
    for name, body, chunk in _chunks(data):
        if not name[0] & 0x20 or name == b"tRNS":  # all that decides the pixels, of an animation its first picture
            kept.append(chunk)
        elif name == b"eXIf":
            exif = body
        elif name == b"iCCP":
            profile = body
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, text = body[: 80 + _LARGEST_TEXT].partition(b"\0")
            if keyword in (_XMP_KEYWORD, _EXIF_KEYWORD):
                texts[keyword] = name, text
    if not exif and _EXIF_KEYWORD in texts:
        exif = _hexadecimal(_text(*texts[_EXIF_KEYWORD]))
    xmp = _text(*texts[_XMP_KEYWORD]) if _XMP_KEYWORD in texts else b""
    packed = profile.partition(b"\0")[2][1:]
    return Header(b"".join(kept), exif.removeprefix(b"Exif\0\0"), xmp, _unpack(packed, _LARGEST_PROFILE))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield name, contents and all bytes of every chunk, each found whole."""
    place = 8
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data):
            raise ImageError("broken or truncated PNG file" if place == 8 else "truncated PNG file")
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if not name.isalpha():
            raise ImageError("broken PNG file")
        if name == b"IEND":  # Pillow does not look at the checksum of the end, and some writers cut it off
            yield name, b"", data[place:]
            return
        if end > len(data):
            raise ImageError("truncated PNG file")
        chunk = data[place:end]
        # Pillow decodes a PNG with wrong checksums as long as the rows suffice.
        if zlib.crc32(memoryview(chunk)[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ImageError("broken PNG file")
        yield name, chunk[8:-4], chunk
        place = end
    raise ImageError(f"too long to decode: more than {_MOST_CHUNKS} chunks")


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose first directory has so many numbers that Pillow's lists of them would fill the memory."""
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    head, count, entry, size = ("8xQ", "Q", "HHQ", 20) if big else ("4xI", "H", "HHI", 12)
    try:
        (start,) = struct.unpack_from(order + head, data)
        (entries,) = struct.unpack_from(order + count, data, start)
        first = start + struct.calcsize(order + count)
        for place in range(first, min(first + size * entries, len(data)), size):
            _, kind, numbers = struct.unpack_from(order + entry, data, place)
            if _MOST_NUMBERS < numbers <= len(data) and kind not in _BYTES:
                raise ImageError(f"too long to decode: a TIFF tag of more than {_MOST_NUMBERS} numbers")
    except struct.error:
        pass  # broken: Pillow says so


def _text(kind: bytes, text: bytes) -> bytes:
    """Return a text of a PNG, unpacked; empty where it is broken or longer than metadata are."""
    packed = kind == b"zTXt"
    if packed:
        text = text[1:]
    elif kind == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    return _unpack(text, _LARGEST_TEXT) if packed else text


def _unpack(packed: bytes, most: int) -> bytes:
    """Return what zlib packed; empty where it is broken or has more than `most` bytes."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, most)
    except zlib.error:
        return b""
    return b"" if unpacking.unconsumed_tail else data


def _hexadecimal(text: bytes) -> bytes:
    """Return EXIF data that ImageMagick wrote as text: a name, a length, then digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _exif_orientation(exif: bytes) -> int | None:
    """Return the orientation that the first directory of EXIF data tells; None where it tells none."""
    # Not Pillow's reader: it copies what each entry points to, and all may point to the same bytes.
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, place)
            if tag == ORIENTATION:
                if kind not in _INTEGERS or count != 1:
                    return None
                found: int = struct.unpack_from(order + _INTEGERS[kind], exif, place + 8)[0]
                return found
    except struct.error:
        pass
    return None
