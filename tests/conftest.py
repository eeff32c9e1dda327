"""What every test stands on: a runtime of its own, gates, and a look at what it leaves behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

import inproc_jobs
from inproc_jobs import _carriers, _commit, _threads, signals

TIMEOUT = 10.0  # seconds a test waits for what must happen


class Gate:
    """Lets a job say that it is inside, and holds it there until the test lets it go."""

    def __init__(self) -> None:
        self._inside = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> None:
        """Stand in the gate; what a job calls."""
        self._inside.release()
        assert self._open.wait(TIMEOUT), "nobody opened the gate"

    def entered(self, times: int = 1) -> None:
        """Wait until so many have come."""
        for _ in range(times):
            assert self._inside.acquire(timeout=TIMEOUT), "nobody came to the gate"

    def open(self) -> None:
        """Let all pass, now and later."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def descriptors() -> dict[str, str]:
    """Return the open descriptors of this process and what each is."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that has listed them
            found[name] = os.readlink(f"/dev/fd/{name}")
    return found


def hooks() -> list[object]:
    """Return what the interpreter calls, and what the package calls, at certain moments."""
    return [
        sys.excepthook,
        threading.excepthook,
        sys.unraisablehook,
        *(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)),
        _carriers.carriers,
        _threads._farewells,
        _commit._defer,
    ]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Give the test a runtime that accepts work, and see that it leaves nothing behind.

    No thread, descriptor, hook, receiver or child process.
    """
    inproc_jobs.restart()
    before = descriptors(), hooks()
    threads_before = set(threading.enumerate())
    receivers_before = {name: dict(getattr(signals, name).receivers) for name in signals.__all__}

    yield

    inproc_jobs.shutdown(timeout=TIMEOUT)
    for thread in set(threading.enumerate()) - threads_before:
        if thread.ident is not None:  # else it is being started, by what has just been told to end
            thread.join(TIMEOUT)
            assert not thread.is_alive(), f"the test has left {thread.name} behind"
    inproc_jobs.restart()
    receivers_after = {name: dict(getattr(signals, name).receivers) for name in signals.__all__}
    assert receivers_after == receivers_before, "the test has left a receiver connected"
    assert hooks() == before[1], "the test has left a hook behind"
    if descriptors().keys() - before[0].keys():
        gc.collect()  # what hangs in a cycle is the collector's to close
    left = {number: what for number, what in descriptors().items() if number not in before[0]}
    assert not left, f"the test has left descriptors open: {left}"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
