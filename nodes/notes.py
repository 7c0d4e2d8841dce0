"""The nodes' last status texts, in English; ``locales/*/main.json`` has the translations.

Only the browser knows the interface's language, so each line carries its key and values beside the English text.
"""

from __future__ import annotations

from typing import Any

# One text, or a pair: for a count of 1, and for any other.
TEXTS: dict[str, str | tuple[str, str]] = {
    "cancelled": "Cancelled.",
    "goesOn": (
        "{count} picture goes on at Rivya and is collected in the background.",
        "{count} pictures go on at Rivya and are collected in the background.",
    ),
    "stored": ("{count} picture is stored.", "{count} pictures are stored."),
    "runAgain": (
        "Run again with seed {seed}, or use Rivya Collect Tasks, to get it for no more credits.",
        "Run again with seed {seed}, or use Rivya Collect Tasks, to get them for no more credits.",
    ),
    "collectAgain": ("Run again to collect it.", "Run again to collect them."),
    "uploaded": "{count} uploaded",
    "charged": (
        "{count} picture · {charged} credits charged",
        "{count} pictures · {charged} credits charged",
    ),
    "chargedReused": (
        "{count} picture · {charged} credits charged · {reused} credits reused",
        "{count} pictures · {charged} credits charged · {reused} credits reused",
    ),
    "failed": "{count} failed, see the report",
    "moreLeft": (
        "{count} more is left: run again to collect it",
        "{count} more are left: run again to collect them",
    ),
    "nothing": "Nothing to collect: every picture that was paid for has been delivered.",
    "balance": ("{count} credit", "{count} credits"),
    "prompts": ("{count} prompt", "{count} prompts"),
    "repeated": "{count} of them said before: bought once",
}


class Line(str):
    """One line of a note: the English text, and what the script needs to translate it.

    Attributes:
        key: of `TEXTS`.
        values: for the placeholders of the text.
    """

    key: str
    values: dict[str, Any]


def said(key: str, **values: Any) -> Line:
    text = TEXTS[key]
    chosen = text if isinstance(text, str) else text[values["count"] != 1]
    line = Line(chosen.format(**values))
    line.key, line.values = key, values
    return line


def message(lines: list[str]) -> dict[str, Any]:
    """The message to the script: the English note, and its lines with their keys."""
    return {"text": "\n".join(lines), "lines": [_part(line) for line in lines]}


def _part(line: str) -> dict[str, Any]:
    if not isinstance(line, Line):
        return {"text": line}
    # As texts: a seed may exceed JavaScript's safe integers.
    values = {name: str(value) for name, value in line.values.items()}
    return {"text": line, "key": line.key, "values": values}
