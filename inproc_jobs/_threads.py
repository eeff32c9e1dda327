"""The threads of the process: one bounded executor, whose threads take whatever queue is ready and work on it.

``_queue`` puts itself on the ready list, ``_runtime`` makes the one object of the process, ``_run`` asks here before a
thread waits.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any, Protocol

from . import _clock, _report
from ._mover import mover
from ._run import acting_thread
from ._spawn import gravity, hear, join
from ._timer import Timer
from .errors import DeadlockError

LINGER = 10.0  # seconds a thread waits for work before it ends
ARRIVAL = 1.0  # seconds within which a thread that was asked for is expected

NAME = "inproc_jobs-worker"

_logger = logging.getLogger(__name__)

_farewells: tuple[Callable[[], object], ...] = ()


def before_thread_ends(call: Callable[[], object]) -> None:
    """Have *call* called in each thread that has worked, before it ends: for what it may have left open."""
    global _farewells
    if call not in _farewells:
        _farewells = (*_farewells, call)


class Work(Protocol):
    """What stands on the ready list: the permit of a job queue to have one more worker."""

    def employ(self, permit: list[Any]) -> Any:
        """Return a worker of this thread, whose ``work(others_wait)`` performs runs with the permit in *permit*."""

    def dismiss(self, worker: Any) -> None:
        """Let go of a worker that is not at work."""

    def go_home(self) -> None:
        """Take the permit back: no thread comes for it."""

    def threads_for(self, run: Any) -> set[int] | None:
        """Return the threads of which one must go on before *run* can; None if a new worker might perform it."""


class Threads:
    """Threads that take the next ready queue, first come, first served.

    Guarantees: at most ``max_threads`` of them; what is ready is taken as soon as a thread is free, and a thread is
    started for it if there may be one more; a thread that dies gives back what it held and is replaced. ``call`` takes
    no lock of the standard library's and starts nothing itself, so an enqueue may come from a signal handler.
    """

    def __init__(self, timer: Timer, max_threads: int) -> None:
        self.max_threads: int = max_threads
        # None asks the threads to end, if they are to. Looked up here: gevent may have put its own in place meanwhile.
        self.ready: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        # Told when a queue may have gone quiet, if watched.
        self.changed: threading.Condition = threading.Condition(timer.lock)
        self.watchers: int = 0
        self.watches: dict[Any, Any] = {}  # by run: the eye on its attempt, where it has a timeout
        self._timer = timer
        self._own: set[int] = set()  # identifiers of the threads started here
        self._serving: dict[int, threading.Thread] = {}  # by identifier; each thread writes its own entry
        self._busy: dict[int, Work] = {}  # those of them that are at work
        self._starting: set[object] = set()  # a ticket for each thread asked for that has not come yet
        # What the last queue on the ready list was put there by, until a thread takes one. So who puts a queue there
        # before its run is in knows afterwards whether a thread is still to look.
        self.called: object = None
        self.asked: bool = False  # whether the timer is about to start threads
        self._stopped = False
        self._submitting = threading.RLock()  # guards _executor and _detached, and is held while a thread starts
        self._executor: ThreadPoolExecutor | None = None
        self._detached = False  # whether threads are started without the executor
        self._lock = threading.RLock()  # guards _waiting
        self._waiting: dict[int, Any] = {}  # by thread: the run it waits for without a limit

    def call(self, hand_over: Callable[[], object]) -> None:
        """Put a queue on the ready list by *hand_over* and see that a thread comes for it.

        Does nothing where *hand_over* raises IndexError: the queue has no permit left, so enough workers.
        """
        self.called = object()
        try:
            hand_over()
        except IndexError:
            self.called = None
            return
        self.look()

    def look(self) -> None:
        """See that a thread comes for what is ready."""
        if self.ready.qsize() + len(self._busy) > len(self._serving):
            self.ask()

    def ask(self) -> None:
        """See that the timer starts threads if there should be more."""
        # Whoever changes one of the numbers looks at all of them afterwards, so of two racing threads one sees both
        # changes, and no lock is needed.
        if self.asked:
            self._timer.revive()
        elif not self._stopped and self._shortage() > 0:
            asked = False
            try:
                self.asked = True
                self._timer.call_soon(self._start_threads)
                asked = True
            finally:
                self.asked = self.asked and asked  # unless a MemoryError or a signal handler has got in between
        elif self._starting and not self._stopped:
            self._timer.revive()  # which looks for those that have not come; there may have been no thread for it

    def _shortage(self) -> int:
        """How many threads more there should be."""
        alive = len(self._serving) + len(self._starting)
        return min(self.ready.qsize() + len(self._busy), self.max_threads) - alive

    def _start_threads(self, _: None) -> None:
        # Only the timer's thread submits. It is a daemon and the executor's threads inherit that, so that no exit of
        # the interpreter waits for them.
        self.asked = False
        while not self._stopped and self._shortage() > 0:
            ticket = object()
            # First, for a ticket that nobody expects would count as a thread for ever.
            self._timer.insert(_clock.now() + ARRIVAL, self._expect, ticket)
            if self._stopped:  # in between, and the timer has perhaps been cleared before this came
                self._timer.withdraw(ticket)
                return
            self._starting.add(ticket)
            if not self._submit(ticket) and not self._start_thread(ticket):
                return

    def _submit(self, ticket: object) -> bool:
        with self._submitting:
            if self._detached or self._stopped:  # a stop drops the executor only once
                return False
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.max_threads, NAME)
            try:
                self._executor.submit(self._live, ticket)
            except RuntimeError:  # no more to be had, or an interpreter that is exiting has closed all executors
                return False
        return True

    def detach(self) -> list[threading.Thread]:
        """Use the executor no more, for the interpreter's exit waits for an executor's threads; return those there are.

        Waits for a start that is under way: only after it is the thread on the list of those that are joined.
        """
        with self._submitting:
            self._detached = True
        self._drop_executor()
        return [thread for thread in threading.enumerate() if thread.name.startswith(NAME)]

    def resize(self, max_threads: int) -> None:
        """Have another limit, for what is ready already, too."""
        if max_threads != self.max_threads:
            self.max_threads = max_threads
            self._drop_executor()  # its own limit cannot be changed
            for _ in range(len(self._own) - max_threads):
                self.ready.put(None)  # for an idle one; those at work look when they are done
            self.ask()

    def _start_thread(self, ticket: object) -> bool:
        try:
            threading.Thread(target=self._live, args=(ticket,), name=NAME, daemon=True).start()
            return True
        except RuntimeError as error:
            # Nothing is lost: what is ready stays so, such workers as there are take it, and _expect asks again.
            _report.log(_logger, gravity(error), "no thread for a worker: %s", _report.describe(error))
        if not self._serving:
            self.serve_here()
        return False

    def serve_here(self) -> None:
        """Work on what is ready in this thread, because no other can be had."""
        ticket = object()
        self._starting.add(ticket)
        self._serve(ticket, linger=0.0)

    def _expect(self, ticket: object) -> None:
        """Ask again, and another executor, for the thread of *ticket* if it has not come by now."""
        if ticket not in self._starting:
            return
        self._starting.discard(ticket)
        self._drop_executor()
        self.ask()

    def _drop_executor(self) -> None:
        with self._submitting:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None

    def _live(self, ticket: object) -> None:
        """Serve, as a thread of its own."""
        hear()
        me = threading.get_ident()
        self._own.add(me)
        try:
            self._serve(ticket)
        finally:
            for farewell in _farewells:
                _report.shielded(_logger, lambda: "what is called at a thread's end", farewell)
            self._own.discard(me)

    def _serve(self, ticket: object, *, linger: float = LINGER) -> None:
        """Take what is ready and work on it, until nothing was for some seconds."""
        me = threading.get_ident()
        hand: list[Any] = []
        take = mover(self.ready.get, hand.append, True, linger)  # noqa: FBT003 - block, and for how long
        # The last worker is kept for when its queue is ready again; weakly, so that its job class can be collected.
        kept: list[Callable[[], Any]] = [_nobody]
        try:
            try:
                self._serving[me] = threading.current_thread()
                if ticket in self._starting:
                    self._starting.discard(ticket)
                    self._take_turns(me, take, hand, kept)
            finally:
                self._leave(me, hand, kept[0]())
        finally:
            self._leave(me, hand, kept[0]())  # once more, for an error may have struck the first

    def _take_turns(self, me: int, take: Callable[[], object], hand: list[Any], kept: list[Callable[[], Any]]) -> None:
        busy, serving, ready = self._busy, self._serving, self.ready.qsize
        while not self._should_end():
            try:
                take()
            except Empty:
                return
            self.called = None
            work = hand[0]
            if work is None:
                hand.clear()
                continue
            busy[me] = work
            if (others := ready()) and others + len(busy) > len(serving):
                self.ask()
            worker = kept[0]()
            if worker is None or worker.queue is not work:
                if worker is not None:
                    worker.queue.dismiss(worker)
                worker = work.employ(hand)
                kept[0] = weakref.ref(worker)
            worker.work(ready)
            del worker, work, busy[me]
        if self._stopped:
            self.ready.put(None)  # for the next one

    def _should_end(self) -> bool:
        if self._stopped or len(self._own) <= self.max_threads:
            return self._stopped
        # Not counted are those that have been late, and those that take their leave: neither of them works.
        return len(self._own & self._serving.keys()) > self.max_threads

    def _leave(self, me: int, hand: list[Any], worker: Any) -> None:
        if hand:  # it died before it could work on what it took
            mover(hand.pop, self.ready.put)()
        if worker is not None:
            worker.queue.dismiss(worker)
        self._serving.pop(me, None)
        if self._busy.pop(me, None) is not None:
            error = sys.exception()
            text = None if error is None else _report.trace(error)
            _report.log(_logger, logging.ERROR, "a worker's thread died and is replaced", text=text)
        self.ask()
        if not self._serving and not self._starting:
            self._drop_executor()

    def stop(self, deadline: float) -> None:
        """Have all threads end, and wait for the idle ones until *deadline* (monotonic)."""
        self._stopped = True
        self._clear_ready()
        idle = [thread for ident, thread in list(self._serving.items()) if ident not in self._busy]
        if idle:
            self.ready.put(None)
        self._drop_executor()
        for thread in idle:
            join(thread, deadline - _clock.now())

    def resume(self) -> None:
        """Start threads again when they are needed; those that were at work at the stop and still are go on."""
        self._clear_ready()
        self._starting.clear()
        self._stopped = self.asked = False

    def _clear_ready(self) -> None:
        """Send home what is ready; after a shutdown nothing waits any more."""
        with suppress(Empty):
            while True:
                work = self.ready.get_nowait()
                self.called = None
                if work is not None:
                    work.go_home()

    def own_me(self) -> bool:
        """Return whether the thread that asks is one of them, and nobody else's."""
        return threading.get_ident() in self._own

    def alive(self) -> list[threading.Thread]:
        """Return the threads that live."""
        return list(self._serving.values())

    def at_work(self) -> bool:
        """Return whether any of them is at work."""
        return bool(self._busy)

    def tell(self) -> None:
        """Wake whoever waits for the process to go quiet."""
        if self.watchers:
            with self.changed:
                self.changed.notify_all()

    @contextmanager
    def waiting(self, run: Any, seconds: float | None) -> Iterator[None]:
        """Note that this thread waits for *run*, without a limit if *seconds* is None.

        Raises:
            DeadlockError: no thread could then ever perform it.
        """
        me = acting_thread()
        with self._lock:
            self.check_wait(run)
            if seconds is None:
                self._waiting[me] = run
        try:
            yield
        finally:
            self._waiting.pop(me, None)

    def check_wait(self, run: Any) -> None:
        """Raise DeadlockError if *run* could only go on after this thread has."""
        if self.depends_on_me(run._queue, run):
            raise DeadlockError(
                f"{run!r} can only go on when the job that waits for it here is over: give the job class more workers,"
                " raise max_threads, or do not wait inside a job"
            )

    def depends_on_me(self, work: Work, run: Any) -> bool:
        """Return whether all threads that could perform *run* wait, in the end, for this one."""
        me = acting_thread()
        seen: set[int] = {me}
        left = [(work, run)]
        met_me = False
        while left:
            work, run = left.pop()
            threads = work.threads_for(run)
            if threads is None:
                if len(self._busy) < self.max_threads:
                    return False
                threads = set(self._busy)
            met_me = met_me or me in threads
            for thread in threads - seen:
                seen.add(thread)
                awaited = self._waiting.get(thread)
                if awaited is None:
                    return False
                left.append((awaited._queue, awaited))
        return met_me


def _nobody() -> None:
    return None
