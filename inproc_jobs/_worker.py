"""A worker: a thread at work on one queue. The only code that calls ``perform``."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from typing import Any

from . import _carriers, _clock, _report, signals
from ._mover import mover
from ._retry import Discard, Retry
from ._run import CANCELLED, DISCARDED, FAILED, RUNNING, SUCCEEDED, Run, current, hands, root_task
from ._stats import Tally
from .errors import RunCancelledError, RunTimeoutError, ShutdownError
from .signals import job_started

FAIR_SHARE = 0.02  # seconds a worker stays at its queue from when it sees that others wait for a thread

_logger = logging.getLogger(__name__)


class Worker:
    """A thread at work on one queue: performs run after run and keeps the count.

    Guarantees: each run it takes is performed once or given back; nothing that ``perform`` raises gets past it; each
    attempt runs in a context of its own.

    Attributes:
        queue: the job queue.
        call: performs a run, a coroutine to its end.
        thread: identifier of the thread.
        permit: holds the queue's permit to be at work; emptied when a run overruns, which gives the permit back.
        hand: holds the run it has taken.
        levels: those of the queue's that it takes runs from.
        take: moves the next run into the hand; raises IndexError where none waits.
        tally: its counts.
    """

    __slots__ = (
        "__weakref__",
        "_fresh",
        "_outer",
        "_raises",
        "call",
        "hand",
        "levels",
        "permit",
        "queue",
        "take",
        "tally",
        "thread",
    )

    def __init__(self, queue: Any, permit: list[Any], *, raises: bool = False) -> None:
        self.queue: Any = queue
        definition = queue.definition
        self.call: Callable[[Run[Any]], Any] = _awaiting(definition.call) if definition.awaited else definition.call
        self._raises = raises  # whether the error of a run comes out of perform, and none is retried
        self.thread: int = threading.get_ident()
        self.permit: list[Any] = permit
        self.hand: list[Run[Any]] = []
        self.extend(queue.levels)
        self._fresh: list[Context] = [Context()]  # for the first run after a rest, which has no time to wait for it
        self.tally: Tally = queue.new_tally()
        self._outer = hands.get(self.thread)  # of a job that performs another one inside itself
        hands[self.thread] = self.hand

    def extend(self, levels: tuple[deque[Run[Any]], ...]) -> None:
        """Take runs from *levels* from now on, of which the first that has one is next."""
        moves = [(level, mover(level.popleft, self.hand.append)) for level in levels]
        self.take: Callable[[], object] = moves[0][1] if len(moves) == 1 else partial(_take_first, moves)
        self.levels: tuple[deque[Run[Any]], ...] = levels

    def leave(self) -> None:
        """Let go of the thread."""
        if self._outer is None:
            hands.pop(self.thread, None)
        else:
            hands[self.thread] = self._outer

    def work(self, others_wait: Callable[[], int]) -> None:
        """Perform run after run, until none waits or the fair share is used up while others wait.

        Takes no lock, unless a producer is blocked.
        """
        queue, hand, permit = self.queue, self.hand, self.permit
        share_deadline = 0.0
        try:
            while permit:
                if self.levels is not queue.levels:
                    self.extend(queue.levels)
                try:
                    self.take()
                except IndexError:
                    self._fresh = self._fresh or [Context()]
                    return
                if queue.blocked:
                    queue.tell_blocked()
                self.perform(hand[0])
                hand.clear()
                if others_wait():
                    share_deadline = share_deadline or monotonic() + FAIR_SHARE
                    if monotonic() > share_deadline:
                        return
        finally:
            queue.retire(self)

    def perform(self, run: Run[Any]) -> None:
        """Make one attempt at *run*, in a context of its own."""
        # One frame from here to the call, and few objects of others: after a rest each is a miss of the processor's
        # caches, and an idle worker's first run is late by it.
        plain = run._options.plain
        captured, fresh = run._context, self._fresh
        context = captured.copy() if captured is not None else fresh.pop() if fresh else Context()
        if (run._stop is not None or not plain) and context.run(self._ends_unstarted, run):
            return
        run._attempt += 1
        started = run._started = monotonic()
        run._state = RUNNING
        if not hasattr(run, "_open"):  # a shutdown has discarded it since it was taken
            return
        try:
            if job_started.receivers:
                context.run(signals.emit, job_started, self.queue.definition.job, run=run)
            value = context.run(self.call if plain and run._carried is None else self._call_with_care, run)
        except BaseException as error:
            self.tally.time(started - run._ready, monotonic() - started)
            context.run(self._conclude_failed, run, error)
        else:
            self.tally.time(started - run._ready, monotonic() - started)
            context.run(run._close, SUCCEEDED, value, self.tally)

    def _ends_unstarted(self, run: Run[Any]) -> bool:
        if run._stop is not None:
            run._close(CANCELLED, None, self.tally)
            return True
        expires_in = run._options.expires_in
        if expires_in is not None and run._attempt == 0 and monotonic() > run._ready + expires_in:
            run._close(DISCARDED, "expired", self.tally)
            return True
        return False

    def _call_with_care(self, run: Run[Any]) -> Any:
        """Call ``perform`` with all that its options ask for around it."""
        call = self.call if run._carried is None else _carrying(self.call)
        if not run._options.watched:
            return call(run)
        watch = Watch(self, run)
        try:
            self.queue.threads.watches[run] = watch
            if run._options.timeout is not None:
                self.queue.timer.insert(_clock.now() + run._options.timeout, Watch.overrun, watch)
            return call(run)
        finally:
            while True:
                with suppress(RunTimeoutError, ShutdownError):  # an interrupt that strikes when the job is just over
                    watch.end()
                    break
            self.queue.threads.watches.pop(run, None)
            if run._options.timeout is not None:
                self.queue.timer.withdraw(watch)

    def _conclude_failed(self, run: Run[Any], error: BaseException) -> None:
        """Decide what a failed attempt means, another one or which end, and let go of its frames."""
        frames = _report.traceback_of(error) if self._raises else None
        self._conclude(run, error)
        _report.strip(error)
        if self._raises and run.error is error:
            raise BaseException.with_traceback(error, frames)

    def _conclude(self, run: Run[Any], error: BaseException) -> None:
        kind = type(error)  # not isinstance, which asks the error for its __class__
        if run._stop is not None and issubclass(kind, type(run._stop)) and not error.args:
            error = run._stop  # the interrupt has raised the bare class
        if issubclass(kind, Discard):
            run._close(DISCARDED, _report.text(error) or "discarded by the job", self.tally)
            return
        delay = self._delay(run, error)
        if delay is not None and self.queue.retry(run, error, delay, self.tally):
            return
        if isinstance(run._stop, RunCancelledError):
            run._close(CANCELLED, None, self.tally)
        else:
            run._close(FAILED, error, self.tally)

    def _delay(self, run: Run[Any], error: BaseException) -> float | None:
        """Return the seconds until the next attempt, or None if there is none."""
        if self._raises:
            return None
        policy: Any = _asked_for if issubclass(type(error), Retry.Later) else run._options.retry
        if policy is None:
            return None
        answers: list[float] = []

        def ask() -> None:
            answer = policy(run._attempt, error)
            if answer is not None:
                answers.append(_clock.seconds(answer, "the answer of the retry policy"))

        trouble = _report.guarded(ask)
        if trouble is not None:
            run._log(_logger, logging.ERROR, "the retry policy of %r raised", run, error=trouble)
        return answers[0] if answers else None


def _take_first(moves: list[tuple[deque[Run[Any]], Callable[[], object]]]) -> None:
    """Take a run from the first level that has one; raise IndexError where none has."""
    for level, move in moves:
        if level:
            with suppress(IndexError):  # raised if another worker was faster
                move()
                return
    raise IndexError


def _asked_for(_: int, error: Any) -> float:
    delay: float = error.delay
    return delay


def _carrying(call: Callable[[Run[Any]], Any]) -> Callable[[Run[Any]], Any]:
    def carried(run: Run[Any]) -> Any:
        return _carriers.within(run._carried or (), call, run)

    return carried


def _awaiting(call: Callable[[Run[Any]], Any]) -> Callable[[Run[Any]], Any]:
    async def root(run: Run[Any]) -> Any:
        root_task.set(sys.modules["asyncio"].current_task())
        return await call(run)

    def awaited(run: Run[Any]) -> Any:
        current.set(run)
        if sys.modules["asyncio"]._get_running_loop() is None:
            return _carriers.run_coroutine(root, run)
        # perform_now on an event loop's thread: loops do not nest.
        with ThreadPoolExecutor(1) as helper:
            return helper.submit(copy_context().run, _carriers.run_coroutine, root, run).result()

    return awaited


class Watch:
    """An eye on one attempt: says when it is past its timeout, and interrupts it where the job allows that."""

    __slots__ = ("_interrupted", "_lock", "_over", "run", "worker")

    def __init__(self, worker: Worker, run: Run[Any]) -> None:
        self.worker = worker
        self.run = run
        self._lock = threading.RLock()  # guards the two below: nothing is raised in the thread once the attempt is over
        self._over = False
        self._interrupted = False

    def overrun(self) -> None:
        """On the timer's thread: the attempt is past its timeout."""
        run = self.run
        with self._lock:
            if self._over:
                return
            if run._stop is None:
                run._stop = RunTimeoutError(f"{run!r} is past its timeout of {run._options.timeout:g} s")
        self.worker.queue.overran(self.worker, run)
        if run._options.interruptible:
            self.interrupt(RunTimeoutError)

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise *error* in the attempt's thread, at its next bytecode."""
        with self._lock:
            if not self._over:
                self._interrupted = True
                _native().raise_in(self.worker.thread, error)

    def end(self) -> None:
        """Note that the attempt is over, and take back an interrupt that has not struck yet."""
        with self._lock:
            self._over = True
            if self._interrupted:
                _native().raise_in(self.worker.thread, None)


def _native() -> Any:
    return importlib.import_module("inproc_jobs._native")
