"""What goes out: the upload form byte for byte, headers that are what they seem, a body in pieces."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from ..errors import Delivery, ValidationError
from .values import clean_text

_MIME = r"[a-z]{1,32}/[a-z0-9.+-]{1,64}"
_CHUNK_BYTES = 64 * 1024
_HEADER_NAME = r"[A-Za-z][A-Za-z0-9-]{0,63}"
_HEADER_VALUE = r"[ -~]{0,1024}"
_OWN_HEADERS = frozenset(
    {
        "host",
        "authorization",
        "cookie",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
    }
)
_FIELD = r"[a-z_]{1,64}"


@dataclass(frozen=True)
class Form:
    """A file with the text fields that go with it; the file is the part called ``file``, and comes first."""

    file: bytes = field(repr=False)
    filename: str
    mime: str
    fields: tuple[tuple[str, str], ...]


def encode(form: Form) -> tuple[str, bytes]:
    """The boundary and the body of a ``multipart/form-data`` request.

    Quotes and line ends in the file name are percent-escaped as browsers do it, so that no name can begin a header.

    Raises:
        ValidationError: a MIME type or field name of no usable form, or text that cannot be UTF-8.
    """
    if not re.fullmatch(_MIME, form.mime) or not all(re.fullmatch(_FIELD, name) for name, _ in form.fields):
        raise _refused("The upload has a MIME type or a field name that cannot be sent.")
    try:
        filename = _escaped(form.filename).encode("utf-8")
        fields = [(name.encode("ascii"), value.encode("utf-8")) for name, value in form.fields]
    except UnicodeEncodeError:
        raise _refused("A text of the upload has characters that cannot be sent.") from None
    boundary = _free_boundary((form.file, *(value for _, value in fields)))
    line = b"--" + boundary
    parts = [
        line,
        b'Content-Disposition: form-data; name="file"; filename="' + filename + b'"',
        b"Content-Type: " + form.mime.encode("ascii"),
        b"",
        form.file,
    ]
    for name, value in fields:
        parts += [line, b'Content-Disposition: form-data; name="' + name + b'"', b"", value]
    return boundary.decode("ascii"), b"\r\n".join([*parts, line + b"--", b""])


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """The body in pieces, so that the limit for a write counts for each of them."""
    view = memoryview(body)
    for start in range(0, len(view), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers, if none of them could be more than it seems or stand for one of ours."""
    for name, value in headers.items():
        if (
            not re.fullmatch(_HEADER_NAME, name)
            or name.lower() in _OWN_HEADERS
            or not re.fullmatch(_HEADER_VALUE, value)
        ):
            raise ValidationError(
                f"The header {clean_text(name, 60)} has a value that cannot be sent.", delivery=Delivery.NEVER
            )
    return {name.title(): value for name, value in headers.items()}


def _escaped(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\0", "%00")


def _free_boundary(contents: tuple[bytes, ...]) -> bytes:
    """The first boundary that occurs in none of the contents."""
    for number in count():
        boundary = b"rivya-form-%08d" % number
        if not any(boundary in content for content in contents):
            return boundary
    raise AssertionError("count() does not end")


def _refused(message: str) -> ValidationError:
    return ValidationError(message, delivery=Delivery.NEVER)
