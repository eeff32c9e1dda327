"""The one job that every contender performs, and the hands that the measurements hold it by.

It is a no-op unless told otherwise by a name, so that runners which write their arguments down can take part too.
"""

from __future__ import annotations

import threading
from time import perf_counter

PATIENCE = 60.0  # seconds after which a measurement is taken to hang

_entered = threading.Semaphore(0)
_gate = threading.Event()
_marked = threading.Lock()  # released by mark
_marked.acquire()
_moment = 0.0


def act(action: str = "", number: int = 0) -> None:
    """Do nothing, or what *action* names."""
    if action:
        ACTIONS[action]()


def hold() -> None:
    """Keep a worker busy, without using the processor, until ``release``."""
    _entered.release()
    _gate.wait(PATIENCE)


def mark() -> None:
    """Note when this job started, and let ``marked`` return."""
    global _moment
    _moment = perf_counter()
    _marked.release()


ACTIONS = {"hold": hold, "mark": mark}


def held(workers: int) -> None:
    """Wait until so many workers are being held."""
    for _ in range(workers):
        if not _entered.acquire(timeout=PATIENCE):
            raise TimeoutError("a worker did not come")


def release() -> None:
    """Let the held workers go."""
    _gate.set()


def close_gate() -> None:
    """Have the next ``hold`` wait."""
    _gate.clear()


def marked() -> float:
    """Wait for the job that marks, and return when it started, by ``perf_counter``."""
    if not _marked.acquire(timeout=PATIENCE):
        raise TimeoutError("the job that marks did not run")
    return _moment
