"""The queue of one job class: which runs wait, which are let in, and how many workers it has."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, NoReturn

from . import _commit, _lifecycle, _report
from ._clock import Moment
from ._definition import Definition
from ._full import WHEN_FULL
from ._mover import mover
from ._options import Options
from ._pid import here
from ._run import DISCARDED, FAILED, QUEUED, RETRYING, RUNNING, SCHEDULED, Run, copied
from ._stats import SAMPLES, Stats, Tally, times
from ._threads import Threads, Work
from ._timer import Timer
from ._worker import Worker
from .errors import QueueFullError, RejectedError, RunCancelledError, ScheduleFullError, ShutdownError
from .signals import emit, job_enqueued, job_overran, job_retried

MARGIN = 256  # runs below the bound from where on it is kept exactly

_logger = logging.getLogger(__name__)


class JobQueue(queue.Queue[Run[Any]]):
    """The waiting runs of one job class, bounded, and the permits of its workers.

    Guarantees: at most ``max_queue`` runs wait, except for those that were accepted before and come back (retries, due
    schedules, what a dead worker had not started); first come, first served within a priority; whenever a run waits and
    a permit is at home, the queue is on its way to a thread. A run is put in under a reentrant lock, so that an enqueue
    may interrupt another one on its thread (a signal handler, a ``__del__``), and is taken without any.

    A permit is at home, on the ready list or in a worker's hand. It moves in single calls of C code, so that no
    exception can lose it.
    """

    def __init__(self, definition: Definition, *, threads: Threads, timer: Timer, pid: int, prefix: str) -> None:
        super().__init__(definition.options.max_queue)
        # In place of the base class's lock, which is not reentrant.
        self.mutex: Any = timer.lock  # guards the counts, the flags and what is let in
        self.not_empty: threading.Condition = threading.Condition(self.mutex)
        self.not_full: threading.Condition = threading.Condition(self.mutex)
        self.all_tasks_done: threading.Condition = threading.Condition(self.mutex)
        self.definition = definition
        self.threads = threads
        self.timer = timer
        self.pid = pid
        self.prefix = prefix
        self.closed: bool = False  # refuses what is new
        self.swept: bool = False  # refuses also what comes back
        self._discarded: list[Run[Any]] = []  # by the shutdown: its report's list
        self.left: list[Run[Any]] = []  # taken out by a sweep, for whoever then closes them
        # The runs that wait for their time, each by itself: it goes from here to its level in a single call.
        self.scheduled: dict[Run[Any], Run[Any]] = {}
        self.retrying: dict[Run[Any], Run[Any]] = {}
        self._unheld: set[Run[Any]] = set()  # those of them whose job_enqueued is being sent
        # Runs let in whose job_enqueued is being sent, each by itself, as above.
        self._announcing: dict[Run[Any], Run[Any]] = {}
        self.blocked: int = 0  # producers that wait for room
        self._tally = Tally(deque(maxlen=SAMPLES), deque(maxlen=SAMPLES))
        self._workers: set[Worker] = set()
        self._permits: deque[Work] = deque([self] * definition.options.workers)
        self._hand_over = mover(self._permits.pop, threads.ready.put)
        self._figure()

    # What the base class asks of a subclass.

    def _init(self, maxsize: int) -> None:  # noqa: ARG002 - the base class passes it
        self._waiting: deque[Run[Any]] = deque()  # the runs of priority 0, mostly all there are
        self._by_priority = {0: self._waiting}
        self.levels: tuple[deque[Run[Any]], ...] = (self._waiting,)  # the highest priority first

    def _qsize(self) -> int:
        return sum(map(len, self.levels)) + len(self._announcing)

    def _get(self) -> Run[Any]:
        return next(filter(None, self.levels)).popleft()

    def _put(self, item: Run[Any]) -> None:
        self._level(item).append(item)

    def _level(self, run: Run[Any]) -> deque[Run[Any]]:
        level = self._by_priority.get(run._options.priority)
        if level is None:
            level = self._by_priority[run._options.priority] = deque()
            self.levels = tuple(self._by_priority[one] for one in sorted(self._by_priority, reverse=True))
            self._figure()
        return level

    def _figure(self) -> None:
        """Say how many runs may wait before a put has to look closer; called under the lock when that changes.

        Below that no lock is needed: for a run to come in above the bound, more than the margin would have to come in
        between another's last look at it and its append, the next thing that its thread does.
        """
        plain = not self.closed and len(self.levels) == 1 and not (self.retrying and self.timer.full())
        self._easy: int = self.maxsize - MARGIN if plain and self.definition.observer is None else 0

    def heed_limits(self) -> None:
        """Look again how close the bounds are, one of which has been changed."""
        with self.mutex:
            self._figure()

    # The way in.

    def accept(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run[Any]:
        """Return a new run that was let in, or for which was done what its ``when_full`` says.

        Raises:
            QueueFullError, ShutdownError: it was refused; ``job_rejected`` has been sent.
        """
        if self.pid != here[0]:
            run: Run[Any] = self.definition.open().accept(options, args, kwargs)
            return run
        # The usual case takes no lock. Under one, a producer that is preempted while it holds it makes the others line
        # up, and then each enqueue costs a switch of threads: 50 us instead of 2 with four producers on two cores.
        waiting = self._waiting
        if len(waiting) >= self._easy or options.priority or options.on_commit or job_enqueued.receivers:
            return self._accept_closely(Run(self, options, args, kwargs))
        threads, call = self.threads, None
        try:
            if self._permits:  # a thread takes longer to wake than a run to be made, so it is called first
                threads.called = call = object()
                try:
                    self._hand_over()
                except IndexError:  # another producer was faster
                    threads.called = call = None
            run = Run(self, options, args, kwargs)
            if roomy := len(waiting) < self._easy:  # looked at again: others may have filled it while the run was made
                waiting.append(run)
                if self.closed:
                    self._recheck(run)
        finally:  # also when a signal handler raises just after the run is in
            if threads.called is not call or threads.asked or (call is None and self._permits):
                self.nudge()
            elif call is not None:
                threads.look()
        return run if roomy else self._accept_closely(run)

    def _accept_closely(self, run: Run[Any]) -> Run[Any]:
        if run._options.on_commit:
            _commit.defer(run, self.enqueue)
        else:
            self.enqueue(run)
        return run

    def enqueue(self, run: Run[Any]) -> None:
        """Let *run* in, as ``accept`` does, where it has to be looked closer at."""
        try:
            self.put(run)
        except (ScheduleFullError, ShutdownError) as error:
            self.reject(run, error)
        except QueueFullError as error:
            WHEN_FULL[run._options.when_full](self, run, error)
        finally:  # as above
            self.nudge()

    def _recheck(self, run: Run[Any]) -> None:
        """Refuse a run after all that came in while the queue was being closed, if the last sweep has missed it."""
        try:
            with self.mutex:
                if not self.swept:
                    return
                with suppress(ValueError):  # raised if a worker has taken it
                    self._level(run).remove(run)
                    raise self.shutdown_error()
        except ShutdownError as error:
            self.reject(run, error)
        self.discard(run)  # a worker has taken it, behind the sweep's back

    def put(self, item: Run[Any], block: bool = False, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Let a run in that has a priority, or is announced, or meets a queue that is full or closed.

        Raises:
            QueueFullError: ``max_queue`` runs wait, or with *block* still do after *timeout* seconds.
            ShutdownError: the process accepts no more work.
        """
        self._admit(item, partial(self._wait_for_room, timeout if block else 0.0))

    def put_instead(self, item: Run[Any]) -> None:
        """Let a run in for the oldest of those with the lowest priority, which is discarded if the queue is full.

        Raises:
            QueueFullError: none of them has a priority as low as this one's.
            ShutdownError: as ``put`` does.
        """
        displaced: list[Run[Any]] = []
        try:
            self._admit(item, partial(self._displace, item._options.priority, displaced))
            for oldest in displaced:
                oldest._close(DISCARDED, "queue_full")
        finally:
            for oldest in displaced:
                oldest._close(DISCARDED, "queue_full")  # once more, for an error may have struck the first

    def _admit(self, item: Run[Any], make_room: Callable[[], object]) -> None:
        """Let *item* in, by *make_room* if the queue is full; that is called with the lock held."""
        announced = self.definition.observer is not None or job_enqueued.receivers
        try:
            with self.mutex:
                if self.closed:
                    raise self.shutdown_error()
                if self.retrying and self.timer.full():
                    raise self._too_many_scheduled()
                if self._qsize() >= self.maxsize:
                    make_room()
                # Announced before it is in, or a worker could send job_started first. Receivers are called without the
                # lock, so the run only holds its place meanwhile.
                if announced:
                    self._announcing[item] = item
                else:
                    self._put(item)
            if announced:
                self._put_announced(item)
            else:
                self.nudge()
        finally:
            if item in self._announcing:  # an error has struck somewhere above
                self._let_in(item)

    def _displace(self, priority: int, displaced: list[Run[Any]]) -> None:
        """Take out the oldest of the runs with the lowest priority, and only one, should more wait than the bound says.

        What has come back above the bound was accepted, as the others were.
        """
        level = next(filter(None, reversed(self.levels)), None)
        if level is None:
            if len(self._announcing) >= self.maxsize:
                raise self.full_error()
            return  # workers have taken the rest
        with suppress(IndexError):  # raised if a worker has taken the last one: now there is room
            if level[0]._options.priority > priority:
                raise self.full_error()
            mover(level.popleft, displaced.append)()

    def _wait_for_room(self, timeout: float | None) -> None:
        """Wait until one more run may be let in; the lock is held before and after."""
        room_deadline = None if timeout is None else monotonic() + timeout
        self.blocked += 1
        try:
            self._wait_blocked(room_deadline)
        finally:
            self.blocked -= 1

    def _wait_blocked(self, room_deadline: float | None) -> None:
        while self._qsize() >= self.maxsize:
            left = None if room_deadline is None else room_deadline - monotonic()
            if left is not None and left <= 0:
                raise self.full_error()
            self.nudge()  # mostly in vain; but a worker may have died before it could
            self.not_full.wait(left)
            if self.closed:
                raise self.shutdown_error()

    def announce(self, run: Run[Any]) -> None:
        """Say that *run* is accepted."""
        self.definition.tell("enqueued", run)
        if job_enqueued.receivers:
            emit(job_enqueued, self.definition.job, run=run)

    def _put_announced(self, run: Run[Any]) -> None:
        try:
            self.announce(run)
        finally:
            self._let_in(run)

    def _let_in(self, run: Run[Any]) -> None:
        with self.mutex:
            late = self.swept
            if not late:
                mover(self._announcing.pop, self._level(run).append, run)()
        if late:
            self.discard(run)
            del self._announcing[run]
        else:
            self.nudge()

    def nudge(self) -> None:
        """See that a worker comes if a run waits and the queue may have one more."""
        # Not by _qsize: for a run that is still being announced there is nothing to do, and workers would come and go
        # for as long as a receiver takes.
        if self._permits and any(self.levels):
            self.threads.call(self._hand_over)
        else:  # mostly in vain; but a thread may have been lost, or whoever has called one not have asked for it yet
            self.threads.look()

    def accept_later(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any], when: float) -> Run[Any]:
        """Return a new run for *when*, a Moment or in so many seconds.

        Raises:
            QueueFullError: ``max_scheduled`` runs of this process wait for their time or their retry.
            ShutdownError: the process accepts no more work.
        """
        if self.pid != here[0]:
            run: Run[Any] = self.definition.open().accept_later(options, args, kwargs, when)
            return run
        run = Run(self, options, args, kwargs)
        due = when if type(when) is Moment else run._ready + when
        if options.on_commit:
            _commit.defer(run, partial(self.schedule, when=due))
        elif self._easy <= 0 or job_enqueued.receivers or not self.timer.has_room(MARGIN):
            self.schedule(run, due)
        else:  # the usual case takes no lock, as above
            run._state = SCHEDULED
            self._hold(run, due)
            if self.swept or not hasattr(run, "_open"):
                self._discard_scheduled(run)
        return run

    def schedule(self, run: Run[Any], when: float) -> None:
        """Let *run* in for *when*, monotonic seconds or a Moment, where it has to be looked closer at."""
        announced = self.definition.observer is not None or job_enqueued.receivers
        try:
            with self.mutex:
                if self.closed:
                    raise self.shutdown_error()
                if self.timer.full():
                    raise self._too_many_scheduled()
                run._state = SCHEDULED
                if not announced:
                    self._hold(run, when)
        except RejectedError as error:
            self.reject(run, error)
        if announced:
            self._announce_scheduled(run, when)

    def _discard_scheduled(self, run: Run[Any]) -> None:
        """Discard a run that the last sweep has missed, or has met before it was with the timer."""
        self.timer.withdraw(run)
        self.discard(run)

    def _hold(self, run: Run[Any], when: float) -> None:
        held = False
        try:
            self.scheduled[run] = run
            self.timer.insert(when, readmit, run)
            held = True
        finally:
            if not held:  # a MemoryError, or a signal handler's exception: it was not accepted
                self.scheduled.pop(run, None)

    def _announce_scheduled(self, run: Run[Any], when: float) -> None:
        held = False
        try:
            self._unheld.add(run)
            self.scheduled[run] = run
            self.announce(run)
            with self.mutex:
                self._unheld.discard(run)  # a sweep is either over by now, or will meet it
                if not self.swept and run in self.scheduled:  # else a receiver has cancelled it
                    self._hold(run, when)
            held = True
            if self.swept or not hasattr(run, "_open"):
                self._discard_scheduled(run)
        finally:
            if not held:  # as above
                self.scheduled.pop(run, None)
            self._unheld.discard(run)

    def delayed(self) -> list[Run[Any]]:
        """Return the runs that wait for their time; not those that are still being announced as enqueued."""
        return [run for run in (*self.scheduled, *self.retrying) if run not in self._unheld]

    def retry(self, run: Run[Any], error: BaseException, delay: float, tally: Tally) -> bool:
        """Have *run* tried again in *delay* seconds; False if it must stop, or the process is past its deadline."""
        if self.swept or isinstance(run._stop, RunCancelledError | ShutdownError):
            return False
        self.definition.tell("retried", run, error)
        if job_retried.receivers:
            emit(job_retried, self.definition.job, run=run, error=error, delay=delay)
        run._log(_logger, logging.INFO, "%r is tried again in %.3g s: %s", run, delay, _report.describe(error))
        _report.strip(error)
        with self.mutex:
            if self.swept or isinstance(run._stop, RunCancelledError | ShutdownError):
                return False
            run._stop = None
            run._outcome = error
            run._state = RETRYING
            self.retrying[run] = run
            self.timer.insert(monotonic() + delay, readmit, run)
            tally.retried += 1
            if self.timer.full():
                self._figure()
        return True

    def come_back(self, run: Run[Any]) -> None:
        """Let in a run whose time has come; it was accepted before, so the bound does not matter."""
        with self.mutex:
            waiting = self.scheduled if run in self.scheduled else self.retrying
            if run not in waiting:
                return  # cancelled meanwhile
            late = self.swept
            if not late and hasattr(run, "_open"):  # else its worker has died after all
                run._state = QUEUED
                run._ready = monotonic()
                mover(waiting.pop, self._level(run).append, run)()
        if late:
            self.discard(run)
        with self.mutex:
            self._uncount(run)
        self.nudge()

    def _uncount(self, run: Run[Any]) -> None:
        """Let go of a run that has waited for its time."""
        self.scheduled.pop(run, None)
        self.retrying.pop(run, None)
        self._figure()

    # The way out.

    def tell_blocked(self) -> None:
        """Let one of the producers that wait for room look again: a run was taken."""
        with self.mutex:
            self.not_full.notify()

    def withdraw(self, run: Run[Any], taken: list[object]) -> None:
        """Take out a run that waits, for whoever then closes it; one that does not wait is told to stop instead.

        What is taken out is noted in *taken*, in the same call of C code.
        """
        with self.mutex:
            if run in self.scheduled:
                self._withdraw_delayed(run, self.scheduled, taken)
            if run in self.retrying:
                self._withdraw_delayed(run, self.retrying, taken)
            if not taken and run.state is QUEUED:
                with suppress(ValueError):  # raised if a worker has taken it
                    mover(self._level(run).remove, taken.append, run)()
            if not taken and not isinstance(run._stop, ShutdownError):
                run._stop = RunCancelledError(f"{run!r} was cancelled")
            self.not_full.notify()
        self.threads.tell()

    def _withdraw_delayed(self, run: Run[Any], waiting: dict[Run[Any], Run[Any]], taken: list[object]) -> None:
        withdrawn = False
        try:
            with suppress(KeyError):  # raised if a signal's handler has taken it
                mover(waiting.pop, taken.append, run)()
                self.timer.withdraw(run)
            withdrawn = True
        finally:
            if taken and not withdrawn:  # an error has struck: a drain would wait for a run that is no more
                self.timer.withdraw(run)
        self._figure()

    # Workers.

    def employ(self, permit: list[Any]) -> Worker:
        """Return a worker of this thread, which takes its permit from *permit* whenever it is told to work."""
        worker = Worker(self, permit)
        self._workers.add(worker)
        return worker

    def retire(self, worker: Worker) -> None:
        """Take back the permit of a worker that stops working, and a run that it has died on."""
        if self.pid != os.getpid():
            _lifecycle.leave_child()
        try:
            self._take_permit_back(worker)
            while worker.hand:
                self._save(worker.hand.pop())
        finally:
            self.nudge()
            self.threads.tell()

    def go_home(self) -> None:
        """Take back a permit for which no thread comes, for the threads have been stopped."""
        self._permits.append(self)

    def dismiss(self, worker: Worker) -> None:
        """Let go of a worker that is not at work, and keep its counts."""
        worker.leave()
        with self.mutex:
            if worker in self._workers:
                self._workers.remove(worker)
                self._tally.add(worker.tally)

    def perform_now(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perform a new run in this thread, and return its value or raise its error; ShutdownError as ``put`` does."""
        if self.pid != here[0]:
            return self.definition.open().perform_now(options, args, kwargs)
        run: Run[Any] = Run(self, options, args, kwargs)
        if self.closed:
            self.reject(run, self.shutdown_error())
        self.perform_here(run, raises=True)
        return run._value()

    def perform_here(self, run: Run[Any], *, raises: bool) -> None:
        """Announce *run* and perform it in this thread; *raises*: it is not retried, and its error comes out."""
        worker = Worker(self, [], raises=raises)
        worker.hand.append(run)
        self._workers.add(worker)
        try:
            self.announce(run)
            worker.perform(run)
            worker.hand.clear()
        finally:
            while worker.hand:
                self._save(worker.hand.pop())
            self.dismiss(worker)
            self.threads.tell()

    def nested(self) -> int:
        """Return how many workers of this queue this thread is inside of."""
        me = threading.get_ident()
        return sum(worker.thread == me and bool(worker.hand) for worker in list(self._workers))

    def _take_permit_back(self, worker: Worker) -> None:
        with suppress(IndexError):  # raised if the worker has overrun: then the permit is at home
            mover(worker.permit.pop, self._permits.append)()

    def _save(self, run: Run[Any]) -> None:
        """Put a run back to the front that a dying worker had taken; one that had started has failed."""
        if run.state is not QUEUED:
            with self.mutex:
                self._uncount(run)
            error = sys.exception() or RuntimeError("its worker died")
            # A copy: the error itself goes on through the thread's frames, which would hang on to it.
            if not hasattr(run, "_open") or not run._close(FAILED, copied(error)):
                run._settle()  # it has died on closing it
            return
        with self.mutex:
            late = self.swept
            if not late:
                self._level(run).appendleft(run)
        if late:
            self.discard(run)

    def discard(self, run: Run[Any]) -> bool:
        """Discard an accepted run that a shutdown's sweep has met, or has missed; return False if it has ended."""
        closed = run._close(DISCARDED, "shutdown")
        if closed:
            self._discarded.append(run)
        with self.mutex:
            self._uncount(run)
        return closed

    def overran(self, worker: Worker, run: Run[Any]) -> None:
        """Give the hung worker's place to another one, and say where it hangs; on the timer's thread."""
        self._take_permit_back(worker)
        self.nudge()
        if job_overran.receivers:
            emit(job_overran, self.definition.job, run=run)
        frame = sys._current_frames().get(worker.thread)
        where = "" if frame is None else _report.stack(frame)
        run._log(_logger, logging.WARNING, "%r is past its timeout of %g s, at\n%s", run, run._options.timeout, where)

    def threads_for(self, run: Run[Any]) -> set[int] | None:
        """Return the threads of which one must go on before *run* can; None if a new worker might perform it."""
        workers = list(self._workers)
        for worker in workers:
            if run in worker.hand and run.state is RUNNING:
                return {worker.thread}
        at_work = {worker.thread for worker in workers if worker.permit}
        return at_work if len(at_work) >= self.definition.options.workers else None

    # The end, and what can be seen.

    def quiet(self, me: int) -> bool:
        """Return whether nothing waits and nobody but thread *me* is at work here."""
        workers = [worker for worker in list(self._workers) if worker.permit or worker.hand]
        mine = sum(bool(worker.permit) for worker in workers if worker.thread == me)
        return (
            not self._qsize()
            and all(worker.thread == me for worker in workers)
            and len(self._permits) + mine >= self.definition.options.workers
        )

    def close(self) -> None:
        """Refuse what is new."""
        with self.mutex:
            self.closed = True
            self._figure()
            self.not_full.notify_all()

    def reopen(self) -> None:
        """Accept work again."""
        with self.mutex:
            self.closed = self.swept = False
            self._figure()
        self.nudge()  # for what a shutdown that goes on has not come to

    def sweep(self, me: int, discarded: list[Run[Any]]) -> list[Run[Any]]:
        """Refuse all, and return what is left, ready or at work in threads other than *me*; the caller discards it.

        What is discarded is added to *discarded* from now on. What an error has kept the caller from discarding, the
        next sweep returns again.
        """
        with self.mutex:
            self._discarded = discarded
            self.closed = self.swept = True
            self._figure()
            for level in self.levels:
                move = mover(level.popleft, self.left.append)
                with suppress(IndexError):  # raised when it is empty; workers take from it meanwhile
                    while True:
                        move()
        # Afterwards, or a run that goes from a level to a hand would be missed in both.
        return self.left + [run for worker in list(self._workers) if worker.thread != me for run in worker.hand]

    def abandon(self) -> None:
        """In the child of a fork: what the parent accepted is the parent's, even the run whose job has forked."""
        self.mutex = threading.RLock()  # another thread may have held it
        self.closed = self.swept = True
        self._easy = 0
        for level in self.levels:
            level.clear()
        for worker in list(self._workers):
            for run in worker.hand:
                run._disown()

    def stop(self, run: Run[Any]) -> None:
        """Tell a run that is still at work that the process is past its deadline."""
        run._stop = self.shutdown_error()
        watch = self.threads.watches.get(run)
        if watch is not None and run._options.interruptible:
            watch.interrupt(ShutdownError)

    def count(self, outcome: str) -> None:
        """Count one run that ended outside of a worker."""
        with self.mutex:
            self._tally.count(outcome)

    def new_tally(self) -> Tally:
        """Return an empty tally that takes its samples here."""
        return Tally(self._tally.waits, self._tally.runs)

    def tally(self) -> Tally:
        """Return the counts so far, exact when nothing is at work."""
        with self.mutex:
            total = self.new_tally()
            total.add(self._tally)
            for worker in list(self._workers):
                total.add(worker.tally)
            return total

    def stats(self) -> Stats:
        """Return a snapshot."""
        with self.mutex:
            workers = list(filter(lambda worker: worker.permit, list(self._workers)))
            busy = sum(bool(worker.hand) for worker in workers)
            total = self.tally()
            return Stats(
                workers=len(workers),
                busy=busy,
                idle=len(workers) - busy,
                queued=self._qsize(),
                scheduled=len(self.scheduled),
                retrying=len(self.retrying),
                succeeded=total.succeeded,
                failed=total.failed,
                retried=total.retried,
                discarded=total.discarded,
                cancelled=total.cancelled,
                rejected=total.rejected,
                wait=times(total.attempts, total.wait_total, total.wait_max, total.waits),
                run=times(total.attempts, total.run_total, total.run_max, total.runs),
            )

    # Refusals.

    def reject(self, run: Run[Any], error: RejectedError) -> NoReturn:
        """Count and announce that *run* was not accepted, and raise *error*."""
        with self.mutex:
            self._tally.rejected += 1
        run._refuse("shutdown" if isinstance(error, ShutdownError) else "queue_full", error)
        raise error

    def full_error(self, why: str = "") -> QueueFullError:
        return QueueFullError(
            f"{self.definition.name} already has as many runs waiting as may (max_queue={self.maxsize}){why}:"
            " add workers, raise max_queue, or choose when_full",
            job=self.definition.name,
            limit=self.maxsize,
        )

    def _too_many_scheduled(self) -> ScheduleFullError:
        return ScheduleFullError(
            f"{self.definition.name}: {self.timer.limit} runs of this process wait for their time or their retry"
            " already (max_scheduled): raise it, or keep far-off work in a database",
            job=self.definition.name,
            limit=self.timer.limit,
        )

    def shutdown_error(self) -> ShutdownError:
        return ShutdownError(
            f"{self.definition.name}: this process has shut down and performs no more jobs;"
            " restart() accepts work again",
            job=self.definition.name,
        )


def readmit(run: Run[Any]) -> None:
    """Let *run* in again; what the timer calls when its time has come."""
    run._queue.come_back(run)
