"""One accepted call of a job: its state, its outcome, and the one way it ends."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import ContextVar, copy_context
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from time import monotonic, time
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast, overload

from . import _clock, _commit, _report, signals
from ._carriers import capture, carriers, leave_behind
from ._options import Options
from ._stats import Tally
from .errors import RejectedError, RunCancelledError, RunDiscardedError, WrongProcessError

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_logger = logging.getLogger("inproc_jobs.run")  # a name for filters to go by: what becomes of runs
_number = itertools.count(1).__next__
_waiters_lock = threading.RLock()  # guards every run's _waiters; taken only where somebody waits
_no_kwargs: Mapping[str, Any] = MappingProxyType({})

# The runs each thread has taken, by its identifier, as Worker.hand: to look there costs a run nothing, while a context
# variable costs 0.3 us to set. Only a coroutine sets the variable too, for the threads it may hand on to.
hands: dict[int, list[Run[Any]]] = {}
root_task: ContextVar[Any] = ContextVar("inproc_jobs_root_task", default=None)  # the one that performs the coroutine
current: ContextVar[Run[Any] | None] = ContextVar("inproc_jobs_run", default=None)


class RunState(StrEnum):
    """Where a run is; the last four are final. A string, too: ``run.state == "queued"``."""

    SCHEDULED = "scheduled"  #: waits for its time
    QUEUED = "queued"  #: waits for a worker
    RUNNING = "running"  #: an attempt is being made
    RETRYING = "retrying"  #: waits for its next attempt
    SUCCEEDED = "succeeded"  #: ``perform`` returned
    FAILED = "failed"  #: ``perform`` raised, and there is no further attempt
    DISCARDED = "discarded"  #: ended without an outcome; ``run.reason`` says why
    CANCELLED = "cancelled"  #: ``run.cancel()``


SCHEDULED, QUEUED, RUNNING, RETRYING = RunState.SCHEDULED, RunState.QUEUED, RunState.RUNNING, RunState.RETRYING
SUCCEEDED, FAILED, DISCARDED, CANCELLED = (
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.DISCARDED,
    RunState.CANCELLED,
)

FINAL = (SUCCEEDED, FAILED, DISCARDED, CANCELLED)

_CLOSING = {
    SUCCEEDED: signals.job_succeeded,
    FAILED: signals.job_failed,
    DISCARDED: signals.job_discarded,
    CANCELLED: signals.job_cancelled,
}


class Run(Generic[R_co]):
    """One accepted call of a job; what ``perform_async`` returns.

    It ends exactly once, as succeeded, failed, discarded or cancelled. Once ended it holds neither its arguments nor
    the frames of its error, so it may be kept. All methods may be called from any thread; only ``wait`` and ``result``
    block.
    """

    # No lock and no event of its own: a run that waits in a queue is mostly these slots. The three declared below are
    # set when there is something to say, for each that __init__ sets costs every enqueue.
    __slots__ = (
        "__weakref__",
        "_args",
        "_attempt",
        "_carried",
        "_context",
        "_enqueued",
        "_enqueued_wall",
        "_final",
        "_finished",
        "_kwargs",
        "_number",
        "_open",
        "_options",
        "_outcome",
        "_queue",
        "_ready",
        "_settled",
        "_started",
        "_state",
        "_stop",
        "_waiters",
    )
    _started: float
    _finished: float
    _final: RunState  # once it is closed; apart from _state, which the worker may still write to then
    _outcome: Any

    # Names of other modules are imported by themselves: where nothing ran for a while, each dictionary on the way is a
    # miss of the processor's caches.
    def __init__(
        self,
        queue: Any,
        options: Options,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._queue = queue
        self._options = options
        self._args = args
        self._kwargs = kwargs or None
        context = copy_context()
        if context or carriers:
            self._context, self._carried = capture(context)
        else:
            self._context = self._carried = None
        self._number = _number()
        self._state = QUEUED
        self._attempt = 0
        self._enqueued_wall = time()
        self._enqueued = self._ready = monotonic()
        self._stop: BaseException | None = None
        self._waiters: list[Callable[[], object]] | None = None
        self._settled = False
        self._open = True  # deleted by whoever closes the run: a slot can be deleted once

    @property
    def id(self) -> str:
        """Unique among the runs of all processes: a prefix of the process and a counter."""
        return f"{self._queue.prefix}-{self._number}"

    @property
    def job(self) -> Any:
        """The job class, or the function under ``@job``."""
        return self._queue.definition.job

    @property
    def job_name(self) -> str:
        """The name of the job: the key of ``stats()``, and ``job`` in log records."""
        name: str = self._queue.definition.name
        return name

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments; empty once the run has ended."""
        return self._args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments, read-only; empty once the run has ended."""
        return _no_kwargs if self._kwargs is None else MappingProxyType(self._kwargs)

    @property
    def state(self) -> RunState:
        """Where the run is now."""
        return getattr(self, "_final", self._state)

    @property
    def attempt(self) -> int:
        """The attempt it is at, counted from 1; 0 before the first."""
        return self._attempt

    @property
    def reason(self) -> str | None:
        """Why it was discarded; None otherwise.

        "shutdown", "expired", "queue_full" or the text of a ``Discard``; "rollback" if it was never accepted, because
        the transaction it waited for was rolled back; "the test is over" if a mode for tests has left it behind.
        """
        return cast(str, self._outcome) if self.state is DISCARDED else None

    @property
    def error(self) -> BaseException | None:
        """What its last attempt raised, without frames, if it failed or waits for a retry."""
        return self._outcome if self.state in (FAILED, RETRYING) else None

    @property
    def enqueued_at(self) -> datetime:
        """When it was accepted, UTC."""
        return _clock.utc(self._enqueued_wall)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt started, UTC; None before the first."""
        return self._moment("_started")

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, UTC; None before."""
        return self._moment("_finished")

    def _moment(self, name: str) -> datetime | None:
        moment: float | None = getattr(self, name, None)
        return None if moment is None else _clock.utc(self._enqueued_wall + moment - self._enqueued)

    def __repr__(self) -> str:
        attempt = f", attempt {self._attempt}" if self._attempt else ""
        return f"<Run {self.id} of {self._queue.definition.name}: {self.state.value}{attempt}>"

    def done(self) -> bool:
        """Return whether the run has ended and its closing signal was sent."""
        return self._settled

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the run has ended, at most *timeout*, seconds or a timedelta, and return whether it has.

        Raises:
            DeadlockError: called inside a job, on a run that could only go on after that job.
            WrongProcessError: the run belongs to the process this one was forked from.
        """
        if self._settled:
            return True
        self._check_process()
        seconds = None if timeout is None else _clock.seconds(timeout, "timeout")
        if seconds is None:
            _commit.check_wait(self)
        with self._queue.threads.waiting(self, seconds):
            woken = threading.Lock()
            woken.acquire()
            wake = woken.release
            self._add_waiter(wake)
            try:
                woken.acquire(timeout=-1 if seconds is None else seconds)
            finally:
                self._drop_waiter(wake)
        return self._settled

    @overload
    def result(self: Run[Coroutine[Any, Any, T]], timeout: float | timedelta | None = None) -> T: ...
    @overload
    def result(self: Run[T], timeout: float | timedelta | None = None) -> T: ...
    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the run, at most *timeout*, seconds or a timedelta, and return what ``perform`` returned.

        Raises:
            BaseException: what the job raised, if it failed: a copy whose traceback begins here. The job's own
                traceback is in the log, and in ``job_failed``.
            TimeoutError: it has not ended in time; it goes on all the same.
            RunCancelledError, RunDiscardedError: it ended without an outcome.
            DeadlockError, WrongProcessError: as ``wait`` does.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self!r} has not ended within {_clock.seconds(timeout, 'timeout'):g} s; it goes on")
        return self._value()

    @overload
    def __await__(self: Run[Coroutine[Any, Any, T]]) -> Generator[Any, None, T]: ...
    @overload
    def __await__(self: Run[T]) -> Generator[Any, None, T]: ...
    def __await__(self) -> Generator[Any, None, Any]:
        """Wait, in a coroutine, until the run has ended; return and raise as ``result`` does. Blocks no event loop."""
        if not self._settled:
            self._check_process()
            # Whoever awaits has asyncio loaded; importing it here would cost those who never do.
            asyncio = sys.modules["asyncio"]
            # A job's own task waits as a thread would. Of others that are tasks beside it, or of a server, many can
            # wait.
            waits = root_task.get() is not None and root_task.get() is asyncio.current_task()
            with self._queue.threads.waiting(self, None if waits else 0.0):
                yield from self._end(asyncio.get_running_loop())
        return self._value()

    def _end(self, loop: Any) -> Generator[Any, None, None]:
        """Wait, in *loop*, until the run has ended."""
        ended = loop.create_future()
        wake = partial(loop.call_soon_threadsafe, _set_ended, ended)
        self._add_waiter(wake)
        try:
            yield from ended
        finally:
            self._drop_waiter(wake)

    def cancel(self) -> bool:
        """Cancel the run and return whether that still could be asked of it.

        A run that waits is taken out and ends as cancelled before this returns. One that is running is asked to stop:
        its ``should_stop`` turns true, ``checkpoint()`` raises, and it is not tried again; a thread cannot be stopped
        from outside. One that has ended stays as it is.
        """
        if self._settled or self._queue.pid != os.getpid():
            return False
        taken: list[object] = []
        try:
            self._queue.withdraw(self, taken)
            return self._close(CANCELLED) if taken else not self._settled
        finally:
            if taken:
                self._close(CANCELLED)  # once more, for an error may have struck the first

    def checkpoint(self) -> None:
        """Raise if the run should stop: it was cancelled, it timed out, or the process is past its deadline."""
        if self._stop is not None:
            raise copied(self._stop)

    @property
    def should_stop(self) -> bool:
        """Whether ``checkpoint`` would raise."""
        return self._stop is not None

    def _close(self, state: RunState, outcome: Any = None, tally: Tally | None = None) -> bool:
        """End the run as *state*, and return whether this call was the one that did.

        The one way a run ends: outcome, count, signal, log line, wake-up, in this order. *tally* is that of the worker
        whose thread this is; without one the queue's own is used. Called without any lock held.
        """
        claimed = False
        try:
            try:
                now = monotonic()
                try:
                    # On one line: nothing strikes in between.
                    del self._open; claimed = True; self._outcome = outcome; self._finished = now; self._final = state  # fmt: skip  # noqa: E501, E702
                except AttributeError:
                    return False
                if tally is None:
                    self._queue.count(state)
                else:
                    tally.count(state)
                if self._queue.definition.observer is not None:
                    self._queue.definition.tell("closed", self)
                if _CLOSING[state].receivers:
                    self._announce()
                if state is not SUCCEEDED:
                    self._log_closing()
                return True
            finally:
                if claimed:
                    self._args = ()
                    self._kwargs = self._context = self._carried = None
                    self._settled = True
                    if self._waiters is not None:
                        self._wake()
        finally:
            if claimed and (not self._settled or self._waiters is not None):  # an error has struck just above
                self._settle()

    def _settle(self) -> None:
        """Let go of what a closed run need not hold, and wake who waits for it. Twice is as good as once."""
        self._args = ()
        self._kwargs = self._context = self._carried = None
        self._settled = True
        self._wake()

    def _disown(self) -> None:
        """In the child of a fork: leave it to the parent to close the run."""
        if hasattr(self, "_open"):
            del self._open

    def _accept(self) -> None:
        """Have it accepted now, not when it was made: it has waited for a transaction."""
        self._enqueued_wall = time()
        self._enqueued = self._ready = monotonic()

    def _refuse(self, reason: str, error: RejectedError | None = None) -> None:
        """Mark a run that was never accepted, so that whoever keeps it waits for nothing; announce it with *error*."""
        del self._open
        self._outcome = reason
        self._final = DISCARDED
        self._queue.definition.tell("refused", self)
        if error is not None and signals.job_rejected.receivers:
            signals.emit(signals.job_rejected, self.job, run=self, error=error)
        self._args = ()
        self._kwargs = self._context = self._carried = None
        self._settled = True
        if self._waiters is not None:
            self._wake()

    def _announce(self) -> None:
        data: dict[str, Any] = {"run": self}
        if self._final is FAILED:
            data["error"] = self._outcome
        elif self._final is DISCARDED:
            data["reason"] = self._outcome
        signals.emit(_CLOSING[self._final], self.job, **data)

    def _log_closing(self) -> None:
        if self._final is FAILED:
            if self._queue.definition.observer is None:
                self._log(_logger, logging.ERROR, "%r: %s", self, _report.describe(self._outcome), error=self._outcome)
            _report.strip(self._outcome)
        elif self._final is DISCARDED:
            self._log(_logger, logging.WARNING, "%r: %s", self, _report.escaped(self._outcome))
        else:
            self._log(_logger, logging.INFO, "%r", self)

    def _log(
        self, logger: logging.Logger, level: int, message: str, *args: object, error: BaseException | None = None
    ) -> None:
        """Write a record that names the run; the traceback of *error* follows as text."""
        if logger.isEnabledFor(level):
            text = None if error is None else _report.trace(error)
            extra = {"run_id": self.id, "job": self._queue.definition.name}
            _report.log(logger, level, message, *args, text=text, extra=extra)

    def _value(self) -> Any:
        if self._final is SUCCEEDED:
            return self._outcome
        if self._final is CANCELLED:
            raise RunCancelledError(f"{self!r} was cancelled")
        if self._final is DISCARDED:
            raise RunDiscardedError(f"{self!r} was discarded: {self._outcome}", reason=self._outcome)
        raise copied(self._outcome)

    def _check_process(self) -> None:
        if self._queue.pid != os.getpid():
            raise WrongProcessError(
                f"{self!r} was accepted by process {self._queue.pid}, which alone can end it; this is process"
                f" {os.getpid()}, forked from it: enqueue here what this process should do"
            )

    def _add_waiter(self, wake: Callable[[], object]) -> None:
        with _waiters_lock:
            waiters = self._waiters  # _wake may let go of it meanwhile
            if waiters is None:
                waiters = self._waiters = []
            waiters.append(wake)
        if self._settled:  # between the caller's look and the append; by itself, for the others' wake may have begun
            _report.guarded(wake)

    def _drop_waiter(self, wake: Callable[[], object]) -> None:
        with _waiters_lock:
            waiters = self._waiters  # _wake may let go of it meanwhile
            if waiters and wake in waiters:
                waiters.remove(wake)

    def _wake(self) -> None:
        with _waiters_lock:
            waiters = list(self._waiters or ())
        for wake in waiters:
            _report.guarded(wake)  # raises if its event loop has closed meanwhile, or if it was called before
        self._waiters = None


