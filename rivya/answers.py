"""Answers of the service, read with care: bounded, checked for their form, and cleaned before a person sees them."""

from __future__ import annotations

import json
import math
import re
from ipaddress import ip_address
from typing import Any, NoReturn
from unicodedata import category
from urllib.parse import urlsplit

from .errors import Delivery, UnusableAnswerError

MAX_ANSWER_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NUMBER_LENGTH = 40
MAX_URL_LENGTH = 8192
MAX_QUOTE = 200

_ANSI = (
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, such as window titles and links
    r"|[\x1b\x9b]\[?[0-?]*[ -/]*[@-~]"
)
_KEY = r"(rvya_sk_)[A-Za-z0-9_\-]+"
_BEARER = r"(?i)(bearer\s+)[A-Za-z0-9._~+/=\-]{8,}"
_URL_QUERY = r"(?i)(https?:\\?/\\?/[^\s\"'<>?#]*)[?#][^\s\"'<>]*"
_HOST_DIALOGS = r"Unauthorized: Please login|Payment Required: Please add"
"""Beginnings of texts for which ComfyUI's frontend opens its own login and top-up dialogs in place of the error."""

_ID = r"[A-Za-z0-9_-]{1,128}"
_URL_CHARACTERS = r"[!-~]+"


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object from the network.

    ``what`` names it in errors ("the answer of the service"). Lone surrogates, which a service makes when it cuts a
    text in the middle of a character, become U+FFFD, so that every text can be stored and sent again.

    Raises:
        UnusableAnswerError: more than 1 MiB, not UTF-8, not JSON, not an object, a key twice, deeper than 32 levels,
            or a number that is not finite or has more than 40 characters. The message quotes what came, cleaned.
    """
    if len(body) > MAX_ANSWER_BYTES:
        raise _unusable(what, f"is larger than {MAX_ANSWER_BYTES} bytes", b"")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
        )
    except _Refused as refusal:
        raise _unusable(what, str(refusal), body) from None
    except RecursionError:
        raise _unusable(what, "is nested too deeply", body) from None
    except UnicodeDecodeError:
        raise _unusable(what, "is not UTF-8 text", body) from None
    except ValueError:
        raise _unusable(what, "is not JSON", body) from None
    if not isinstance(value, dict):
        raise _unusable(what, "is not a JSON object", body)
    if _depth(value) > MAX_DEPTH:
        raise _unusable(what, "is nested too deeply", body)
    usable: dict[str, Any] = _without_surrogates(value)
    return usable


def clean_text(text: str, limit: int = 300) -> str:
    """Text from outside, made fit for a log, a terminal and a dialog: one line of at most ``limit`` characters.

    Escape sequences, control and invisible characters (bidi overrides among them) are dropped, angle brackets become
    look-alikes so that nothing can be HTML, what would open dialogs of ComfyUI's own account is changed, and API keys
    and the queries of URLs, which sign them, are cut out.
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


def task_id(value: object) -> str:
    """A task id, which becomes part of a path: 1 to 128 letters, digits, ``_`` and ``-``."""
    return _identifier(value, "task id")


def file_id(value: object) -> str:
    """A file id, of the same form as a task id."""
    return _identifier(value, "file id")


def http_url(value: object) -> str:
    """An absolute http or https URL of at most 8192 printable ASCII characters, without user or password."""
    if not isinstance(value, str) or len(value) > MAX_URL_LENGTH or not re.fullmatch(_URL_CHARACTERS, value):
        raise _malformed("URL", value)
    try:
        parts = urlsplit(value)
        named, port = parts.hostname, parts.port
        if "[" in parts.netloc:
            ip_address(named or "")
    except ValueError:
        raise _malformed("URL", value) from None
    if (
        parts.scheme not in ("http", "https")
        or not named
        or port == 0
        or "@" in parts.netloc
        or "\\" in value
    ):
        raise _malformed("URL", value)
    return value


def public_url(url: str) -> str:
    """The part of a URL that may be shown: scheme, host and path. The query, which may sign it, is left out."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a URL that cannot be read"
    return clean_text(f"{parts.scheme}://{host}{parts.path}", MAX_QUOTE)


class _Refused(Exception):
    """Why a JSON text is not taken, in words that follow its name."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("has a key twice")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_LENGTH:
        raise _Refused("has a number that is too long")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if len(text) > MAX_NUMBER_LENGTH or not math.isfinite(number):
        raise _Refused("has a number that is too large")
    return number


def _no_constant(text: str) -> NoReturn:
    raise _Refused(f"has {text}, which is no JSON")


def _depth(value: Any) -> int:
    """How many objects and lists lie in one another; counting stops beyond the limit."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        children = (child for part in level for child in (part.values() if isinstance(part, dict) else part))
        level = [child for child in children if isinstance(child, (dict, list))]
    return depth


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    return value


def _shown(character: str) -> str:
    """The character, a space for a line end, nothing for what a person does not see or that rearranges text."""
    if " " <= character <= "~":
        return character
    kind = category(character)
    if kind == "Cs":
        return "\ufffd"
    if kind in ("Zs", "Zl", "Zp") or character in "\t\n\r\v\f\x85":
        return " "
    return "" if kind in ("Cc", "Cf", "Co", "Cn") else character


def _identifier(value: object, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(_ID, value):
        raise _malformed(name, value)
    return value


def _malformed(name: str, value: object) -> UnusableAnswerError:
    came = type(value).__name__
    if isinstance(value, str):
        # A query may be a signature, and what stands before an @ a password: of those not even a part is told.
        secret = re.search(r"[?#@]", value) is not None
        came = f"{len(value)} characters" if secret else clean_text(value[:2000], 80)
    return UnusableAnswerError(f"This is not the {name} of a usable form: {came}", charged=None)


def _unusable(what: str, why: str, body: bytes) -> UnusableAnswerError:
    # An answer has nothing to do with the request's fate: it may well have been carried out.
    quote = clean_text(body[:4000].decode("utf-8", "replace"), MAX_QUOTE)
    sentence = f"{what[:1].upper()}{what[1:]} {why}."
    return UnusableAnswerError(
        f"{sentence} It said: {quote}" if quote else sentence, charged=None, delivery=Delivery.UNKNOWN
    )
