"""Parse responses of the service: bounded, validated, and cleaned for display."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from ..errors import Sent, UnusableAnswerError
from ..http.values import MAX_ANSWER_BYTES, clean_text, malformed

MAX_DEPTH = 32
MAX_NUMBER_LENGTH = 40
MAX_QUOTE = 200

_ID = r"[A-Za-z0-9_-]{1,128}"


def parse_object(body: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object from the network.

    ``what`` names it in errors ("the answer of the service"). Lone surrogates (from text cut inside a character)
    become U+FFFD, so that all text can be stored and sent.

    Raises:
        UnusableAnswerError: more than 1 MiB, not UTF-8, not JSON, not an object, a key twice, deeper than 32 levels,
            or a number that is not finite or has more than 40 characters. The message quotes the body, cleaned.
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


def task_id(value: object) -> str:
    """A validated task ID, safe in a path: 1 to 128 letters, digits, ``_`` and ``-``."""
    return _identifier(value, "task id")


def file_id(value: object) -> str:
    """A validated file ID of the same form."""
    return _identifier(value, "file id")


class _Refused(Exception):
    """Why a JSON text is refused, as the predicate of a sentence."""


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
    """The nesting depth, counted just beyond the limit."""
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


def _identifier(value: object, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(_ID, value):
        raise malformed(name, value)
    return value


def _unusable(what: str, why: str, body: bytes) -> UnusableAnswerError:
    # An unusable response does not prove that the request failed.
    quote = clean_text(body[:4000].decode("utf-8", "replace"), MAX_QUOTE)
    sentence = f"{what[:1].upper()}{what[1:]} {why}."
    return UnusableAnswerError(
        f"{sentence} It said: {quote}" if quote else sentence, charged=None, sent=Sent.MAYBE
    )