def copied(error: BaseException) -> BaseException:
    """Return an error like *error* that may be raised: the traceback then grows on the copy."""
    copies: list[BaseException] = []
    _report.guarded(lambda: copies.append(copy.copy(error)))
    if not copies or type(copies[0]) is not type(error):  # its class cannot be made from its args
        return BaseException.with_traceback(error, None)
    for attribute in ("__cause__", "__context__", "__suppress_context__"):  # by BaseException's own: it may be frozen
        own = vars(BaseException)[attribute]
        own.__set__(copies[0], own.__get__(error))
    return copies[0]


def _set_ended(ended: Any) -> None:
    try:
        if not ended.done():
            ended.set_result(None)
    finally:
        if not ended.done():
            ended.set_result(None)  # once more, for an error may have struck the first, which the loop only logs


def current_run() -> Run[Any] | None:
    """Return the run this code is part of, or None outside of any."""
    hand = hands.get(threading.get_ident())
    return hand[0] if hand else current.get()


def acting_thread() -> int:
    """Return the worker's thread for which this code acts: a coroutine's may be another one than its own."""
    run = current.get()
    if run is not None:
        for thread, hand in list(hands.items()):
            if run in hand:
                return thread
    return threading.get_ident()


leave_behind(current, root_task)


def after_fork() -> None:
    """Make the lock anew: the thread that held it may not exist in this process."""
    global _waiters_lock
    _waiters_lock = threading.RLock()
