"""Say in an image file that it is generated, in XMP, without touching its pixels.

No library under a permissive licence puts XMP into finished JPEG and WebP files; Pillow does while it encodes, which
would change the pixels of a JPEG. So the packet is put where each format has room for it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

from augcond.errors import ImageError
from augcond.store.images import decode_stored

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What IPTC calls media that a trained model made."""

_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    "<xmp:CreatorTool>augcond</xmp:CreatorTool>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
).encode()


def marked(data: bytes) -> bytes:
    """Return an encoded PNG, JPEG or WebP with IPTC's `digitalSourceType` in XMP; its pixels stay as they are.

    Raises:
        ImageError: it is no whole image of these formats.
    """
    image = decode_stored(data)
    return _WAYS[str(image.format)](data, image.size, "A" in image.getbands())


def _in_png(data: bytes, size: tuple[int, int], alpha: bool) -> bytes:
    # PNG specification, 11.3.4.5: an uncompressed iTXt, which may stand anywhere behind the header chunk.
    body = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + _PACKET
    header = 8 + 25
    return data[:header] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[header:]


def _in_jpeg(data: bytes, size: tuple[int, int], alpha: bool) -> bytes:
    # XMP specification, part 3, 1.1.3: an APP1 segment; behind JFIF's own APP0, which is to be the first.
    body = b"http://ns.adobe.com/xap/1.0/\0" + _PACKET
    start = 2 if data[2:4] != b"\xff\xe0" else 4 + int.from_bytes(data[4:6], "big")
    return data[:start] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + data[start:]


def _in_webp(data: bytes, size: tuple[int, int], alpha: bool) -> bytes:
    # WebP container specification: XMP needs the extended header, VP8X, which counts width and height from 0.
    if data[12:16] == b"VP8X":
        raise ImageError("is a WebP that has other contents than pixels already")
    extent = b"".join((edge - 1).to_bytes(3, "little") for edge in size)
    flags = 0x04 | (0x10 if alpha else 0)
    chunks = _riff(b"VP8X", bytes((flags, 0, 0, 0)) + extent) + data[12:] + _riff(b"XMP ", _PACKET)
    return _riff(b"RIFF", b"WEBP" + chunks)


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


_WAYS: Final[dict[str, Callable[[bytes, tuple[int, int], bool], bytes]]] = {
    "PNG": _in_png,
    "JPEG": _in_jpeg,
    "WEBP": _in_webp,
}
