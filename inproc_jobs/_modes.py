"""The runtimes behind ``inproc_jobs.testing``: the same parts as in production, worked by the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import itemgetter
from queue import Empty
from typing import Any, cast

from . import _clock, _report, _runtime
from ._definition import Definition
from ._queue import JobQueue, readmit
from ._run import FAILED, FINAL, RUNNING, Run, current_run
from ._runtime import Runtime
from ._threads import Threads
from ._timer import Timer
from .errors import DeadlockError

TIMEOUT = 10.0  # seconds that real() and travel() wait for runs to end


class HeldTimer(Timer):
    """Holds runs back, delayed ones and retries, until they are asked for. Other calls are made as ever."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._held: list[tuple[float, int, Run[Any]]] = []  # a heap by monotonic seconds

    def insert(self, when: float, function: Callable[[Any], object], argument: Any) -> None:
        if function is not readmit:
            super().insert(when, function, argument)
            return
        with self.lock:
            monotonic_when = when - (_clock.wall() - _clock.now() if isinstance(when, _clock.Moment) else 0.0)
            self._inserted += 1
            heappush(self._held, (monotonic_when, self._inserted, argument))

    def withdraw(self, argument: Any) -> None:
        with self.lock:
            kept = list(filter(lambda entry: entry[2] is not argument, self._held))
            if len(kept) == len(self._held):
                super().withdraw(argument)
            self._held[:] = kept

    def take(self, function: Callable[[Any], object]) -> list[Any]:
        if function is not readmit:
            return super().take(function)
        with self.lock:
            held, self._held = sorted(self._held), []
        return [run for _, _, run in held]

    def size(self) -> int:
        return super().size() + len(self._held)

    def next_due(self, function: Callable[[Any], object]) -> float | None:
        if function is not readmit:
            return super().next_due(function)
        with self.lock:
            return max(0.0, self._held[0][0] - _clock.now()) if self._held else None

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        with self.lock:
            self._held[:] = [(when - seconds, number, run) for when, number, run in self._held]

    def release(self, *, until: float | None = None) -> bool:
        """Let the next run in that is due by *until* (monotonic), or whenever; return whether there was one."""
        with self.lock:
            if not self._held or (until is not None and self._held[0][0] > until):
                return False
            run = heappop(self._held)[2]
        readmit(run)
        return True


class NoThreads(Threads):
    """Starts no thread; what is ready is worked on by whoever calls ``serve_here``."""

    why = "nothing runs under fake() until it is told to: call run_all() or run_one() first"

    def ask(self) -> None:
        """Do not."""

    @contextmanager
    def waiting(self, run: Run[Any], seconds: float | None) -> Iterator[None]:  # noqa: ARG002
        raise DeadlockError(f"{run!r} cannot be waited for: {self.why}")
        yield


class CallersThread(NoThreads):
    why = "inline() performs it once the job that waits for it here is over"

    def serve_here(self) -> None:
        """Work on what is ready; also inside a job that does so already."""
        while True:
            try:
                work = self.ready.get_nowait()
            except Empty:
                return
            if work is not None:
                worker = work.employ([work])
                try:
                    worker.work(self.ready.qsize)
                finally:
                    work.dismiss(worker)


class TestRuntime(Runtime):
    """A runtime for a while: what is left when it ends is dropped without a word."""

    def close(self) -> list[Run[Any]]:
        """Stop, let go of whoever waits for what was not performed, and return what was left, except delayed runs."""
        left = [run for queue in self.queues() for run in queue.sweep(threading.get_ident(), [])]
        for run in (*left, *self.timer.take(readmit)):
            if run.state not in FINAL and run.state is not RUNNING:
                run._refuse("the test is over")
        self.threads.stop(_clock.now() + 1.0)
        self.timer.stop(_clock.now() + 1.0)
        return left


class RealRuntime(TestRuntime):
    def close(self) -> list[Run[Any]]:
        """Finish what is due first."""
        settle(self, _clock.now() + TIMEOUT)
        left = super().close()
        if left:
            raise AssertionError(f"still at work after {TIMEOUT:g} s: {', '.join(map(repr, left))}")
        return left


def settle(runtime: Runtime, deadline: float) -> bool:
    """Wait until all that is due has ended, and return whether it has."""
    threads = runtime.threads
    for queue in runtime.queues():
        queue.nudge()
    with threads.changed:
        threads.watchers += 1
        try:
            return _wait_until_quiet(runtime, deadline)
        finally:
            threads.watchers -= 1


def _wait_until_quiet(runtime: Runtime, deadline: float) -> bool:
    while not runtime.quiet(_clock.now()):
        left = deadline - _clock.now()
        if left <= 0:
            return False
        runtime.threads.changed.wait(left)
    return True


class StrictQueue(JobQueue):
    """Lets each run in by ``enqueue``."""

    def _figure(self) -> None:
        self._easy: int = 0


