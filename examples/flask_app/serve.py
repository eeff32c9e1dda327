"""Start the app under gunicorn, beside an SMTP server that keeps what it is sent; run.py makes the way here."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

HOST = "127.0.0.1"


class Inbox:
    """Keeps each mail as a file, and takes its time, as a real server does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = itertools.count(1)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(0.7)
        incoming = self._folder / "incoming"
        incoming.write_bytes(envelope.content)
        incoming.rename(self._folder / f"{next(self._number):06}.eml")  # at once, so that no page reads half of it
        return "250 OK"


@contextmanager
def smtp_server(inbox: Path) -> Iterator[int]:
    """Run an SMTP server in a thread and give its port."""
    controller = Controller(Inbox(inbox), hostname=HOST, port=free_port(0))
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def free_port(port: int) -> int:
    """Return *port*, or any free one for 0; raise OSError if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py", description="Start the Flask example of inproc_jobs.")
    parser.add_argument("--port", type=int, default=8000, help="port of the web server; 0 takes any free one")
    asked = parser.parse_args().port
    try:
        port = free_port(asked)
    except (OSError, OverflowError) as error:
        print(f"Port {asked} cannot be used ({error}): choose another one with --port", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, smtp_server(Path(folder)) as smtp_port:
        return serve(port, {"FLASK_SMTP_HOST": HOST, "FLASK_SMTP_PORT": str(smtp_port), "FLASK_INBOX": folder})


def serve(port: int, settings: dict[str, str]) -> int:
    """Run gunicorn until it ends or a signal asks for the end; then let it finish its jobs."""
    config = Path(__file__).with_name("gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "--bind", f"{HOST}:{port}"]
    # In a process group of its own: Ctrl-C in a terminal goes to a whole group, and makes gunicorn stop without grace.
    with subprocess.Popen(command, env={**os.environ, **settings}, process_group=0) as gunicorn:
        try:
            return gunicorn.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("\nStopping: accepted jobs are finished, for 8 s at most", flush=True)
            gunicorn.terminate()
            return gunicorn.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was a server to stop
        sys.exit(130)
