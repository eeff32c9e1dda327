"""What every test stands on: a runtime of its own, gates, and a look at what it leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import inproc_jobs
from inproc_jobs import signals

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


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Give the test a runtime that accepts work, and see that it leaves no thread and no receiver behind."""
    inproc_jobs.restart()
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