class InlineQueue(StrictQueue):
    """Performs what is let in, before the enqueue returns."""

    def enqueue(self, run: Run[Any]) -> None:
        super().enqueue(run)
        cast(InlineRuntime, _runtime.runtime()).perform(run)

    def schedule(self, run: Run[Any], when: float) -> None:
        super().schedule(run, when)
        cast(InlineRuntime, _runtime.runtime()).perform(run)


class InlineRuntime(TestRuntime):
    queue_class = InlineQueue
    threads_class = CallersThread
    timer_class = HeldTimer
    raises = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inner: list[Run[Any]] = []  # those that jobs have enqueued

    def perform(self, run: Run[Any]) -> None:
        """Work on all that is ready; and, unless inside a job, on what is to come later, and raise what went wrong."""
        self._inner.append(run)
        self.threads.serve_here()
        if current_run() is not None:
            return
        timer = cast(HeldTimer, self.timer)
        while timer.release():
            self.threads.serve_here()
        runs, self._inner = self._inner, []
        failed = [one for one in (run, *runs) if one.state is FAILED]
        if failed and self.raises:
            failed[0].result()


class FakeQueue(StrictQueue):
    """Notes what is let in, and performs it one by one when told to."""

    def enqueue(self, run: Run[Any]) -> None:
        note = Enqueued._of(run, delay=None)
        super().enqueue(run)
        notes().append(note)

    def schedule(self, run: Run[Any], when: float) -> None:
        enqueued = run._enqueued_wall if isinstance(when, _clock.Moment) else run._enqueued
        delay = round(when - enqueued, 2)  # of perform_in exactly what was given
        note = Enqueued._of(run, delay=delay)
        super().schedule(run, when)
        notes().append(note)

    def next_number(self) -> int | None:
        """Return the number of the run that is next, or None."""
        with self.mutex:
            return next((level[0]._number for level in self.levels if level), None)

    def perform_next(self) -> Run[Any] | None:
        """Perform the next run in this thread."""
        worker = self.employ([])
        try:
            worker.take()
        except IndexError:  # none waits
            return None
        else:
            self.tell_blocked()
            run = worker.hand[0]
            worker.perform(run)
            worker.hand.clear()
            return run
        finally:
            self.dismiss(worker)


class FakeRuntime(TestRuntime):
    queue_class = FakeQueue
    threads_class = NoThreads
    timer_class = HeldTimer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes: list[Enqueued] = []

    def drain(self, deadline: float) -> bool:  # noqa: ARG002
        """Wait for nothing, because nothing runs."""
        return not any(queue.qsize() or queue.scheduled or queue.retrying for queue in self.queues())

    def perform_next(self, definition: Definition | None = None) -> Run[Any] | None:
        """Perform the run that has waited longest, of one job or of all."""
        queues = [cast(FakeQueue, queue) for queue in self.queues() if definition in (None, queue.definition)]
        numbered = [(number, queue) for queue in queues if (number := queue.next_number()) is not None]
        return min(numbered, key=itemgetter(0))[1].perform_next() if numbered else None


def notes() -> list[Enqueued]:
    return fake_runtime().notes


def fake_runtime() -> FakeRuntime:
    runtime = _runtime.runtime()
    if not isinstance(runtime, FakeRuntime):
        raise RuntimeError("runs are recorded only under fake(): enter it; in pytest, take the fixture inproc_jobs")
    return runtime


@dataclass(frozen=True, slots=True)
class Enqueued:
    """One enqueue under ``fake()``.

    Attributes:
        job: the job class, or the function under ``@job``.
        args: the positional arguments, as they were given.
        kwargs: the keyword arguments.
        delay: seconds until it is due; None where it was enqueued for now.
        priority: from -100 to 100.
        run: what the enqueue returned.
    """

    job: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    delay: float | None
    priority: int
    run: Run[Any]

    @classmethod
    def _of(cls, run: Run[Any], *, delay: float | None) -> Enqueued:
        """Note *run*, whose arguments are gone once it has ended."""
        return cls(run.job, run.args, dict(run.kwargs), delay, run._options.priority, run)

    def __str__(self) -> str:
        shown = [_report.shown(value) for value in self.args]
        shown += [f"{name}={_report.shown(value)}" for name, value in self.kwargs.items()]
        later = "" if self.delay is None else f", in {self.delay:.3g} s"
        return f"{self.job.__qualname__}({', '.join(shown)}){later}"


def advance(runtime: Runtime, seconds: float) -> None:
    for queue in runtime.queues():
        with queue.mutex:
            for run in (run for level in queue.levels for run in level):
                run._ready -= seconds
    runtime.timer.advance(seconds)  # last, for what it lets in has its whole time yet


def run_due(runtime: Runtime) -> None:
    while cast(HeldTimer, runtime.timer).release(until=_clock.now()):
        if isinstance(runtime, FakeRuntime):
            while runtime.perform_next() is not None:
                pass
        else:
            runtime.threads.serve_here()
