"""The Flask example does what its pages promise, under a real server, with real mail."""

from __future__ import annotations

import http.client
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from ports import HOST, free_port
from process import GRACE, LOAD, TIMEOUT, Ended, Process
from smtp import SmtpServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_app"
SHUTDOWN_TIMEOUT = 8.0  # seconds; the default of the package
INSTALLATION = 300.0  # seconds that the first start may take

# gunicorn takes its sync worker for a threaded one if it is given more than one thread.
WORKERS = {"sync": ("--worker-class=sync", "--threads=1"), "gthread": ("--worker-class=gthread", "--threads=4")}


class Site:
    """The example as a browser sees it, at a port of loopback."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._port = port
        self._ended: Ended | None = None

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "text/plain") -> tuple[int, bytes]:
        """Return the status and the body of the answer; redirects are not followed."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, **fields: str) -> int:
        """Send a form and return the status."""
        return self.request("POST", path, urlencode(fields).encode(), "application/x-www-form-urlencoded")[0]

    def upload(self, path: str, name: str, content: bytes) -> int:
        """Send a form with one file and return the status."""
        head = f'--limit\r\nContent-Disposition: form-data; name="{name}"; filename="file"\r\n\r\n'
        body = head.encode() + content + b"\r\n--limit--\r\n"
        return self.request("POST", path, body, "multipart/form-data; boundary=limit")[0]

    def get(self, path: str) -> bytes:
        """Return a page."""
        status, page = self.request("GET", path)
        assert status == 200, (path, status, page)
        return page

    def status(self) -> dict[str, Any]:
        """Return what the page shows of runs and stats."""
        shown: dict[str, Any] = json.loads(self.get("/status.json"))
        return shown

    def run_once(self, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the only run, once it meets the condition."""
        return self.once(lambda: next((run for run in self.status()["runs"] if met(run)), None))

    def once(self, look: Callable[[], Any]) -> Any:
        """Return what *look* finds, once it does; it is asked again and again, for it looks into another process."""
        deadline = time.monotonic() + TIMEOUT
        pace = threading.Event()
        while not (found := look()):
            assert time.monotonic() < deadline, self.process.errors()
            pace.wait(0.02)
        return found

    def stop(self, number: int) -> Ended:
        """Send the signal and wait for the end; once it has ended, say again how it did."""
        if self._ended is None:
            self.process.signal(number)
            self._ended = self.process.ended()
        return self._ended


@contextmanager
def serve(workers: str, smtp: SmtpServer) -> Iterator[Site]:
    """Serve the example by gunicorn, with its mails going to *smtp*."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", str(EXAMPLE / "gunicorn.conf.py"), *WORKERS[workers]]
    settings = {"FLASK_SMTP_HOST": HOST, "FLASK_SMTP_PORT": str(smtp.port)}
    with Process(*command, f"--bind={HOST}:{port}", chatty=True, **settings) as process:
        process.wait_for("Open http://.*")
        yield Site(process, port)


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture(params=WORKERS)
def site(request: pytest.FixtureRequest, smtp: SmtpServer) -> Iterator[Site]:
    with serve(request.param, smtp) as site:
        yield site


def test_the_pages_are_served(site: Site):
    """Both pages and what they load are there; none loads anything from elsewhere."""
    pages = [site.get(path) for path in ("/", "/inbox", "/static/app.js", "/static/style.css")]

    assert all(pages)
    assert not [page for page in pages if b"https://" in page or b"//cdn" in page]


def test_a_sign_up_sends_a_welcome_mail(site: Site, smtp: SmtpServer):
    """Who signs up gets one mail, greeted by the name as typed."""
    status = site.post("/sign-up", name='Zoë "Z" <b>', email="zoe@example.org")
    smtp.wait_for_mail()
    run = site.run_once(lambda run: run["state"] == "succeeded")

    assert status == 303
    assert smtp.recipients == ["zoe@example.org"]
    assert smtp.mails[0]["Subject"] == 'Welcome, Zoë "Z" <b>!'
    assert smtp.mails[0].get_content().startswith('Hello Zoë "Z" <b>,')
    assert (run["job"], run["attempt"], run["outcome"]) == ("MailJob", 1, "sent to zoe@example.org")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Ada"},
        {"name": " ", "email": "ada@example.org"},
        {"name": "Ada", "email": "ada"},
        {"name": "Ada", "email": "ada@example.org\r\nBcc: eve@example.org"},
        {"name": "Ada", "email": "ada@example.org, eve@example.org"},
    ],
)
def test_a_wrong_sign_up_is_refused_in_the_view(smtp: SmtpServer, fields: dict[str, str]):
    """What cannot be sent is the visitor's error, at once, and never a run."""
    with serve("gthread", smtp) as site:
        status = site.post("/sign-up", **fields)

        assert status == 400
        assert site.status()["runs"] == []


def test_an_uploaded_picture_becomes_a_thumbnail(site: Site):
    """The thumbnail is small, keeps its proportions, and is a picture a browser shows."""
    picture = io.BytesIO()
    Image.new("CMYK", (1600, 800)).save(picture, "JPEG")

    status = site.upload("/pictures", "picture", picture.getvalue())
    run = site.run_once(lambda run: "picture" in run)

    assert status == 303
    with Image.open(io.BytesIO(site.get(run["picture"]))) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("PNG", (320, 160))


