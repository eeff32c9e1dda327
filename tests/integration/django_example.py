"""The Django example, as a browser, a mail server, its database and a terminal see it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ports import HOST
from process import TIMEOUT, Ended, Process
from smtp import SmtpServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_app"
SERVERS = {
    "wsgi": ("gunicorn", "--config", "gunicorn.conf.py", "--bind", "fd://{fd}"),
    "asgi": ("uvicorn", "--log-level", "warning", "--fd", "{fd}", "config.asgi:application"),
}
TROUBLE = re.compile(r"Traceback|Warning|Exception ignored|SIGKILL|core dumped")  # on standard error


class Database:
    """The file of a site's database, read beside the site."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def copy(self, folder: Path) -> Database:
        """Return a copy; of one that nobody uses."""
        return Database(Path(shutil.copy(self.path, folder / "db.sqlite3")))

    def book(self, count: int) -> list[str]:
        """Write bookings that have no ticket yet, and return their addresses."""
        addresses = [f"early-{number}@example.org" for number in range(count)]
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for address in addresses:
                connection.execute("INSERT INTO booking_booking (name, email, ticket) VALUES ('Ada', ?, '')", [address])
        return addresses

    def ticketed(self) -> list[str]:
        """Return the addresses whose ticket is written and whose mail is noted as sent, sorted."""
        return self._addresses("ticket != '' AND mailed_at IS NOT NULL")

    def booked(self) -> list[str]:
        """Return all addresses, sorted."""
        return self._addresses("TRUE")

    def _addresses(self, condition: str) -> list[str]:
        with closing(sqlite3.connect(self.path, timeout=TIMEOUT)) as connection:
            query = f"SELECT email FROM booking_booking WHERE {condition} ORDER BY email"
            return [address for (address,) in connection.execute(query)]


def manage(*arguments: str, database: Database, smtp: SmtpServer | None = None, cwd: Path = EXAMPLE) -> Process:
    """Start a command of ``manage.py``."""
    return Process(sys.executable, "manage.py", *arguments, cwd=str(cwd), **_settings(database, smtp))


def make_database(folder: Path) -> Database:
    """Make an empty database by the site's migrations."""
    database = Database(folder / "db.sqlite3")
    with manage("migrate", "--verbosity=0", database=database) as process:
        ended = process.ended()
    assert ended.status == 0, ended.errors
    return database


def _settings(database: Database, smtp: SmtpServer | None) -> dict[str, str]:
    return {
        "DJANGO_DATABASE": str(database.path),
        "DJANGO_SMTP_HOST": HOST,
        "DJANGO_SMTP_PORT": str(smtp.port if smtp is not None else 1),
        "DJANGO_DEBUG": "1",  # which makes the app warn where it may
        "PYTHONUNBUFFERED": "1",
    }


class Site:
    """The site as a browser sees it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._port = port
        self._ended: Ended | None = None

    def request(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, str]:
        """Return the status, the cookie and the text of the answer; redirects are not followed."""
        with closing(http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, (answer.getheader("Set-Cookie") or "").partition(";")[0], answer.read().decode()

    def is_up(self) -> bool:
        """Return whether a server listens."""
        try:
            return self.request("GET", "/")[0] == 200
        except ConnectionRefusedError:
            return False

    def get(self, path: str) -> str:
        """Return a page."""
        status, _, page = self.request("GET", path)
        assert status == 200, (path, status, page)
        return page

    def post(self, path: str, *, language: str = "en", **fields: str) -> tuple[int, str]:
        """Send the form of the first page there, its token included, and return the status and the text."""
        _, cookie, page = self.request("GET", "/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token is not None, page
        headers = {"Cookie": cookie, "Accept-Language": language, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"csrfmiddlewaretoken": token[1], **fields})
        status, _, text = self.request("POST", path, body, **headers)
        return status, text

    def book(self, address: str, *, name: str = "Ada", language: str = "en") -> bool:
        """Book a seat and return whether that was accepted; without an answer it was not."""
        try:
            return self.post("/book", name=name, email=address, language=language)[0] == 302
        except (OSError, http.client.HTTPException):
            return False

    def status(self, path: str = "/status.json") -> dict[str, Any]:
        """Return what a page shows of runs and stats."""
        shown: dict[str, Any] = json.loads(self.get(path))
        return shown

    def once(self, look: Callable[[], Any]) -> Any:
        """Return what *look* finds, once it does; it is asked again and again, for it looks into another process."""
        deadline = time.monotonic() + TIMEOUT
        pace = threading.Event()
        while not (found := look()):
            assert time.monotonic() < deadline, self.process.errors()
            pace.wait(0.02)
        return found

    def outcome(self, address: str) -> str:
        """Return the outcome of the run that has sent a ticket to *address*."""
        outcome: str = self.once(lambda: [run["outcome"] for run in self.status()["runs"] if address in str(run)])[0]
        return outcome

    def stop(self, number: int) -> Ended:
        """Send the signal and wait for the end; once it has ended, say again how it did."""
        if self._ended is None:
            self.process.signal(number)
            self._ended = self.process.ended()
        return self._ended


class ServedSite(Site):
    """A site beside the database and the mail server that it uses."""

    def __init__(self, process: Process, port: int, database: Database, smtp: SmtpServer) -> None:
        super().__init__(process, port)
        self.database = database
        self.smtp = smtp


@contextmanager
def serve(kind: str, database: Database, smtp: SmtpServer, *options: str) -> Iterator[ServedSite]:
    """Serve the example by gunicorn or by uvicorn, with its mails going to *smtp*."""
    with socket.create_server((HOST, 0)) as listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        server = [part.format(fd=number) for part in SERVERS[kind]]
        command = [sys.executable, "-m", *server, *options]
        process = Process(*command, cwd=str(EXAMPLE), pass_fds=(number,), chatty=True, **_settings(database, smtp))
    with process:
        yield ServedSite(process, port, database, smtp)
