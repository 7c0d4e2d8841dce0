"""A real PostgreSQL of the tests' own, and PgBouncer in front of it, from the packages of the system."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from rivya.ledger.beats import BeatHolder
from rivya.ledger.ledger import Ledger
from rivya.ledger.postgres import PostgresDatabase
from rivya.secret import Secret

PASSWORD = "a-p4ssword-of-the-database"
_FOUND_IN = "/usr/lib/postgresql"
_PATIENCE_S = 60.0


def opened(url: Secret, patience_s: float = 20.0) -> Ledger:
    """The ledger of that URL, as a host of its own has it."""
    database = PostgresDatabase(url, patience_s=patience_s)
    return Ledger(database, BeatHolder(database, PostgresDatabase(url, patience_s=0.0)))


class Postgres:
    """A server on this computer, in a folder of its own. It may be killed and started again on the same data."""

    def __init__(self) -> None:
        """Start it. Skips the test where PostgreSQL is not installed, but for continuous integration."""
        self._bin = _programs()
        self._as = _another_user()
        self.folder = Path(tempfile.mkdtemp(prefix="rivya-postgres-"))
        self.port = _free_port()
        if self._as:
            shutil.chown(self.folder, self._as["user"], self._as["group"])
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.data), "-U", "owner", "-A", "scram-sha-256", "--pwfile", str(password),
            "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "max_connections": 200,
        }
        with open(self.data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash: sessions are cut off, and the next start recovers from the log."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", mode, "stop")

    def url(
        self,
        database: str,
        user: str = "owner",
        password: str = PASSWORD,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> str:
        return f"postgresql://{user}:{password}@{host}:{port or self.port}/{database}"

    def make_database(self) -> str:
        """The name of a new, empty database."""
        name = f"d{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name}", "postgres")
        return name

    def run(self, sql: str, database: str) -> list[dict[str, Any]]:
        """The rows of one statement, as the owner."""
        import psycopg
        import psycopg.rows

        with psycopg.connect(
            self.url(database), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as connection:
            answer = connection.execute(sql)
            return answer.fetchall() if answer.description else []

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        with open(self.folder / "said", "w+") as said:  # a pipe would stay open as long as the server
            done = subprocess.run(
                [self._bin / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                **self._as,
            )
            said.seek(0)
            assert done.returncode == 0, said.read()


class PgBouncer:
    """PgBouncer in transaction mode in front of a server: a session of it is nobody's for longer than a transaction."""

    def __init__(self, server: Postgres) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            _absent("pgbouncer")
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="rivya-pgbouncer-"))
        (self._folder / "users").write_text(f'"owner" "{PASSWORD}"\n')
        (self._folder / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users\n"
            "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n"
        )
        as_other = _another_user()
        if as_other:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, as_other["user"], as_other["group"])
        self._process = subprocess.Popen(
            [str(program), "ini"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_other,
        )
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert self._process.poll() is None
                time.sleep(0.05)

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _programs() -> Path:
    """The folder of PostgreSQL's programs: Debian keeps the server's out of the PATH."""
    found = sorted(Path(_FOUND_IN).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    if not found and named is None:
        _absent("postgresql")
    return found[-1].parent if found else Path(str(named)).parent


def _absent(package: str) -> None:
    sentence = f"needs {package}: apt-get install {package}"
    if os.environ.get("CI"):
        raise AssertionError(sentence)
    pytest.skip(sentence)


def _another_user() -> dict[str, Any]:
    """Whom to run a server as: neither runs as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("root needs a user named postgres or nobody")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
