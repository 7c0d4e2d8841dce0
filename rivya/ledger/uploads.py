"""Uploads by account and content: a picture is uploaded once while the service keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from .database import Database


@dataclass(frozen=True)
class UploadRow:
    """One upload. `confirmed_at`: when the service last showed that it has the file (UTC epoch seconds)."""

    content_hash: str
    file_id: str | None
    url: str
    duration_token: str | None
    mime: str
    name: str
    created_at: float
    confirmed_at: float


_COLUMNS = ", ".join(field.name for field in fields(UploadRow))
_RENEWED = ", ".join(f"{field.name} = excluded.{field.name}" for field in fields(UploadRow))


class Uploads:
    """The uploads table. Methods block and raise `LedgerError`."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def find(self, scope: str, content_hash: str) -> UploadRow | None:
        """The known upload of these bytes in this account."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM uploads WHERE scope = ? AND content_hash = ?",  # noqa: S608 - constants
            (scope, content_hash),
        )
        return UploadRow(**{name: rows[0][name] for name in rows[0].keys()}) if rows else None  # noqa: SIM118

    def save(
        self,
        scope: str,
        content_hash: str,
        *,
        file_id: str | None,
        url: str,
        duration_token: str | None,
        mime: str,
        name: str,
    ) -> UploadRow:
        """Record an upload, replacing an earlier one of the same bytes."""
        now = self._clock()
        row = UploadRow(content_hash, file_id, url, duration_token, mime, name, now, now)
        self._database.write(
            lambda connection: connection.execute(
                f"INSERT INTO uploads (scope, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                f" ON CONFLICT (scope, content_hash) DO UPDATE SET {_RENEWED}",
                (scope, content_hash, file_id, url, duration_token, mime, name, now, now),
            ),
            durable=False,
        )
        return row

    def confirm(self, scope: str, content_hash: str) -> None:
        """Record that the service has the file now."""
        self._database.write(
            lambda connection: connection.execute(
                "UPDATE uploads SET confirmed_at = ? WHERE scope = ? AND content_hash = ?",
                (self._clock(), scope, content_hash),
            ),
            durable=False,
        )

    def drop(self, scope: str, content_hash: str) -> None:
        """Forget an upload that the service no longer has."""
        self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM uploads WHERE scope = ? AND content_hash = ?", (scope, content_hash)
            ),
            durable=False,
        )
