"""The ledger in a PostgreSQL database that many hosts share: the only module that imports psycopg.

One connection behind a lock, for several threads. No state lives in the session (prepared statements, settings,
locks), so that a pooler in transaction mode works. READ COMMITTED suffices: unique keys and single statements decide
races.

After a lost connection to a database reached before, work is retried; it finds what it wrote if only the response was
lost. psycopg's errors may quote the URL, so their text is never shown.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import random
from typing import Any, TypeVar

from .. import commands, ledger_url
from ..errors import ConfigurationError, LedgerError
from ..secret import Secret
from . import schema

log = logging.getLogger("rivya")
T = TypeVar("T")

_SETTING = ledger_url.SETTING
_CONNECT_S = 10
_ALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A silently dropped connection is noticed within half a minute; otherwise a statement waits for hours."""

_OLDEST_SERVER = 120000
_ANEW = 10
"""Attempts at work that lost a race to another host."""

_TABLE = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN)\s+({'|'.join(sorted(schema.SHARED_TABLES))})\b")


@lru_cache(maxsize=256)
def translated(sql: str) -> str:
    """The statement in psycopg's form, tables in schema ``rivya``."""
    return _TABLE.sub(r"\1 rivya.\2", sql).replace("?", "%s")


class PostgresConnection:
    """One open transaction; see `database.Connection`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        """Run a statement. NUL, which PostgreSQL text cannot hold, is removed from parameters."""
        clean = [each.replace("\0", "") if isinstance(each, str) else each for each in parameters]
        return self._connection.execute(translated(sql), clean)


class PostgresDatabase:
    """One database over one connection; see `database.Database`."""

    shared = True

    def __init__(self, url: Secret, *, patience_s: float) -> None:
        """The connection is opened on first use.

        Args:
            patience_s: how long to retry a database that was reached before.

        Raises:
            ConfigurationError: ``package_missing``: psycopg is not installed.
        """
        self.notice: str | None = None
        self.shown = ledger_url.shown(url)
        self._psycopg = _load()
        self._url = url
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._connection: Any = None
        self._process = 0
        self._reached = False

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        return self._run(lambda raw: list(PostgresConnection(raw).execute(sql, parameters).fetchall()))

    def write(self, work: Callable[[PostgresConnection], T], *, durable: bool = True) -> T:
        # One message costs one round trip; SET LOCAL ends with the transaction.
        begin = "BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off"

        def transaction(raw: Any) -> T:
            raw.execute(begin)
            try:
                result = work(PostgresConnection(raw))
                raw.execute("COMMIT")
            except BaseException:
                if not raw.closed and not raw.broken:
                    raw.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def has_table(self, connection: object, name: str) -> bool:
        """Always true: the schema's steps create all tables."""
        return True

    def make_table(self, connection: object, name: str) -> None:
        """See `has_table`."""

    def truncate_log(self) -> None:
        """Does nothing: the log is the server's."""

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, work: Callable[[Any], T]) -> T:
        if not self._lock.acquire(timeout=self._patience_s + _CONNECT_S):
            raise self._unreachable()
        try:
            return self._patiently(work)
        finally:
            self._lock.release()

    def _patiently(self, work: Callable[[Any], T]) -> T:
        """Run the work; retry lost connections until the timeout, and lost races."""
        errors = self._psycopg.errors
        until, anew, tries = time.monotonic() + self._patience_s, 0, 0
        while True:
            try:
                return work(self._opened())
            except (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected) as error:
                anew += 1
                failure = self._explained(error) if anew >= _ANEW else None
            except (self._psycopg.OperationalError, self._psycopg.InterfaceError) as error:
                self._drop()
                tries += 1
                passes = self._may_pass(error) and time.monotonic() < until
                failure = None if passes else self._explained(error)
            except self._psycopg.Error as error:
                self._drop()
                failure = self._explained(error)
            if failure is not None:
                raise failure  # outside `except`: psycopg's error, which holds the URL, must not be its context
            if tries:
                if tries == 1:
                    log.warning("the ledger %s does not answer; trying again", self.shown)
                time.sleep(min(0.1 * 2 ** min(tries, 4), 1.0) * (0.5 + random()))  # noqa: S311 - spreads

    def _may_pass(self, error: Exception) -> bool:
        """Whether a retry may help. A database never reached is more likely misnamed."""
        if isinstance(error, self._psycopg.errors.DiskFull):
            return False
        text = str(error)
        return self._reached or "starting up" in text or "too many" in text or "remaining connection" in text

    def _opened(self) -> Any:
        """The connection; a new one if it was lost, or in a forked child."""
        if self._connection is not None and self._process != os.getpid():
            _abandoned.append(self._connection)  # closing it would end the parent's session
            self._connection = None
        if self._connection is not None and self._connection.closed:
            self._connection = None
        if self._connection is None:
            self._connection = self._open()
            self._process, self._reached = os.getpid(), True
        return self._connection

    def _open(self) -> Any:
        secured = ledger_url.security(self._url)
        if secured and not _names_authority(self._url):
            secured["sslrootcert"] = _authorities()
        connect = self._psycopg.connect
        connection = connect(
            self._url.reveal(),
            autocommit=True,
            prepare_threshold=None,
            row_factory=self._psycopg.rows.dict_row,
            connect_timeout=_CONNECT_S,
            **{name: value for name, value in _ALIVE.items() if name not in self._url.reveal()},
            **secured,
        )
        try:
            if connection.info.server_version < _OLDEST_SERVER:
                raise LedgerError(
                    f"The database {self.shown} is older than PostgreSQL 12.",
                    hint=f"Update it, or name another one in {_SETTING}.",
                    code="ledger_unusable",
                    charged=None,
                )
            raise_schema(connection, self.shown)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._process == os.getpid():
            connection.close()

    def _unreachable(self) -> LedgerError:
        return LedgerError(
            f"The ledger {self.shown} does not answer.",
            hint=f"See whether the database runs and this computer may reach it, or correct {_SETTING}; then run "
            "again: it goes on where it stands.",
            code="ledger_unreachable",
            charged=None,
        )

    def _explained(self, error: Exception) -> LedgerError:
        """The error in our words: psycopg's may quote the URL, or values of a statement."""
        errors = self._psycopg.errors
        for kind, (what, hint) in _REFUSALS.items():
            if isinstance(error, getattr(errors, kind)):
                return LedgerError(
                    f"The ledger {self.shown} {what}.", hint=hint, code="ledger_unusable", charged=None
                )
        text = str(error)
        for pattern, (what, hint) in _WORDS.items():
            if re.search(pattern, text):
                return LedgerError(
                    f"The ledger {self.shown} {what}.", hint=hint, code="ledger_unreachable", charged=None
                )
        if isinstance(error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)):
            return self._unreachable()
        state = getattr(error, "sqlstate", None) or type(error).__name__
        return LedgerError(
            f"The ledger {self.shown} cannot be used (PostgreSQL says {state}).",
            hint=f"Run {commands.own('ledger', 'check')}, or correct {_SETTING}.",
            code="ledger_unusable",
            charged=None,
        )


