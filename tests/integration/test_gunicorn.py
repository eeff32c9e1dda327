"""Behind gunicorn: SIGTERM to the master finishes what the workers have accepted, and a hung job does not stop that."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest
from process import GRACE, LOAD, TIMEOUT, Ended, Process, discarded

pytest.importorskip("gunicorn")

APP = """
import os, sys, threading
from flask import Flask, request
from inproc_jobs import Job
from inproc_jobs.flask import InprocJobs

class Slow(Job, workers=2):
    def perform(self, number, seconds):
        threading.Event().wait(seconds)
        os.write(1, f"done {number}\\n".encode())

class Hung(Job):
    def perform(self):
        os.write(1, b"hangs\\n")
        threading.Semaphore(0).acquire()

app = Flask(__name__)
app.config["INPROC_JOBS_SHUTDOWN_TIMEOUT"] = float(os.environ.get("DEADLINE", "8"))
InprocJobs(app)
if os.environ.get("EARLY"):
    Slow.perform_async(1001, 0.2)

@app.get("/enqueue/<int:first>/<int:count>")
def enqueue(first, count):
    for number in range(first, first + count):
        Slow.perform_async(number, float(request.args["seconds"]))
    return str(os.getpid())

@app.get("/hang")
def hang():
    Hung.perform_async()
    return str(os.getpid())
"""

CONF = """
import os

control_socket_disable = True  # one less thread of gunicorn's own; unknown to older ones, which ignore it

def post_worker_init(worker):
    os.write(1, f"worker-{worker.age}\\n".encode())
"""


class Gunicorn(Process):
    """A gunicorn with the app above, reached by a socket in *place*."""

    def __init__(self, place: Path, *arguments: str, **environment: str) -> None:
        (place / "app.py").write_text(textwrap.dedent(APP))
        (place / "conf.py").write_text(textwrap.dedent(CONF))
        self._socket = place / "socket"
        bind = ("--config", "conf.py", "--bind", f"unix:{self._socket}")
        super().__init__(sys.executable, "-m", "gunicorn", *bind, *arguments, "app:app", cwd=str(place), **environment)
        # Each of them: a signal that comes before its handlers are there is lost.
        workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
        for _ in range(workers):
            self.wait_for(r"worker-\d+")

    def get(self, path: str) -> str:
        """Make one request, on a connection of its own, and return what is answered."""
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        connection.sock.connect(str(self._socket))
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            assert answer.status == 200, self.errors()
            return answer.read().decode()
        finally:
            connection.close()


KINDS = [
    pytest.param(
        ["--workers", str(workers), "--worker-class", kind, *threads, *preload],
        id=" ".join((kind, str(workers), *preload)),
    )
    for kind, threads in (("sync", ()), ("gthread", ("--threads", "2")))
    for workers in (1, 2)
    for preload in ((), ("--preload",))
]


def assert_clean(ended: Ended) -> None:
    assert ended.status == 0, ended.errors
    assert not re.search(r"Traceback|Exception ignored|SIGKILL|WORKER TIMEOUT|core dumped", ended.errors), ended.errors


@pytest.mark.parametrize("arguments", KINDS)
def test_sigterm_finishes_what_was_accepted(tmp_path: Path, arguments: list[str]):
    """With ten runs of 0.3 s queued, SIGTERM to the master lets all of them be done, and gunicorn ends with status 0."""
    with Gunicorn(tmp_path, *arguments) as server:
        server.get("/enqueue/0/5?seconds=0.3")
        server.get("/enqueue/5/5?seconds=0.3")

        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert ended.numbers() == list(range(10))
    assert_clean(ended)
    assert ended.seconds < 5


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_max_requests(tmp_path: Path, kind: str):
    """A worker that is retired after some requests first does what they have enqueued."""
    with Gunicorn(tmp_path, "--worker-class", kind, "--max-requests", "3") as server:
        pids = [server.get(f"/enqueue/{first}/5?seconds=0.1") for first in range(0, 35, 5)]
        for _ in range(35):
            server.wait_for(r"done \d+")

        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert ended.numbers() == list(range(35))
    assert len(set(pids)) >= 2
    assert_clean(ended)


@pytest.mark.parametrize("arguments", KINDS)
def test_a_hung_job_delays_the_stop_to_the_deadline(tmp_path: Path, arguments: list[str]):
    """A hung job is named, and the worker is gone a second after its deadline, long before gunicorn would kill it."""
    with Gunicorn(tmp_path, *arguments, DEADLINE="1") as server:
        server.get("/hang")
        server.wait_for("hangs")

        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert len(discarded(ended.errors)) == 1
    assert_clean(ended)
    assert ended.seconds < 1.0 + GRACE + LOAD + 1.0  # gunicorn's master looks once a second


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_work_enqueued_before_the_fork(tmp_path: Path, kind: str):
    """With --preload, a run enqueued at import belongs to the master, which does it; the workers do their own."""
    with Gunicorn(tmp_path, "--worker-class", kind, "--workers", "2", "--preload", EARLY="yes") as server:
        server.get("/enqueue/0/5?seconds=0.1")
        server.get("/enqueue/5/5?seconds=0.1")

        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert ended.numbers() == [*range(10), 1001]
    assert_clean(ended)


def test_a_signal_to_a_worker_alone(tmp_path: Path):
    """A worker that is stopped by itself does its work first; the master replaces it."""
    with Gunicorn(tmp_path) as server:
        pid = int(server.get("/enqueue/0/10?seconds=0.1"))

        os.kill(pid, signal.SIGTERM)
        for _ in range(10):
            server.wait_for(r"done \d+")
        assert int(server.get("/enqueue/10/1?seconds=0")) != pid
        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert ended.numbers() == list(range(11))
    assert_clean(ended)
