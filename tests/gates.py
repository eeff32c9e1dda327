"""Where a job says that it is inside, and stands until the test lets it go; and the wait for what nobody announces."""

from __future__ import annotations

import threading
from collections.abc import Callable

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


def until(condition: Callable[[], object]) -> None:
    """Look again and again, for at most TIMEOUT seconds, whether a condition holds that nobody announces."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("what was waited for has not happened")