_READ_ONLY = ("is read only", f"Name the primary server in {_SETTING}, not a replica, then run again.")
_RIGHTS = (
    "gives this role too few rights",
    "Let the owner of the database run python -m rivya ledger init, and grant the role what SECURITY.md lists.",
)
_REFUSALS = {
    "InsufficientPrivilege": _RIGHTS,
    "ReadOnlySqlTransaction": _READ_ONLY,
    "DiskFull": ("has no space left on its disk", "Free some space there, then run again."),
}
_WORDS = {
    "password authentication failed|no password supplied|Ident authentication|Peer authentication|SASL": (
        "refuses this user or password",
        f"Correct the user in {_SETTING}, and the password there, in PGPASSWORD or in a password file.",
    ),
    r"database \S+ does not exist|no such database": (
        "is no database of that server",
        f"Make it (CREATE DATABASE), or correct the name in {_SETTING}.",
    ),
    r"role \S+ does not exist": ("does not know this user", f"Make the role, or correct {_SETTING}."),
    "no pg_hba.conf entry": (
        "does not let this computer in",
        "Allow its address in the server's pg_hba.conf or firewall.",
    ),
    "does not support SSL|SSL connection has been closed|server does not support": (
        "is not offered over TLS",
        f"Turn TLS on at the server; only where the network is your own, add ?sslmode=disable to {_SETTING}.",
    ),
    "certificate|SSL error": (
        "shows a certificate that is not trusted",
        f"Name the file of its authority, which the provider gives out, with ?sslrootcert=FILE in {_SETTING}.",
    ),
    "could not translate host name|Name or service not known|failed to resolve host|nodename nor": (
        "names a host that is not found",
        f"Correct the host in {_SETTING}.",
    ),
    "invalid (URI|connection option|port|integer)|missing .* in|unexpected character|invalid percent": (
        "has a URL that cannot be read",
        ledger_url.HINT,
    ),
}
"""Messages of libpq since version 12, and ours for them. Server messages are localised; an unknown one is reported as
unreachable.
"""