def test_a_file_that_is_no_picture_fails_and_is_shown(site: Site):
    """A failed run says why, has no thumbnail, and leaves its traceback on standard error once."""
    site.upload("/pictures", "picture", b"no picture")
    run = site.run_once(lambda run: run["state"] == "failed")
    picture = site.request("GET", f"/pictures/{run['id']}.png")
    ended = site.stop(signal.SIGTERM)  # a state is seen before the report of it is written

    assert run["outcome"].startswith("UnidentifiedImageError")
    assert picture[0] == 404
    assert ended.errors.count("Traceback") == 1


def test_a_report_fails_twice_and_is_retried_to_success(site: Site):
    """The page shows a run between its attempts, then its success, and the counts agree."""
    site.post("/reports")
    waiting = site.run_once(lambda run: run["state"] == "retrying")
    run = site.run_once(lambda run: run["state"] == "succeeded")
    counts = site.once(lambda: (shown := site.status()["jobs"]["ReportJob"])["succeeded"] and shown)

    assert "ConnectionError" in waiting["outcome"]
    assert (run["attempt"], run["outcome"]) == (3, "worked at attempt 3")
    assert run["seconds"] >= 0.5 + 1.0
    assert (counts["retried"], counts["succeeded"], counts["failed"]) == (2, 1, 0)


def test_a_mail_waits_for_an_smtp_server_that_is_away():
    """While no connection is possible the mail is tried again, and it goes out once when there is a server."""
    away = SmtpServer()
    with serve("gthread", away) as site:
        site.post("/sign-up", name="Ada", email="ada@example.org")
        site.run_once(lambda run: run["state"] == "retrying")

        with away as smtp:
            smtp.wait_for_mail()
            run = site.run_once(lambda run: run["state"] == "succeeded")

    assert run["attempt"] > 1
    assert smtp.recipients == ["ada@example.org"]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_stop_in_the_middle_of_a_burst_sends_every_accepted_mail_once(workers: str):
    """Whoever was told that the sign-up worked gets exactly one mail, though the server was stopped before that."""
    accepted: list[str] = []
    told = threading.Semaphore(0)

    def sign_up(client: int) -> None:
        for number in range(5):
            address = f"guest-{client}-{number}@example.org"
            try:
                status = site.post("/sign-up", name="Guest", email=address)
            except (OSError, http.client.HTTPException):
                return  # the server has stopped
            if status < 400:
                accepted.append(address)
                told.release()

    with SmtpServer(held=True) as smtp, serve(workers, smtp) as site:
        with ThreadPoolExecutor(8) as clients:
            for client in range(8):
                clients.submit(sign_up, client)
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
    assert ended.status == 0
    assert ended.seconds < SHUTDOWN_TIMEOUT + GRACE + LOAD
    assert "Traceback" not in ended.errors


@pytest.fixture(scope="module")
def installed() -> None:
    """Have the launcher make its environment, if none was there."""
    command = [sys.executable, str(EXAMPLE / "run.py"), "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=INSTALLATION, check=True)


@contextmanager
def launch() -> Iterator[Site]:
    """Start the example by its launcher, without a network."""
    port = free_port()
    command = [sys.executable, str(EXAMPLE / "run.py"), f"--port={port}"]
    with Process(*command, chatty=True, PIP_INDEX_URL="http://127.0.0.1:1", PIP_RETRIES="0") as process:
        site = Site(process, port)
        try:
            process.wait_for(f"Open http://127.0.0.1:{port} .*")
            yield site
        finally:
            site.stop(signal.SIGTERM)  # gunicorn is in a group of its own, and only the launcher ends it


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed")
def test_the_launcher_shows_the_app_and_stops_cleanly_on_ctrl_c():
    """One command serves the app and an inbox; at Ctrl-C the accepted mails are still sent, and nobody complains."""
    with launch() as site:
        site.post("/sign-up", name="Ada", email="ada@example.org")
        inbox = site.once(lambda: (page := site.get("/inbox")).count(b"<article") and page)
        site.post("/burst")
        ended = site.stop(signal.SIGINT)

    assert b"Welcome, Ada!" in inbox
    assert (ended.status, ended.errors) == (0, "")
    assert ended.seconds < SHUTDOWN_TIMEOUT + GRACE + LOAD


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_launcher_takes_the_server_with_it(number: int):
    """Whatever ends the launcher, a closed terminal too, no server stays behind on the port."""
    with launch() as site:
        ended = site.stop(number)

        with pytest.raises(ConnectionRefusedError):
            site.get("/")

    assert (ended.status, ended.errors) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("installed")
def test_the_launcher_says_that_its_port_is_taken(smtp: SmtpServer):
    """A port in use is no traceback but a sentence that says what to do."""
    command = [sys.executable, str(EXAMPLE / "run.py"), f"--port={smtp.port}"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    assert ended.returncode == 1
    assert f"Port {smtp.port} cannot be used" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
