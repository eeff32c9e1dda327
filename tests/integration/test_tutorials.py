"""The tutorials, followed to the letter: every file written, every command given, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import django
import pytest
from ports import free_port
from process import TIMEOUT, Process

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "tutorial"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)(, at its end)?(, before Django 6\.1)?\n")
SET_UP = ("python3 -m venv ", ". .venv/", "pip install ")  # what the environment of the tests has done already
PORTS = ("8000", "8025")


class Reader:
    """Somebody who follows a page, in a folder of their own, on ports that nobody else uses."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.ports = {port: str(free_port()) for port in PORTS}
        self.servers: dict[str, Process] = {}
        self.visits: list[list[str]] = []
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:randomly -p no:asyncio -p no:django",
            "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{self.ports['8000']}",
        }

    def follow(self, page: str) -> None:
        """Do what the page says."""
        for kind, text in BLOCK.findall((PAGES / page).read_text()):
            text = self.on_own_ports(text)
            if kind == "python":
                self.write(text)
            else:
                for line in text.splitlines():
                    self._give(line)

    def on_own_ports(self, text: str) -> str:
        """Return *text* with the ports of the page replaced."""
        return re.sub("|".join(PORTS), lambda port: self.ports[port[0]], text)

    def write(self, text: str) -> None:
        """Write the file that a block names."""
        match = FILE.match(text)
        assert match is not None, f"no name of a file: {text}"
        name, at_its_end, for_older = match.groups()
        if for_older and django.VERSION >= (6, 1):
            return
        file = self.folder / name
        file.write_text(file.read_text() + text if at_its_end else text)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Give a command and wait for its end."""
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _give(self, command: str) -> None:
        words = shlex.split(command)
        if command.startswith(SET_UP):
            return
        if words[0] == "curl":
            self.visits.append(words)
            self.visit(words)
        elif "aiosmtpd" in words:
            self._serve("mail", words, self.ports["8025"])
        elif "runserver" in words:
            self._serve("app", [*words, self.ports["8000"]], self.ports["8000"])
        elif words[0] in ("flask", "gunicorn"):
            self._serve("app", words, self.ports["8000"])
        else:
            done = self.shell(command)
            assert done.returncode == 0, done.stdout + done.stderr

    def _serve(self, name: str, words: list[str], port: str) -> None:
        if name in self.servers:
            self.servers.pop(name).__exit__(None, None, None)
        server = Process(*words, cwd=str(self.folder), chatty=True, **self.environment)
        self._stack.push(server)
        self.servers[name] = server
        deadline, pace = time.monotonic() + TIMEOUT, threading.Event()
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
            except OSError:
                assert time.monotonic() < deadline, f"{words} does not listen\n{server.errors()}"
                pace.wait(0.02)
            else:
                return

    def visit(self, words: list[str]) -> None:
        """Do what curl would, which not every machine has."""
        _, option, data, address = words
        assert option == "-d"
        name, _, value = data.partition("=")
        body = urllib.parse.urlencode({name: value}).encode()
        with urllib.request.urlopen(address, body, TIMEOUT) as answer:
            assert answer.status == 202
            assert b"on its way" in answer.read()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(tmp_path, stack)


def test_a_port_may_look_like_one_of_the_page(reader: Reader) -> None:
    """The port 18025 has another port of the page in it, which must not be replaced in its turn."""
    reader.ports.update({"8000": "18025", "8025": "28000"})

    assert reader.on_own_ports("8000 8025") == "18025 28000"


def test_the_script_packs(reader: Reader) -> None:
    """The plain script finishes what it has enqueued, and says what has failed."""
    for kind, text in BLOCK.findall((PAGES / "script.md").read_text()):
        if kind == "python" and FILE.match(text):
            reader.write(text)
    for letter in "ab":
        (reader.folder / f"{letter}.csv").write_text("1,2,3\n" * 1000)

    packed = reader.shell("python pack.py *.csv")
    later = reader.shell("rm *.gz; python later.py *.csv; ls")
    failed = reader.shell("python pack.py nowhere.csv")

    assert re.fullmatch(r"a.csv \d+ bytes\nb.csv \d+ bytes\n", packed.stdout)
    assert later.stdout.startswith("enqueued\n")
    assert {"a.csv.gz", "b.csv.gz"} <= set(later.stdout.split())
    assert "of __main__.pack: failed, attempt 1>: FileNotFoundError" in failed.stderr
    assert failed.returncode == 1


@pytest.mark.parametrize("page", ["flask.md", "django.md"])
def test_the_tutorial_delivers_a_mail(reader: Reader, page: str) -> None:
    """Followed line by line, a tutorial ends with a mail delivered, tests that pass and a server that serves."""
    reader.follow(page)
    reader.servers["mail"].wait_for("To: ada@example.org")  # from the development server

    visit = reader.visits[-1]
    others = [f"visitor{number}@example.org" for number in range(40)]
    with ThreadPoolExecutor(4) as visitors:  # of gunicorn
        list(
            visitors.map(reader.visit, ([word.replace("ada@example.org", other) for word in visit] for other in others))
        )
    reader.servers["app"].signal(signal.SIGTERM)

    assert reader.servers["app"].ended().status == 0
    reader.servers["mail"].signal(signal.SIGTERM)
    delivered = [line for line in reader.servers["mail"].ended().lines if line.startswith("To: visitor")]
    assert sorted(delivered) == sorted(f"To: {other}" for other in others)