_abandoned: list[Any] = []


def raise_schema(
    connection: Any,
    shown: str,
    steps: Sequence[str] = schema.SHARED_STEPS,
    since: int = schema.COMPATIBLE_FROM,
) -> None:
    """Apply missing steps, one host at a time; a newer schema is used if it declares itself compatible.

    Raises:
        LedgerError: a newer version made it that this one cannot use, or it is not ours.
    """
    if _is_current(connection, shown, len(steps)):
        return
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT pg_advisory_xact_lock(727461766961)")
        if not _is_current(connection, shown, len(steps)):
            _raise_locked(connection, shown, steps, since)
        connection.execute("COMMIT")
    except BaseException:
        if not connection.closed and not connection.broken:
            connection.execute("ROLLBACK")
        raise


def _raise_locked(connection: Any, shown: str, steps: Sequence[str], since: int) -> None:
    version = 0
    if _exists(connection):
        version = connection.execute("SELECT version FROM rivya.schema").fetchone()["version"]
    else:
        if connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'rivya'").fetchone():
            raise LedgerError(
                f"The database {shown} has a schema named rivya that is not of this pack.",
                hint=f"Name another database in {_SETTING}.",
                code="ledger_unusable",
                charged=None,
            )
        if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'rivya'").fetchone() is None:
            connection.execute("CREATE SCHEMA rivya")
        connection.execute(
            "CREATE TABLE rivya.schema (version INTEGER NOT NULL, compatible_from INTEGER NOT NULL)"
        )
        connection.execute("INSERT INTO rivya.schema VALUES (0, 0)")
    for step in steps[version:]:
        connection.execute(step)
    connection.execute("UPDATE rivya.schema SET version = %s, compatible_from = %s", (len(steps), since))


def _exists(connection: Any) -> bool:
    # Not by to_regclass, whose cache may miss what another host created meanwhile.
    found = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'rivya' AND tablename = 'schema'")
    return found.fetchone() is not None


def _is_current(connection: Any, shown: str, known: int) -> bool:
    if not _exists(connection):
        return False
    row = connection.execute("SELECT version, compatible_from FROM rivya.schema").fetchone()
    if row["version"] > known and row["compatible_from"] > known:
        raise LedgerError(
            f"The ledger {shown} was raised by a newer version of this pack, which this one cannot work with.",
            hint=f"Update the pack on this computer, or name another database in {_SETTING}.",
            code="ledger_too_new",
            charged=None,
        )
    return bool(row["version"] >= known)


def _load() -> Any:
    try:
        import psycopg
        import psycopg.rows
    except ImportError:
        raise ConfigurationError(
            f"{_SETTING} names a PostgreSQL database, and psycopg is not installed in this Python.",
            hint=f"Run {commands.install(['psycopg[binary]'])} and start again.",
            code="package_missing",
        ) from None
    return psycopg


def _names_authority(url: Secret, env: Mapping[str, str] = os.environ) -> bool:
    """Whether the user configured a certificate authority where libpq looks."""
    own = Path(os.path.expanduser("~")) / ".postgresql" / "root.crt"
    return "sslrootcert" in url.reveal() or bool(env.get("PGSSLROOTCERT")) or own.is_file()


def _authorities(env: Mapping[str, str] = os.environ) -> str:
    """A file of commonly trusted authorities: libpq trusts none by default."""
    named = env.get("SSL_CERT_FILE")
    if named and os.path.isfile(named):
        return named
    import certifi

    return certifi.where()
