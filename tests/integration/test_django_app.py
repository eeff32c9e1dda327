"""The Django example does what its pages promise, under gunicorn and under uvicorn, with real mail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from process import GRACE, LOAD, TIMEOUT, Process
from smtp import SmtpServer

django = pytest.importorskip("django")
pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")

from django_example import EXAMPLE, SERVERS, TROUBLE, Database, ServedSite, Site, make_database, serve  # noqa: E402

SHUTDOWN_TIMEOUT = 8.0  # seconds; the site's setting
INSTALLATION = 300.0  # seconds that the first start may take

needs_tasks = pytest.mark.skipif(django.VERSION < (6, 1), reason="the site uses django.tasks from Django 6.1 on")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return make_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def database(empty: Database, tmp_path: Path) -> Database:
    return empty.copy(tmp_path)


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, empty: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedSite]:
    """One site of each kind for the tests that change nothing for the others; it ends without a complaint."""
    database = empty.copy(tmp_path_factory.mktemp(request.param))
    with SmtpServer() as smtp, serve(request.param, database, smtp) as site:
        yield site
        errors = site.stop(signal.SIGTERM).errors
    assert not TROUBLE.search(errors), errors


def test_the_pages_are_served(site: ServedSite):
    """All pages and what they load are there; none loads anything from elsewhere."""
    pages = [site.get(path) for path in ("/", "/inbox", "/static/style.css", "/static/booking/app.js")]

    assert all(pages)
    assert not [page for page in pages if "https://" in page or "//cdn" in page]


def test_a_booking_gets_its_ticket_by_mail(site: ServedSite):
    """Who books gets one mail, greeted by the name as typed, and the ticket is in the database."""
    address = "zoe@example.org"

    accepted = site.book(address, name='Zoë  "Z" <b>')
    outcome = site.outcome(address)
    mail = next(mail for mail in site.smtp.mails if mail["To"] == address)

    assert accepted
    assert site.smtp.recipients.count(address) == 1
    assert mail["Subject"] == 'Your ticket, Zoë "Z" <b>'
    assert mail.get_content().startswith('Hello Zoë "Z" <b>,\r\n')
    assert address in site.database.ticketed()
    assert outcome.endswith(f"sent to {address}")


def test_a_job_speaks_the_language_of_the_request(site: ServedSite):
    """The mail is written in a thread of its own, and yet in the language of whoever has booked."""
    address = "grete@example.org"

    site.book(address, language="de")
    site.outcome(address)
    mail = next(mail for mail in site.smtp.mails if mail["To"] == address)

    assert "4. Mai 2030" in mail.get_content()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Ada"},
        {"name": " ", "email": "wrong@example.org"},
        {"name": "Ada", "email": "wrong"},
        {"name": "Ada", "email": "wrong@example.org\r\nBcc: eve@example.org"},
    ],
)
def test_a_wrong_booking_is_refused_in_the_view(site: ServedSite, fields: dict[str, str]):
    """What cannot be booked is the visitor's error, at once, and neither a row nor a run."""
    status, text = site.post("/book", **fields)

    assert (status, text[:2]) == (400, "* ")
    assert not [address for address in site.database.booked() if "wrong" in address]
    assert "wrong" not in str(site.status()["runs"])


def test_a_form_without_its_token_is_refused(site: ServedSite):
    """Django's protection against forged requests is on."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    status, _, _ = site.request("POST", "/book", "name=Eve&email=eve@example.org", **form)

    assert status == 403
    assert "eve@example.org" not in site.database.booked()


def test_a_rollback_takes_the_job_with_it(site: ServedSite):
    """A job enqueued in a transaction that is rolled back never runs: no row, no run, no mail."""
    after = "after@example.org"

    status, text = site.post("/decline")
    site.book(after)
    site.outcome(after)

    assert (status, text) == (200, "Rolled back: no booking, no job, no mail")
    assert "nobody@example.org" not in site.database.booked()
    assert "nobody@example.org" not in site.smtp.recipients


def test_an_async_view_awaits_its_run_while_others_are_served(site: ServedSite):
    """While async views wait for runs of half a second, the site answers another request."""
    with ThreadPoolExecutor(2) as visitors:
        asked = [visitors.submit(site.post, "/seats") for _ in range(2)]
        site.once(lambda: site.status()["stats"]["booking.jobs.free_seats"]["busy"])
        answers = [visitor.result(TIMEOUT) for visitor in asked]

    for status, text in answers:
        assert status == 200
        assert text.endswith(" seats are free")


@needs_tasks
def test_a_task_is_tried_again_until_it_works(site: ServedSite):
    """Of two tasks enqueued by async views, one works at its third attempt while the other's time has not come."""
    statuses = [site.post(f"/reports/{action}")[0] for action in ("make-later", "make")]
    due, later = site.status("/reports/status.json")["results"]
    site.once(lambda: results(site)[due["id"]]["state"] == "ready")
    first = site.once(lambda: (result := results(site)[due["id"]])["state"] == "succeeded" and result)
    second = results(site)[later["id"]]
    stats = site.status("/reports/status.json")["stats"]["tasks.default.default"]

    assert statuses == [302, 302]
    assert (first["attempt"], first["outcome"].split()[1]) == (3, "booked,")
    assert first["seconds"] >= 0.5 + 1.0
    assert (second["state"], second["attempt"], second["outcome"]) == ("ready", 0, None)
    assert (stats["retried"], stats["succeeded"], stats["failed"], stats["scheduled"]) == (2, 1, 0, 1)


