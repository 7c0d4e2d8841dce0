"""Merge one ledger into another: to move to or from a database, or to join hosts' ledgers.

An order has the same key everywhere, so two rows of one attempt are about one task. The row with a task ID wins, then
the more advanced: a task ID brings the picture for free. A second copy changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from .. import ledger_url
from ..errors import ConfigurationError, LedgerError
from ..files import short, sync_folder
from ..secret import Secret
from .beats import LIVING, SILENCE_S
from .database import Connection, Database
from .holders import SUFFIX, FileHolder
from .lookups import FILE_NAME
from .postgres import PostgresDatabase
from .rows import COLUMNS, OrderRow, OrderState
from .sqlite import SqliteDatabase

_AT_ONCE = 200
_PATIENCE_S = 30.0
_RANK = {
    state.value: rank
    for rank, state in enumerate(
        (
            OrderState.FORGOTTEN,
            OrderState.FAILED,
            OrderState.PREPARED,
            OrderState.UNKNOWN,
            OrderState.SUBMITTED,
            OrderState.SUCCEEDED,
            OrderState.STORED,
        )
    )
}
"""Without a task ID, orders that may have been accepted rank above others: they must not be bought again."""

_HAS_PICTURE = ("submitted", "succeeded", "stored")
_NAMES = [field.name for field in fields(OrderRow) if field.name not in ("id", "holder")]
_TOLD = [name for name in _NAMES if name not in ("scope", "fingerprint", "attempt")]


@dataclass
class Copied:
    """Numbers of orders copied.

    Attributes:
        new: unknown to the target.
        improved: the target learned more about them.
        known: the target knew as much or more.
        rescued: improved ones whose task the target did not know.
        kept_as: new name of the renamed source file.
    """

    new: int = 0
    improved: int = 0
    known: int = 0
    rescued: int = 0
    kept_as: str | None = None


def copy(source: str, target: str) -> Copied:
    """Merge ledger ``source`` into ``target``: state folders, or database URLs. A source file is renamed.

    Raises:
        ConfigurationError: an argument is invalid, has no ledger, both are the same, or a process uses the source.
        LedgerError: one cannot be used. The target may hold some rows; the same copy continues.
    """
    if _same(source, target):
        raise ConfigurationError(
            "Both are the same ledger.",
            hint="Name the one to copy from, then the one to copy to.",
            code="ledger_copy",
        )
    into = _opened(target, "the target")
    into.write(lambda connection: None)  # before anything is renamed
    with _leaving(source) as (found, kept_as):
        copied = Copied(kept_as=kept_as)
        scopes = _copy_scopes(found, into)
        _copy_orders(found, into, scopes, copied)
        _copy_uploads(found, into, scopes)
    into.close()
    return copied


def _same(source: str, target: str) -> bool:
    if _is_url(source) or _is_url(target):
        return source == target
    return _file(source).resolve() == _file(target).resolve()


def _is_url(place: str) -> bool:
    return "://" in place


def _file(place: str) -> Path:
    path = Path(place).expanduser().absolute()
    return path if path.suffix == Path(FILE_NAME).suffix else path / FILE_NAME


def _opened(place: str, what: str) -> Database:
    if _is_url(place):
        return PostgresDatabase(ledger_url.read(place, what), patience_s=_PATIENCE_S)
    return SqliteDatabase(_file(place), busy_s=_PATIENCE_S)


@contextmanager
def _leaving(source: str) -> Iterator[tuple[Database, str | None]]:
    """The source, unused by any process; a file is renamed so that none starts to use it."""
    if _is_url(source):
        database = PostgresDatabase(ledger_url.read(source, "the source"), patience_s=_PATIENCE_S)
        _refuse_living(len(database.read(LIVING, (SILENCE_S,))), ledger_url.shown(Secret(source)))
        yield database, None
        database.close()
        return
    path = _file(source)
    if not path.is_file():
        raise ConfigurationError(
            f"There is no ledger {short(path)}.",
            hint="Name the state folder that it lies in, or its file.",
            code="ledger_copy",
        )
    holder = FileHolder(path.parent)
    try:
        own = f"{holder.id}{SUFFIX}"
        locks = [each.name for each in (path.parent / "locks").iterdir() if each.name.endswith(SUFFIX)]
        _refuse_living(len([name for name in locks if name != own]), short(path))
        aside = path
        if path.name == FILE_NAME:
            aside = _put_aside(path)
        database_file = SqliteDatabase(aside, busy_s=_PATIENCE_S)
        try:
            yield database_file, aside.name if aside != path else None
        except BaseException:
            database_file.close()
            if aside != path and not path.exists():
                os.replace(aside, path)
            raise
        database_file.close()
    finally:
        holder.close()


def _put_aside(path: Path) -> Path:
    """Rename the file after emptying its log into it."""
    database = SqliteDatabase(path, busy_s=_PATIENCE_S)
    database.read("SELECT 1 FROM orders LIMIT 1")
    database.truncate_log()
    database.close()
    if any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal")):
        raise LedgerError(
            f"Another program has the ledger {short(path)} open.",
            hint="Close it, then run again.",
            charged=None,
        )
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.stem}-copied-{stamp}{path.suffix}")
    os.replace(path, aside)
    sync_folder(path.parent)
    return aside


def _refuse_living(number: int, shown: str) -> None:
    if number:
        raise ConfigurationError(
            f"{number} running program{'s use' if number > 1 else ' uses'} the ledger {shown}.",
            hint="End ComfyUI and every other program that orders with it, then run again.",
            code="ledger_in_use",
        )


def _copy_scopes(source: Database, target: Database) -> dict[str, str]:
    """Let each key join its scope. A key with another scope in the target proves that both are one account.

    Returns the target's scope for each source scope.
    """
    rows = source.read("SELECT origin, key_hash, scope, joined_at FROM scopes ORDER BY joined_at")

    def work(connection: Connection) -> dict[str, str]:
        scopes = {row["scope"]: row["scope"] for row in rows}
        for row in rows:
            known = connection.execute(
                "SELECT scope FROM scopes WHERE origin = ? AND key_hash = ?", (row["origin"], row["key_hash"])
            ).fetchone()
            if known is not None:
                scopes[row["scope"]] = known["scope"]
        for row in rows:
            connection.execute(
                "INSERT INTO scopes (origin, key_hash, scope, joined_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (origin, key_hash) DO NOTHING",
                (row["origin"], row["key_hash"], scopes[row["scope"]], row["joined_at"]),
            )
        return scopes

    return target.write(work)


def _copy_orders(source: Database, target: Database, scopes: dict[str, str], copied: Copied) -> None:
    last = 0
    while rows := source.read(
        f"SELECT {COLUMNS} FROM orders WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - constants
        (last, _AT_ONCE),
    ):
        last = rows[-1]["id"]
        found = [{name: row[name] for name in _NAMES} for row in rows]
        for values in found:
            values["scope"] = scopes.get(values["scope"], values["scope"])

        def work(connection: Connection, found: list[dict[str, object]] = found) -> Copied:
            counted = Copied()
            for values in found:
                _merge(connection, values, counted)
            return counted

        counted = target.write(work)
        for name in ("new", "improved", "known", "rescued"):
            setattr(copied, name, getattr(copied, name) + getattr(counted, name))


def _merge(connection: Connection, theirs: dict[str, object], copied: Copied) -> None:
    key = (theirs["scope"], theirs["fingerprint"], theirs["attempt"])
    ours = connection.execute(
        f"SELECT {COLUMNS} FROM orders WHERE scope = ? AND fingerprint = ? AND attempt = ?",  # noqa: S608
        key,
    ).fetchone()
    if ours is None:
        _insert(connection, theirs)
        copied.new += 1
        return
    loser = {name: ours[name] for name in _NAMES}
    if _worth(theirs) > _worth(loser):
        changes = ", ".join(f"{name} = ?" for name in _TOLD)
        connection.execute(
            f"UPDATE orders SET {changes} WHERE id = ?",  # noqa: S608 - names of columns
            (*(theirs[name] for name in _TOLD), ours["id"]),
        )
        copied.improved += 1
        copied.rescued += loser["task_id"] is None and theirs["task_id"] is not None
        winner = theirs
    else:
        copied.known += 1
        winner, loser = loser, theirs
    if loser["task_id"] not in (None, winner["task_id"]) and loser["state"] in _HAS_PICTURE:
        _keep_task(connection, loser)


def _worth(row: dict[str, object]) -> tuple[bool, int]:
    return row["task_id"] is not None, _RANK[str(row["state"])]


def _keep_task(connection: Connection, row: dict[str, object]) -> None:
    """Two tasks of one order were both paid for: keep the other one collectable under its task ID."""
    known = connection.execute(
        "SELECT 1 FROM orders WHERE scope = ? AND task_id = ?", (row["scope"], row["task_id"])
    ).fetchone()
    if known is None:
        _insert(connection, {**row, "fingerprint": f"task:{row['task_id']}", "attempt": 1, "body": None})


def _insert(connection: Connection, values: dict[str, object]) -> None:
    connection.execute(
        f"INSERT INTO orders ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})",  # noqa: S608
        tuple(values[name] for name in _NAMES),
    )


def _copy_uploads(source: Database, target: Database, scopes: dict[str, str]) -> None:
    """The upload confirmed last wins."""
    names = (
        *("scope", "content_hash", "file_id", "url", "duration_token"),
        *("mime", "name", "created_at", "confirmed_at"),
    )
    listed = ", ".join(names)
    rows = source.read(f"SELECT {listed} FROM uploads")  # noqa: S608 - names of columns
    renewed = ", ".join(f"{name} = excluded.{name}" for name in names[2:])

    def work(connection: Connection) -> None:
        for row in rows:
            values = [row[name] for name in names]
            values[0] = scopes.get(values[0], values[0])
            connection.execute(
                f"INSERT INTO uploads ({listed}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
                f" ON CONFLICT (scope, content_hash) DO UPDATE SET {renewed}"
                " WHERE excluded.confirmed_at > uploads.confirmed_at",
                values,
            )

    target.write(work)
