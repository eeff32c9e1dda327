"""The order in which the engine takes its locks: no finalizer and no signal handler can invert it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from gates import Gate, until

import inproc_jobs
from inproc_jobs import Job, Retry, Run, _lifecycle, _run, _runtime, errors, signals

RLock = threading.RLock
TIMEOUT = 10.0  # seconds


class Book:
    """Which locks were taken inside of which others, and which an enqueue takes."""

    def __init__(self) -> None:
        self.nested: set[tuple[str, str]] = set()
        self.by_enqueues: set[str] = set()
        self.enqueues: set[int] = set()  # the threads that are in one
        self.held: dict[int, list[NotedLock]] = {}

    def enqueue(self, call: Callable[..., Run[Any]], *args: Any) -> Run[Any] | None:
        """Enqueue; what locks that takes is noted."""
        me = threading.get_ident()
        self.enqueues.add(me)
        try:
            with suppress(errors.RejectedError):
                return call(*args)
            return None
        finally:
            self.enqueues.discard(me)

    def want(self, lock: NotedLock) -> None:
        me = threading.get_ident()
        held = self.held.setdefault(me, [])
        if lock not in held:
            self.nested.update((other.name, lock.name) for other in held)
        if me in self.enqueues:
            self.by_enqueues.add(lock.name)

    def got(self, lock: NotedLock, times: int = 1) -> None:
        self.held.setdefault(threading.get_ident(), []).extend([lock] * times)


class NotedLock:
    """A reentrant lock that notes who takes it."""

    def __init__(self, book: Book) -> None:
        caller = sys._getframe(1)
        while caller.f_code.co_filename == __file__:
            assert caller.f_back is not None
            caller = caller.f_back
        self.name = f"{caller.f_globals['__name__']}:{caller.f_lineno}"
        self._book = book
        self._lock = RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._book.want(self)
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._book.got(self)
        return taken

    __enter__ = acquire

    def release(self) -> None:
        self._book.held[threading.get_ident()].remove(self)
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        self.release()

    # What a condition asks of a reentrant lock.

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _release_save(self) -> tuple[int, Any]:
        held = self._book.held[threading.get_ident()]
        times = held.count(self)
        held[:] = [one for one in held if one is not self]
        return times, self._lock._release_save()  # type: ignore[attr-defined]

    def _acquire_restore(self, state: tuple[int, Any]) -> None:
        self._book.want(self)
        self._lock._acquire_restore(state[1])  # type: ignore[attr-defined]
        self._book.got(self, state[0])


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    """Have another runtime, whose locks are noted, as those of the modules are."""
    book = Book()

    def make() -> Any:
        return NotedLock(book) if sys._getframe(1).f_globals["__name__"].startswith("inproc_jobs.") else RLock()

    monkeypatch.setattr(threading, "RLock", make)
    for module, name in ((_run, "_waiters_lock"), (_lifecycle, "_watch"), (_runtime._process, "lock")):
        monkeypatch.setattr(module, name, NotedLock(book))
    restore = _runtime.install(_runtime.Runtime(_runtime.settings()))
    try:
        yield book
    finally:
        inproc_jobs.shutdown(TIMEOUT)
        restore()


@pytest.mark.parametrize("announced", [False, True], ids=["no receiver", "a receiver"])
def test_no_lock_that_an_enqueue_takes_is_taken_inside_of_another_one(
    announced: bool, book: Book, make_gate: Callable[[], Gate]
):
    """The collector may call a finalizer, and that enqueue, wherever a lock is held.

    Two locks of which one is ever taken inside of the other lock two threads up then: one that holds the inner and
    comes to a finalizer, which wants the outer, and one that holds the outer and wants the inner.
    """
    gate, other_gate = make_gate(), make_gate()

    class Locked(Job, workers=2, max_queue=2, block_timeout=0.01, name="locked"):
        def perform(self, wait: Callable[[], object] = int) -> None:
            wait()

    class Again(Job, retry=Retry(attempts=3, backoff=0.001), timeout=5, interruptible=True, name="locked again"):
        def perform(self) -> None:
            raise ValueError("again")

    class Inside(Job, name="locked inside"):
        def perform(self) -> None:
            enqueued(Again.perform_async).wait()

    def enqueued(call: Callable[..., Run[Any]], *args: Any) -> Run[Any]:
        run = book.enqueue(call, *args)
        assert run is not None
        return run

    def heard(sender: object, **data: object) -> None:
        pass

    if announced:
        signals.job_enqueued.connect(heard)
    try:
        for wait in (gate, gate):
            enqueued(Locked.perform_async, wait)
        gate.entered(2)
        drain = threading.Thread(target=inproc_jobs.drain, args=(TIMEOUT,))
        drain.start()
        until(lambda: _runtime.runtime().threads.watchers)
        for priority in (0, 1):
            enqueued(Locked.using(priority=priority).perform_async)
        for policy in ("raise", "block"):
            assert book.enqueue(Locked.using(when_full=policy).perform_async) is None
        for policy in ("discard_oldest", "caller_runs"):
            enqueued(Locked.using(when_full=policy).perform_async)
        run = enqueued(Inside.perform_async)
        for delay in (0, 600):
            enqueued(Locked.perform_in, delay).cancel()
        inproc_jobs.configure(max_threads=7)
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        enqueued(Locked.using(when_full="block", block_timeout=TIMEOUT).perform_async)
        opener.join()
        drain.join()
        assert run.done()
        enqueued(Locked.perform_in, 600)
        enqueued(Locked.perform_async, other_gate)
        inproc_jobs.stats()
        inproc_jobs.shutdown(0.1)
        assert book.enqueue(Locked.perform_async) is None
        inproc_jobs.restart()
        other_gate.open()
        enqueued(Locked.perform_async).wait(TIMEOUT)
    finally:
        signals.job_enqueued.disconnect(heard)

    assert book.by_enqueues
    assert {pair for pair in book.nested if book.by_enqueues.issuperset(pair)} == set()
