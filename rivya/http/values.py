"""Clean and validate a server's text, URLs and Retry-After."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from unicodedata import category
from urllib.parse import urlsplit

from ..errors import UnusableAnswerError

MAX_ANSWER_BYTES = 1024 * 1024
MAX_URL_LENGTH = 8192

_ANSI = (
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, such as window titles and links
    r"|[\x1b\x9b]\[?[0-?]*[ -/]*[@-~]"
)
_KEY = r"(rvya_sk_)[A-Za-z0-9_\-]+"
_BEARER = r"(?i)(bearer\s+)[A-Za-z0-9._~+/=\-]{8,}"
_URL_QUERY = r"(?i)(https?:\\?/\\?/[^\s\"'<>?#]*)[?#][^\s\"'<>]*"
_HOST_DIALOGS = r"Unauthorized: Please login|Payment Required: Please add"
"""Prefixes of messages for which ComfyUI's frontend opens its own login or top-up dialog instead of the error."""

_URL_CHARACTERS = r"[!-~]+"
_SECONDS = r"[0-9]{1,12}(\.[0-9]{1,9})?"
_LONGEST_DATE = 64


def clean_text(text: str, limit: int = 300) -> str:
    """Clean foreign text for logs, terminals and dialogs: one line of at most ``limit`` characters.

    Drops escape sequences, control and invisible characters (bidi overrides too); replaces angle brackets, so that
    nothing is HTML; changes texts that open ComfyUI's account dialogs; cuts out API keys and URL queries, which sign
    URLs.
    """
    text = text[: 16 * limit + 1024]
    text = re.sub(_ANSI, "", text)
    text = "".join(_shown(c) for c in text)
    text = re.sub(_URL_QUERY, r"\1?…", text)
    text = re.sub(_KEY, r"\1…", text)
    text = re.sub(_BEARER, r"\1…", text)
    text = " ".join(text.split()).replace("<", "\u2039").replace(">", "\u203a")
    text = re.sub(_HOST_DIALOGS, lambda found: found[0].lower(), text)
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def http_url(value: object) -> str:
    """An absolute http or https URL of at most 8192 printable ASCII characters, without user or password."""
    if not isinstance(value, str) or len(value) > MAX_URL_LENGTH or not re.fullmatch(_URL_CHARACTERS, value):
        raise malformed("URL", value)
    try:
        parts = urlsplit(value)
        named, port = parts.hostname, parts.port
        if "[" in parts.netloc:
            ip_address(named or "")
    except ValueError:
        raise malformed("URL", value) from None
    if (
        parts.scheme not in ("http", "https")
        or not named
        or port == 0
        or "@" in parts.netloc
        or "\\" in value
    ):
        raise malformed("URL", value)
    return value


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Parse a ``Retry-After`` header; times without a zone count as UTC.

    Args:
        value: seconds or an HTTP-date.
        now: subtracted from a date.

    Returns:
        Seconds from now, 0 or more (0 for a past date); None if absent or invalid.
    """
    text = (value or "").strip()
    if not text or len(text) > _LONGEST_DATE:
        return None
    if re.fullmatch(_SECONDS, text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (_in_utc(when) - _in_utc(now)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _in_utc(when: datetime) -> datetime:
    return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when


def malformed(name: str, value: object) -> UnusableAnswerError:
    """The error for a malformed value; it never quotes a signature or password."""
    came = type(value).__name__
    if isinstance(value, str):
        # A query may be a signature, and text before an @ a password: no part of them is quoted.
        secret = re.search(r"[?#@]", value) is not None
        came = f"{len(value)} characters" if secret else clean_text(value[:2000], 80)
    return UnusableAnswerError(f"This is not the {name} of a usable form: {came}")


def _shown(character: str) -> str:
    """The character; a space for a line end; nothing if invisible or rearranging."""
    if " " <= character <= "~":
        return character
    kind = category(character)
    if kind == "Cs":
        return "\ufffd"
    if kind in ("Zs", "Zl", "Zp") or character in "\t\n\r\v\f\x85":
        return " "
    return "" if kind in ("Cc", "Cf", "Co", "Cn") else character
