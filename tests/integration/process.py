"""Start a script in a process of its own, signal it at the right moment, and judge how it ended."""

from __future__ import annotations

import os
import queue
import re
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

TIMEOUT = 20.0  # seconds a test waits for what must happen
GRACE = 1.0  # seconds past its deadline that a stop may take, whatever a job does
LOAD = 0.7  # seconds that a busy machine may add to what is measured from outside
LOOK = 0.05  # seconds between two looks at what an end takes so long for
ASLEEP = 0.05  # seconds without a step that tell a thread that blocks from one that asks for the interpreter's lock

# What every script begins with. Jobs write with os.write: a line is out once it is written, and never torn.
HEAD = """
import os, signal, sys, threading
import inproc_jobs
from inproc_jobs import Discard, Job, Retry, configure, job

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def pause(seconds):
    threading.Event().wait(seconds)

class Slow(Job, workers=2):
    def perform(self, number, seconds=0.05):
        pause(seconds)
        say("done", number)
"""


@dataclass(frozen=True)
class Ended:
    """How a process has ended.

    Attributes:
        process: the process.
        status: as subprocess gives it; minus the number of the signal that it died of.
        lines: of its standard output, all of them.
        at: when it ended, on the monotonic clock that all processes share.
        seconds: from the last signal sent, or the last line awaited, or the start, to the end.
    """

    process: Process
    status: int
    lines: list[str]
    at: float
    seconds: float

    @property
    def errors(self) -> str:
        """Its standard error."""
        return self.process.errors()

    def numbers(self, word: str = "done") -> list[int]:
        """Return the numbers of the lines ``word number``, sorted."""
        return sorted(int(line.split()[1]) for line in self.lines if re.fullmatch(rf"{word} \d+", line))


