"""What the app under test can be told, the same on every server. Each finished run leaves one line in the ledger."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping
from multiprocessing import get_context

_ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(*words: object) -> None:
    """Write a line at once and in one piece, whatever process or thread this is."""
    os.write(_ledger, (" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


COMMANDS: dict[str, Callable[..., None]] = {"look": lambda: None, "pause": lambda seconds: pause(float(seconds))}

if "WITHOUT" not in os.environ:
    from inproc_jobs import Job, configure

    configure(shutdown_timeout=float(os.environ["DEADLINE"]))

    class Slow(Job, workers=2):
        def perform(self, number: int, seconds: float) -> None:
            pause(seconds)
            note("done", number)

    class Chain(Job, workers=1):
        """Each link enqueues the next one before it is done."""

        def perform(self, number: int, seconds: float, left: int) -> None:
            pause(seconds)
            if left:
                Chain.perform_async(number + 1, seconds, left - 1)
            note("done", number)

    class Hung(Job, workers=1):
        """Waits as good as for ever; *native* without giving the interpreter's lock back."""

        def perform(self, number: int, after: float, native: bool, seconds: float) -> None:
            pause(after)
            note("hangs", number)
            if native:
                ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))
            else:
                threading.Semaphore(0).acquire(timeout=seconds)
            note("done", number)

    def hang(first: str, after: str, native: str, seconds: str = "120") -> None:
        Hung.perform_async(int(first), float(after), native == "yes", float(seconds))

    class Forks(Job, workers=1):
        def perform(self, number: int) -> None:
            fork(number)
            note("done", number + 1)

    def enqueue(first: str, n: str, seconds: str) -> None:
        for number in range(int(first), int(first) + int(n)):
            Slow.perform_async(number, float(seconds))

    def late(first: str, n: str, seconds: str, after: str) -> None:
        """Enqueue at the end of a request that takes a while."""
        pause(float(after))
        enqueue(first, n, seconds)

    def in_child(number: int) -> None:
        assert Slow.perform_async(number, 0.0).wait(10)

    def fork(number: int) -> None:
        """Have a child of multiprocessing do one run, beside those of this process."""
        child = get_context("fork").Process(target=in_child, args=(number,))
        child.start()
        child.join(10)
        assert child.exitcode == 0, child.exitcode

    COMMANDS |= {
        "enqueue": enqueue,
        "late": late,
        "chain": lambda first, n, seconds: Chain.perform_async(int(first), float(seconds), int(n) - 1),
        "hang": hang,
        "fork": lambda first: fork(int(first)),
        "fork_in_job": lambda first: Forks.perform_async(int(first)),
    }


def obey(command: str, query: Mapping[str, str]) -> str:
    """Do what is asked for and return the number of this process."""
    COMMANDS[command](**query)
    return str(os.getpid())
