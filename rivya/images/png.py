"""Reads the header of a PNG file and locates its samples."""

from __future__ import annotations

import struct
from zlib import crc32, decompressobj
from zlib import error as zlib_error

from .formats import damaged, truncated, unusable
from .header import ANIMATED, MAX_PARTS, MAX_PROFILE_BYTES, NO_END, Header

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_RAW_EXIF, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_MAX_TEXT_BYTES = 1 << 20
_PNG_USED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf")


def read_png(data: bytes) -> Header:
    """Return a PNG's header. Raises `ImageError` as `decode.inspect`."""
    header, chunks = Header("PNG", complete=False), dict[bytes, bytes]()
    view, at = memoryview(data), 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        start, end = at + 8, at + 8 + length
        if kind == b"IEND" or end + 4 > len(data):
            header.complete = kind == b"IEND" and end + 4 <= len(data)
            break
        if kind in _PNG_USED and crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise damaged(f"the checksum of its {kind.decode()} part is wrong")
        if kind == b"IDAT":
            header.payload.append((start, end))
        elif kind in _PNG_USED and kind not in chunks and (not header.payload or kind == b"eXIf"):
            chunks[kind] = data[start:end]
        elif kind in _TEXTS:
            _read_text(kind, data[start:end], header)
        elif kind == b"IHDR":
            raise damaged("it has two headers")
        elif kind == b"acTL":
            header.warnings.append(ANIMATED)
        elif kind not in _PNG_USED and not kind[0] & 0x20:  # a critical one
            raise unusable(f"The PNG needs an extension that is not known ({kind!r}).", "image_unsupported")
        at = end + 4
    else:
        raise damaged("it has too many parts")
    if not header.payload or (not header.complete and data[at + 4 : at + 8] == b"IDAT"):
        raise truncated()
    if not header.complete:
        header.warnings.append(NO_END)
    header.end = end + 4 if header.complete else len(data)
    _read_chunks(chunks, header)
    return header


def _read_text(kind: bytes, body: bytes, header: Header) -> None:
    """Extract EXIF ("Raw profile type exif": hexadecimal after three lines) and XMP from a text chunk."""
    name, _, text = body.partition(b"\0")
    if name not in (_RAW_EXIF, _XMP):
        return
    try:
        packed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
        if kind == b"iTXt":
            text = text[2:].split(b"\0", 2)[2]
        elif packed:
            text = text[1:]
        if packed:
            text = decompressobj().decompress(text, _MAX_TEXT_BYTES)
        if name == _XMP:
            header.xmp = text
        else:
            header.exif = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (ValueError, IndexError, zlib_error):
        pass


def _read_chunks(chunks: dict[bytes, bytes], header: Header) -> None:
    """Fill in what stands in the chunks."""
    head = chunks.get(b"IHDR", b"")
    if len(head) != 13:
        raise damaged("its header is missing")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", head)
    if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise damaged("its header names a form that PNG does not have")
    palette = chunks.get(b"PLTE") if colour == 3 else None
    if colour == 3 and (not palette or len(palette) % 3 or len(palette) > 768):
        raise damaged("its palette is missing or broken")
    transparency = chunks.get(b"tRNS") if colour in (0, 2, 3) else None
    if transparency is not None and colour != 3 and len(transparency) != (2 if colour == 0 else 6):
        header.warnings.append("The transparency of the file is broken and was ignored.")
        transparency = None
    header.stored_width, header.stored_height, header.depth = width, height, depth
    header.channels = 3 if colour in (2, 6) else 1
    header.alpha = colour in (4, 6) or bool(transparency)
    header.palette, header.transparency = palette, transparency or None
    header.interlaced = bool(interlace)
    header.exif = chunks.get(b"eXIf", header.exif)
    header.icc = _profile(chunks[b"iCCP"]) if b"iCCP" in chunks else None


def _profile(chunk: bytes) -> bytes:
    """The profile of an iCCP chunk (name, zero, method 0, zlib stream); empty if broken."""
    name, _, packed = chunk.partition(b"\0")
    inflater = decompressobj()
    try:
        profile = inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib_error:
        return b""
    return profile if packed[:1] == b"\0" and name and inflater.eof else b""