class Process:
    """A process under test. As a context manager it leaves nothing behind, whatever the test does.

    A test that does not look at its standard error expects it to be empty; *chatty* are servers, which log there.
    """

    started: ClassVar[list[Process]] = []  # those that have not been judged by ``unheard`` yet

    def __init__(
        self,
        *command: str,
        cwd: str | None = None,
        pass_fds: tuple[int, ...] = (),
        chatty: bool = False,
        **environment: str,
    ) -> None:
        self.started.append(self)
        self._command = command
        self._heard = chatty
        self._said = ""  # on standard error, once that is closed
        self._errors = tempfile.TemporaryFile()
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            pass_fds=pass_fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **environment},
            start_new_session=True,
        )
        self._mark = time.monotonic()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._arrived.put(line.decode().rstrip("\n"))
        self._arrived.put(None)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # with every child that a test has left
        except ProcessLookupError:
            pass
        self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        self._said = self._read_errors()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def errors(self) -> str:
        """Return what is on standard error by now."""
        self._heard = True
        return self._read_errors()

    def _read_errors(self) -> str:
        if self._errors.closed:
            return self._said
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace")

    @classmethod
    def unheard(cls) -> list[str]:
        """Return what those that have ended since the last call said on standard error, and no test has looked at."""
        ended = [one for one in cls.started if one._errors.closed]
        cls.started[:] = [one for one in cls.started if not one._errors.closed]
        return [f"{one._command}: {one._said}" for one in ended if one._said and not one._heard]

    def wait_for(self, line: str) -> None:
        """Wait until the process has written *line* (a regular expression that matches all of it)."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                arrived = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                arrived = None
            assert arrived is not None, f"never wrote {line!r}, but {self._lines}\n{self._read_errors()}"
            self._lines.append(arrived)
            if re.fullmatch(line, arrived):
                self._mark = time.monotonic()
                return

    def settle(self) -> None:
        """Wait until its main thread sleeps, or has ended."""
        settle(self.pid)

    def signal(self, number: int) -> None:
        """Send it a signal; the seconds of its stop count from the last one sent."""
        self._mark = time.monotonic()
        self._process.send_signal(number)

    def close_input(self) -> None:
        """Close its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def ended(self, timeout: float = TIMEOUT) -> Ended:
        """Wait until the process has ended and all it wrote has arrived, *timeout* seconds for its end at most."""
        deadline = time.monotonic() + timeout
        if self._process.returncode is None:
            self._watch(deadline)
        try:
            status = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end: {self._lines}\n{self._stacks()}") from None
        at = time.monotonic()
        if at - self._mark > LOOK:
            print(f"{self.pid} has ended after {at - self._mark:.3f} s")
        self._reader.join(TIMEOUT)
        assert not self._reader.is_alive(), "a child still holds the standard output"
        while (line := self._arrived.get(timeout=TIMEOUT)) is not None:
            self._lines.append(line)
        return Ended(self, status, self._lines, at, at - self._mark)

    def _watch(self, deadline: float) -> None:
        """Wait for its end until *deadline* (monotonic), on Linux: Popen.wait sleeps up to 50 ms between two looks.

        Tells meanwhile what it and this machine do; pytest shows it with a test that fails, for a bound may not hold.
        """
        while sys.platform == "linux" and (now := time.monotonic()) < deadline:
            if _ends(self.pid, min(LOOK, deadline - now)):
                return
            print(f"{self.pid} after {time.monotonic() - self._mark:.3f} s: {_threads(self.pid)}; {_machine()}")

    def _stacks(self) -> str:
        """End it and its children, each after it has said where its threads are, and return what is on standard error."""
        for pid in (self.pid, *_others_of_group(self.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSEGV)  # which faulthandler catches, without the interpreter's lock
                _ends(pid, TIMEOUT)  # or two would write at once
        return self.errors()


def settle(pid: int) -> None:
    """Wait until the main thread of a process sleeps, or has ended.

    No line of its can say that it blocks now. One that waits for the interpreter's lock asks for it every 5 ms.
    """
    deadline = time.monotonic() + TIMEOUT
    before = None
    while before is None or _steps(pid) != before:
        assert time.monotonic() < deadline, f"the main thread of {pid} never sleeps"
        before = _steps(pid)
        threading.Event().wait(ASLEEP)


def _steps(pid: int) -> list[str] | None:
    """Return how often its main thread has been put to sleep, or None while it is awake; always [] but on Linux."""
    if sys.platform != "linux":
        return []
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    asleep = re.search(r"^State:\s+[SZ]", status, re.MULTILINE)
    return re.findall(r"ctxt_switches:\s+(\d+)", status) if asleep else None


def _ends(pid: int, timeout: float) -> bool:
    """Wait, on Linux, *timeout* seconds at most for a process's end; return whether it is there."""
    if sys.platform != "linux":
        return False
    watch = os.pidfd_open(pid)
    try:
        return bool(select.select([watch], [], [], timeout)[0])
    finally:
        os.close(watch)


def _threads(pid: int) -> str:
    """Return for each thread of a process its state, its system call, and its ms on a core and in line for one, so far."""
    found = []
    for thread in sorted(Path("/proc").glob(f"{pid}/task/*"), key=lambda path: int(path.name)):
        with suppress(OSError):  # it has just ended, or the kernel does not tell
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            call = (thread / "syscall").read_text().split()[0]
            ran, waited = (int(ns) // 1_000_000 for ns in (thread / "schedstat").read_text().split()[:2])
            found.append(f"{state} in {call} ({ran}, {waited})")
    return ", ".join(found)


def _machine() -> str:
    """Return the machine's load, and the seconds for which its host has kept it waiting, in all."""
    stolen = int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    return f"load {Path('/proc/loadavg').read_text().split()[0]}, {stolen} s stolen"


def _others_of_group(leader: int) -> list[int]:
    """Return the other processes of a process group; none but on Linux."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if sys.platform == "linux" else ())):
        with suppress(ProcessLookupError):
            if pid != leader and os.getpgid(pid) == leader:
                found.append(pid)
    return found


def start(script: str, *, head: str = HEAD, **environment: str) -> Process:
    """Start a plain script, its text indented as the test that holds it."""
    return Process(sys.executable, "-c", head + textwrap.dedent(script), **environment)


def run(script: str, *, head: str = HEAD, timeout: float = TIMEOUT, **environment: str) -> Ended:
    """Start a plain script and wait for its end."""
    with start(script, head=head, **environment) as process:
        return process.ended(timeout)


def discarded(errors: str) -> list[str]:
    """Return the ids of the runs that standard error names as discarded because of the shutdown."""
    return re.findall(r"<Run (\S+) of \S+: discarded[^>]*>: shutdown", errors)
