"""The ASGI lifespan, under a real server."""

from __future__ import annotations

import http.client
import signal
import socket
import sys

import pytest
from process import TIMEOUT, Process

APP = """
import os, threading
from inproc_jobs import Job
from inproc_jobs.asgi import lifespan

class Slow(Job, workers=2):
    def perform(self, number):
        threading.Event().wait(0.2)
        os.write(1, f"done {number}\\n".encode())

async def answer(scope, receive, send):
    for number in range(6):
        Slow.perform_async(number)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

async def bare(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan here")
    await answer(scope, receive, send)

async def living(scope, receive, send):
    if scope["type"] == "http":
        return await answer(scope, receive, send)
    for step in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{step}"
        os.write(1, f"{step}\\n".encode())
        await send({"type": f"lifespan.{step}.complete"})

bare, living = lifespan(bare), lifespan(living)
"""


@pytest.mark.parametrize("app", ["bare", "living"])
def test_the_lifespan_finishes_what_was_accepted(tmp_path, app):
    """On SIGTERM the jobs are finished within the lifespan's shutdown, before the app's own is told."""
    (tmp_path / "site_app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        port = listener.getsockname()[1]
        command = (sys.executable, "-m", "uvicorn", f"site_app:{app}", "--fd", str(number), "--lifespan", "on")

        with Process(*command, cwd=str(tmp_path), pass_fds=(number,), chatty=True) as server:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            client.request("GET", "/")
            assert client.getresponse().read() == b"ok"
            client.close()
            server.signal(signal.SIGTERM)
            ended = server.ended()

    assert ended.numbers() == [0, 1, 2, 3, 4, 5]
    if app == "living":
        assert ended.lines[-1] == "shutdown"
    assert "Traceback" not in ended.errors