def results(site: ServedSite) -> dict[str, Any]:
    """Return the results of tasks by id."""
    return {result["id"]: result for result in site.status("/reports/status.json")["results"]}


def test_no_connection_to_the_database_stays_open(site: ServedSite):
    """Once a burst is over, no thread of a worker holds the database open."""
    site.post("/burst")
    site.once(lambda: not site.status()["stats"]["booking.jobs.TicketJob"]["busy"])

    site.once(lambda: not open_files(site.process.pid, site.database.path))


def open_files(pid: int, path: Path) -> list[str]:
    """Return which processes below *pid* have *path* open, once for each time."""
    found = []
    for number in (pid, *children(pid)):
        for link in Path(f"/proc/{number}/fd").iterdir():
            try:
                if os.readlink(link).startswith(str(path)):
                    found.append(f"{number}: {link.name}")
            except FileNotFoundError:
                pass  # closed meanwhile
    return found


def children(pid: int) -> list[int]:
    """Return the numbers of the processes that *pid* has started."""
    tasks = Path(f"/proc/{pid}/task")
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended between the two looks: both again
            return [int(child) for of_one in tasks.glob("*/children") for child in of_one.read_text().split()]


def test_a_ticket_waits_for_an_smtp_server_that_is_away(database: Database):
    """While no connection is possible the mail is tried again, and it goes out once when there is a server."""
    away = SmtpServer()
    with serve("wsgi", database, away) as site:
        site.book("ada@example.org")
        site.once(lambda: site.status()["stats"]["booking.jobs.TicketJob"]["retrying"])

        with away as smtp:
            smtp.wait_for_mail()
            site.outcome("ada@example.org")

    assert smtp.recipients == ["ada@example.org"]
    assert database.ticketed() == ["ada@example.org"]


@pytest.mark.parametrize(("kind", "workers"), [("wsgi", 1), ("wsgi", 2), ("asgi", 1)])
def test_a_stop_in_the_middle_of_a_burst_sends_every_accepted_mail_once(kind: str, workers: int, database: Database):
    """Whoever was told that the booking worked gets exactly one mail, though the server was stopped before that."""
    accepted: list[str] = []
    told = threading.Semaphore(0)

    def book(client: int) -> None:
        for number in range(5):
            address = f"guest-{client}-{number}@example.org"
            if not site.book(address):
                return  # the server has stopped
            accepted.append(address)
            told.release()

    options = ("--preload", f"--workers={workers}") if workers > 1 else ()
    with SmtpServer(held=True) as smtp, serve(kind, database, smtp, *options) as site:
        for _ in range(workers if kind == "wsgi" else 0):
            site.process.wait_for("Open .*")  # gunicorn loses a signal to a worker that is just starting
        with ThreadPoolExecutor(8) as clients:
            for client in range(8):
                clients.submit(book, client)
            for _ in range(10):
                assert told.acquire(timeout=TIMEOUT), site.process.errors()
            site.process.signal(signal.SIGTERM)
            sent_before = list(smtp.recipients)
            smtp.release()
        ended = site.process.ended()

    sent = Counter(smtp.recipients)
    assert sent_before == []
    assert set(accepted) <= set(sent)
    assert set(sent.values()) == {1}
    assert database.ticketed() == sorted(sent)
    assert ended.status == {"wsgi": 0, "asgi": -signal.SIGTERM}[kind]
    assert ended.seconds < SHUTDOWN_TIMEOUT + GRACE + LOAD
    assert not TROUBLE.search(ended.errors), ended.errors


@pytest.fixture(scope="module")
def installed() -> None:
    """Have the launcher make its environment, if none was there."""
    command = [sys.executable, str(EXAMPLE / "run.py"), "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=INSTALLATION, check=True)


@contextmanager
def launch(*options: str) -> Iterator[Site]:
    """Start the example by its launcher, without a network."""
    port = free_port()
    command = [sys.executable, str(EXAMPLE / "run.py"), f"--port={port}", *options]
    with Process(*command, chatty=True, PIP_INDEX_URL="http://127.0.0.1:1", PIP_RETRIES="0") as process:
        site = Site(process, port)
        try:
            site.once(site.is_up)
            yield site
        finally:
            site.stop(signal.SIGTERM)  # the server is in a group of its own, and only the launcher ends it


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("options", [(), ("--asgi",)], ids=["wsgi", "asgi"])
def test_the_launcher_shows_the_site_and_stops_cleanly_on_ctrl_c(options: tuple[str, ...]):
    """One command migrates and serves the site and an inbox; at Ctrl-C the accepted mails are still sent."""
    with launch(*options) as site:
        site.book("ada@example.org")
        inbox = site.once(lambda: (page := site.get("/inbox")).count("<article") and page)
        site.post("/burst")
        ended = site.stop(signal.SIGINT)

    assert "Your ticket, Ada" in inbox
    assert ended.status == 0
    assert not TROUBLE.search(ended.errors), ended.errors
    assert ended.seconds < SHUTDOWN_TIMEOUT + GRACE + LOAD


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_launcher_takes_the_server_with_it(number: int):
    """Whatever ends the launcher, a closed terminal too, no server stays behind on the port."""
    with launch() as site:
        ended = site.stop(number)

        assert not site.is_up()

    assert (ended.status, ended.errors) == (0, "")
