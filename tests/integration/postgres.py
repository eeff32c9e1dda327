"""A PostgreSQL server of the tests' own: a fresh cluster in a temporary folder, run by the programs of Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
import pytest

TIMEOUT = 20.0  # seconds within which a connection that was closed is gone
DEBIANS = Path("/usr/lib/postgresql")  # a folder for each version, and not on the path
# Runs a server until its own standard input ends, as it does with whoever holds the other end: no server outlives the
# tests, however they end.
GUARD = '"$@" <&- & read -r _; kill -INT $!; wait'
FAST = {"fsync": "off", "synchronous_commit": "off", "autovacuum": "off", "shared_buffers": "16MB"}


class Postgres:
    """A server that listens on a Unix socket only, as a context manager; gone with its folder afterwards."""

    def __init__(self, *, max_connections: int = 50) -> None:
        self._programs = _programs()
        # The server refuses to run as root.
        self._user = None if os.geteuid() else pwd.getpwnam("nobody")
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: so is the path of a socket
        own = {"max_connections": max_connections, "listen_addresses": "", "unix_socket_directories": self._folder}
        self._options = {**FAST, **own}

    def __enter__(self) -> Postgres:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        options = ("--username=postgres", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8")
        self._start("initdb", *options).communicate()
        self._server = self._serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()
        shutil.rmtree(self._folder)

    @property
    def database(self) -> dict[str, Any]:
        """What ``DATABASES`` of Django's settings says of it."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": str(self._folder),
            "NAME": "postgres",
            "USER": "postgres",
        }

    def restart(self) -> None:
        """Stop it, which ends every connection, and start it again."""
        self._server.communicate()
        self._server = self._serve()

    def connections(self) -> int:
        """Return how many clients have a connection, as the server sees it, besides the one that asks."""
        with self._connect() as connection:
            question = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            row = connection.execute(question).fetchone()
        assert row is not None
        return int(row[0])

    def connections_left(self) -> int:
        """Return how many there are when those that were closed are gone, which the server sees a moment later."""
        deadline = time.monotonic() + TIMEOUT
        while (count := self.connections()) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return count

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self._folder), dbname="postgres", user="postgres")

    def _serve(self) -> subprocess.Popen[bytes]:
        options = (f"--{name}={value}" for name, value in self._options.items())
        server = self._start("postgres", *options, before=("sh", "-c", GUARD, "sh"))
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self._connect().close()
                return server
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                threading.Event().wait(0.02)

    def _start(self, program: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*before, str(self._programs / program), "-D", str(self._folder / "data"), *arguments],
                cwd=self._folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=self._user and [],
            )


def _programs() -> Path:
    """Return the folder of the server's programs, installing them where that can be done."""
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in ("update", "install"):
            subprocess.run(
                ["apt-get", "-qq", command, *(("-y", "postgresql") if command == "install" else ())],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        found = _find()
    if found is None:
        missing = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def _find() -> Path | None:
    debians = sorted(DEBIANS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(debians[-1]) if debians else shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent
