"""A server under test: start it, tell its app what to do, stop it, and see what it has left in the ledger."""

from __future__ import annotations

import http.client
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

from ports import HOST, free_port

SITE = Path(__file__).with_name("site")
PATIENCE = 20.0  # seconds for what must happen
GLANCE = 0.01  # seconds between two looks at what nothing announces: a port, a file, a process


@dataclass(frozen=True)
class Row:
    """One configuration of a server.

    Attributes:
        name: in the table.
        command: with ``{python}``, ``{bin}`` (its folder), ``{port}``, ``{stats}`` (another one) and ``{place}``.
        needs: modules, or paths of programs, without which it is left out and reported.
        environment: of the process.
        console: obeys its standard input instead of requests: "pipe", or "terminal" for an interactive shell.
        stop: the signal that stops it.
        signals: further signals that it knows, and whether each stops ("stop") or reloads ("reload") it.
        columns: further columns that make sense here.
        only: the columns that make sense here, if they are few.
        limits: columns in which the server itself fails, with or without us, and why.
        ready: a text that is written so many times once all of it is there.
        settles: seconds until it is ready for a signal after what it has just done, where it does not tell.
        counts: whether it tells at ``{stats}``, as uWSGI does, which of its threads have a request.
        looks: seconds between two looks of its own at whether its workers have ended.
        answers: the requests that it still answers when it has been told to stop: one that is "slow", and a "new" one.
        noise: what it writes about its own end now and then, with or without us; a regular expression.
        now_and_then: why it sometimes does not end, with or without us; a cell that fails is then judged anew.
        turns: statuses that it gives by turns, with or without us, when its workers get the signal, too.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    console: str = ""
    stop: int = signal.SIGTERM
    signals: dict[int, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    limits: dict[str, str] = field(default_factory=dict)
    ready: tuple[str, int] = ("", 0)
    settles: float = 0.0
    counts: bool = False
    looks: float = 0.0
    answers: tuple[str, ...] = ("slow",)
    noise: str = ""
    now_and_then: str = ""
    turns: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """The server's name."""
        return self.name.split()[0]


@dataclass(frozen=True)
class Ended:
    """How a server has ended.

    Attributes:
        status: of its first process, as subprocess gives it; None if it had to be killed.
        seconds: from the first signal to the end of its last process.
        done: how often each run was done, by its number.
        errors: what it wrote to standard output and error.
        orphans: processes that outlived the first one by more than a moment.
    """

    status: int | None
    seconds: float
    done: Counter[int]
    errors: str
    orphans: bool


class Server:
    """A server in a session of its own. As a context manager it leaves nothing behind."""

    def __init__(self, row: Row, place: Path, *, without: bool = False, deadline: float = 3.0) -> None:
        self.row = row
        self._site = place / "site"
        shutil.copytree(SITE, self._site, ignore=shutil.ignore_patterns("__pycache__"))
        self._ledger = place / "ledger"
        self._ledger.touch()
        self._errors = place / "errors"
        self.port, self._stats = free_port(), free_port()
        self._heard = 0
        self._signalled: float | None = None
        self._start(without=without, deadline=deadline)

    def _start(self, *, without: bool, deadline: float) -> None:
        row = self.row
        words = {
            "python": sys.executable,
            "bin": str(Path(sys.executable).parent),
            "port": str(self.port),
            "stats": str(self._stats),
        }
        environment = {
            **os.environ,
            **row.environment,
            "LEDGER": str(self._ledger),
            "DEADLINE": str(deadline),
            "PORT": str(self.port),
            "HOME": str(self._site),  # where gunicorn has its control socket
            "PYTHONPATH": os.pathsep.join((str(self._site), os.environ.get("PYTHONPATH", ""))),
            "DJANGO_SETTINGS_MODULE": "",
            **({"WITHOUT": "yes"} if without else {}),
        }
        self._input, theirs = pty.openpty() if row.console == "terminal" else os.pipe()[::-1]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [word.format(**words, place=self._site) for word in row.command],
                cwd=self._site,
                env=environment,
                stdin=theirs,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        os.close(theirs)

    def __enter__(self) -> Server:
        try:
            self._await_start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        os.close(self._input)

    def _await_start(self) -> None:
        if self.row.console == "terminal":
            os.write(self._input, b"from console import hear, note; note('heard', 0)\n")
        if self.row.console:
            self._await_lines("heard 0", 1)
            return
        for _ in looks(PATIENCE):
            assert self._process.poll() is None, f"ended with {self._process.returncode} at its start:\n{self.errors()}"
            with suppress(OSError, http.client.HTTPException):
                self.tell("look")
                break
        self.await_ready()

    def await_ready(self, starts: int = 1) -> None:
        """Wait until all of it is there, having started *starts* times."""
        text, times = self.row.ready
        for _ in looks(PATIENCE):
            if self.errors().count(text) >= times * starts:
                return
        raise AssertionError(f"did not start:\n{self.errors()}")

    def tell(self, command: str, **query: object) -> str:
        """Have the app obey, and return its answer."""
        path = f"{command}?{urlencode(query)}"
        if self.row.console:
            self._heard += 1
            line = f"{self._heard} {path}"
            os.write(self._input, (f"hear({line!r})\n" if self.row.console == "terminal" else f"{line}\n").encode())
            self._await_lines(f"heard {self._heard}", 1)
            return ""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", f"/{path}", headers={"Connection": "close"})
            with connection.sock.dup() as line:
                answer = connection.getresponse()
                text = answer.read().decode()
                line.recv(1)  # the end: a signal from here on does not meet a request that is still being closed
        finally:
            connection.close()
        if self.row.counts:
            self._await_no_request()
        assert answer.status == 200, f"{answer.status} {text[:300]}\n{self.errors()}"
        return text

    def _await_no_request(self) -> None:
        """Wait until no thread of its workers has a request: one that has been answered is still to be logged."""
        for _ in looks(PATIENCE):
            with suppress(OSError, ValueError):  # not there yet, or no more
                with socket.create_connection((HOST, self._stats), PATIENCE) as line, line.makefile() as told:
                    workers = json.load(told)["workers"]
                if not any(core["in_request"] for worker in workers for core in worker["cores"]):
                    return
            if self._signalled is not None:
                return
        raise AssertionError(f"still has a request:\n{self.errors()}")

    def tell_later(self, command: str, **query: object) -> Telling:
        """Have the app obey by a request of another thread."""
        return Telling(self, command, query)

    def await_done(self, n: int) -> None:
        """Wait until *n* runs are done."""
        self._await_lines("done", n)

    def await_hanging(self) -> None:
        """Wait until a job hangs."""
        self._await_lines("hangs", 1)

    def _await_lines(self, start: str, n: int) -> None:
        for _ in looks(PATIENCE):
            if sum(line.startswith(f"{start} ") for line in self._ledger.read_text().splitlines()) >= n:
                return
        raise AssertionError(f"{start} not there {n} times:\n{self._ledger.read_text()}\n{self.errors()}")

    def touch(self) -> None:
        """Change the app's source, as an editor does."""
        with (self._site / "work.py").open("a") as source:
            source.write("\n# changed\n")

    def send(self, number: int, *, group: bool = False, pid: int | None = None) -> None:
        """Send a signal to its first process, to all its processes, or to one of them."""
        if self._signalled is None:
            self._signalled = time.monotonic()
        for one in self._pids() if group else [pid or self._process.pid]:
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def hang_up(self) -> None:
        """End its standard input."""
        self._signalled = time.monotonic()
        if self.row.console == "terminal":
            os.write(self._input, b"\x04")
        else:
            os.close(self._input)
            self._input = os.open(os.devnull, os.O_RDONLY)

    def children(self) -> list[int]:
        """Return its other processes."""
        return [pid for pid in self._pids() if pid != self._process.pid]

    def errors(self) -> str:
        """Return what it has written by now."""
        return self._errors.read_text(errors="replace")

    def ended(self, timeout: float) -> Ended:
        """Wait until all its processes have ended, *timeout* seconds at most; what is left then is killed."""
        began = self._signalled if self._signalled is not None else time.monotonic()
        for _ in looks(timeout):
            if self._process.poll() is not None and not self._pids():
                break
        status = self._process.poll()
        seconds = time.monotonic() - began
        orphans = status is not None and bool(self._pids())
        done = Counter(
            int(line.split()[1]) for line in self._ledger.read_text().splitlines() if line.startswith("done ")
        )
        return Ended(status, seconds, done, self.errors(), orphans)

    def _pids(self) -> list[int]:
        """Return the processes of its session; none of them leaves it."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid and fields[0] not in "ZX":
                    found.append(int(stat.parent.name))
        return found


class Telling:
    """A request that is under way in a thread of its own."""

    def __init__(self, server: Server, command: str, query: dict[str, object]) -> None:
        self._accepted = False
        self._thread = threading.Thread(target=self._tell, args=(server, command, query))
        self._thread.start()

    def _tell(self, server: Server, command: str, query: dict[str, object]) -> None:
        with suppress(OSError, http.client.HTTPException, AssertionError):
            server.tell(command, **query)
            self._accepted = True

    def accepted(self) -> bool:
        """Wait for the answer and return whether it was a success."""
        self._thread.join()
        return self._accepted


def looks(timeout: float) -> Iterator[None]:
    """Look again and again, for *timeout* seconds, and once more at the end."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while time.monotonic() < deadline:
        yield
        pause.wait(GLANCE)
    yield
