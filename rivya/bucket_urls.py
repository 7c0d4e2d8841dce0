"""Bucket URLs of settings and arguments: ``s3://``, ``gs://`` and ``az://``."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEMES = ("s3", "gs", "az")
_LIKE_ONE = re.compile(r"(s3|gs|az):/", re.IGNORECASE)
_URL = re.compile(r"(s3|gs|az)://([a-z0-9][a-z0-9._-]{1,221}[a-z0-9])(?:/(.*))?", re.IGNORECASE | re.DOTALL)


def is_bucket(text: object) -> bool:
    """Whether a text is meant as a bucket URL, even a malformed one."""
    return isinstance(text, str) and _LIKE_ONE.match(text) is not None


@dataclass(frozen=True)
class BucketUrl:
    """A bucket and a prefix in it.

    Attributes:
        scheme: one of `SCHEMES`.
        prefix: folder names joined by single slashes; may be empty.
    """

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def read(cls, text: str) -> BucketUrl:
        """Parse a URL.

        Raises:
            ValueError: the reason, as a phrase that quotes nothing of the text: it may hold a password.
        """
        match = _URL.fullmatch(text.strip())
        if match is None:
            raise ValueError("is no URL of a bucket such as s3://bucket/folder")
        parts = (match[3] or "").strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts) and parts != [""]:
            raise ValueError("has an empty part, . or .. in its path")
        if any(ord(character) < 32 for character in match[3] or ""):
            raise ValueError("holds a control character")
        return cls(match[1].lower(), match[2], "/".join(parts))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    def of(self, name: str) -> str:
        return f"{self}/{name}"
