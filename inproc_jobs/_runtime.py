"""Everything of this process: its queues, its threads, its timer, its settings; and how all of it is stopped."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Never

from . import _clock, _lifecycle, _run, signals
from ._definition import Definition, Unopened
from ._options import Settings, merged_settings
from ._pid import here
from ._queue import JobQueue, readmit
from ._run import Run
from ._stats import NO_STATS, Snapshot, Stats
from ._threads import Threads
from ._timer import Timer
from .errors import RejectedError

MAX_WAIT = 3600.0  # seconds; a lock cannot wait for centuries
ASK_AGAIN = 0.05  # seconds until a drain that can have no thread tries again (at the exit of Python 3.12.1: none)
ENDING = 0.2  # seconds that a shutdown waits for its idle threads to end, which takes them some microseconds

_KEEP: Any = object()  # the default of a setting that is not given


@dataclass(slots=True, init=False, repr=False, eq=False)
class ShutdownReport(Snapshot):
    """What a shutdown did.

    Attributes:
        finished: runs that succeeded while it drained.
        failed: runs that failed while it drained.
        discarded: the runs that could not be finished, each with ``reason == "shutdown"``.
        elapsed: seconds it took.
    """

    finished: int
    failed: int
    discarded: list[Run[Any]]
    elapsed: float


class Runtime:
    """The runtime of one process. Making it starts nothing.

    Guarantees: an accepted run ends, or a shutdown's report names it; a shutdown takes no longer than its deadline.
    """

    # What it is made of; the testing kit has other ones.
    queue_class = JobQueue
    threads_class = Threads
    timer_class = Timer

    def __init__(self, settings: Settings, *, closed: bool = False) -> None:
        self.pid: int = os.getpid()
        self.prefix: str = os.urandom(3).hex()
        self.timer: Timer = self.timer_class(settings.max_scheduled)
        self._lock = self.timer.lock  # guards _queues and the five below
        self._queues: set[weakref.ref[JobQueue]] = set()
        self._closed = closed
        self._stopping = 0  # the thread of the shutdown that is under way, if one is
        self._deadline = 0.0  # of the drain or shutdown under way, monotonic
        self._report: ShutdownReport | None = None
        self._stopped = threading.Condition(self._lock)
        self.threads: Threads = self.threads_class(self.timer, settings.max_threads)
        self.timer.after_call = self.threads.tell
        self.timer.counted = self._delayed

    def __repr__(self) -> str:
        return f"<Runtime of process {self.pid}: {len(self._queues)} queues{', closed' if self._closed else ''}>"

    def apply(self, settings: Settings) -> None:
        """Take over changed settings; they hold from the next thread and the next delay on."""
        self.threads.resize(settings.max_threads)
        self.timer.limit = settings.max_scheduled
        for queue in self.queues():
            queue.heed_limits()

    def queue(self, definition: Definition) -> JobQueue:
        """Return the queue of a job class in this process, made at its first enqueue.

        Raises:
            RejectedError: the server lets no thread run.
        """
        refusal = _lifecycle.meet_server()
        if refusal is not None:
            raise RejectedError(refusal, job=definition.name)
        with self._lock:
            new = self.queue_class(definition, threads=self.threads, timer=self.timer, pid=self.pid, prefix=self.prefix)
            self._queues.add(weakref.ref(new, self._queues.discard))
            if self._closed:
                new.sweep(0, [])
            # A signal handler may have made the first enqueue meanwhile: one call of C code settles which queue it is.
            queue: JobQueue = definition.queues.setdefault(self.pid, new)
            definition.queue = queue
            for pid in definition.queues.keys() - {self.pid}:  # of the process this one was forked from
                del definition.queues[pid]
        return queue

    def queues(self) -> list[JobQueue]:
        """Return the queues there are."""
        return [queue for reference in list(self._queues) if (queue := reference()) is not None]

    def _delayed(self) -> int:
        """Return how many runs wait for their time or their next attempt."""
        return sum(len(queue.scheduled) + len(queue.retrying) for queue in self.queues())

    def quiet(self, deadline: float) -> bool:
        """Return whether nothing is left to do that could be done until *deadline* (monotonic)."""
        me = threading.get_ident()
        with self._lock:  # or a run could go from a worker to the timer between the looks
            return not self.timer.pending(readmit, deadline) and all(queue.quiet(me) for queue in self.queues())

    def drain(self, deadline: float) -> bool:
        """Wait until every accepted run has settled, those included that are enqueued meanwhile.

        Blocks until *deadline* (monotonic seconds) at most, and returns early when what is left is not due until then.
        The run that calls this, if any, is not waited for.

        Returns:
            Whether everything settled.
        """
        threads = self.threads
        for queue in self.queues():
            queue.nudge()
        with threads.changed:
            threads.watchers += 1
        try:
            while True:
                wait = MAX_WAIT if self.timer.revive() else self._work_here()
                with threads.changed:
                    if self.quiet(deadline):
                        break
                    left = min(deadline, self._deadline or deadline) - _clock.now()
                    if left <= 0:
                        return False
                    threads.changed.wait(min(left, wait))
        finally:
            with threads.changed:
                threads.watchers -= 1
        return self.timer.next_due(readmit) is None

    def _work_here(self) -> float:
        """Do what is due in this thread, because no other can be had; return the seconds until the next look."""
        self.timer.call_here()
        self.threads.serve_here()
        return ASK_AGAIN

    def shutdown(self, deadline: float) -> ShutdownReport:
        """Drain until *deadline* (monotonic), then refuse what is new and discard what is left.

        Idempotent and safe from any thread. A call during another's waits for that one, and brings its deadline forward
        if it has an earlier one; inside a job it does not wait, for the other waits for the job; nor within the other.
        """
        me = threading.get_ident()
        ours = False
        try:
            with self._lock:
                if self._report is not None:
                    return self._report
                if self._stopping:
                    return self._join_shutdown(deadline)
                ours = True
                self._stopping = me
                self._deadline = deadline
            self._report = self._shut_down(deadline)
            return self._report
        finally:  # also when a Ctrl-C cuts it short: the next call then begins anew
            if ours:
                with self._lock:
                    self._stopping = 0
                    self._deadline = 0.0
                    self._stopped.notify_all()

    def _shut_down(self, deadline: float) -> ShutdownReport:
        started = _clock.now()
        before = self._totals()
        signals.emit(signals.shutdown_started, self)
        self.drain(deadline)
        self._close()
        self.drain(deadline)  # what came in between the last look and the closing
        discarded: list[Run[Any]] = []
        self._sweep(discarded)
        self.threads.stop(_clock.now() + ENDING)
        self.timer.stop(_clock.now() + ENDING)
        _lifecycle.deafen()
        after = self._totals()
        report = ShutdownReport(after[0] - before[0], after[1] - before[1], discarded, _clock.now() - started)
        signals.emit(signals.shutdown_finished, self, report=report)
        return report

    def _join_shutdown(self, deadline: float) -> ShutdownReport:
        if deadline < self._deadline:
            self.hurry(deadline)
        # A signal's handler may have come into the other, or a receiver been called by it.
        if _run.current_run() is None and self._stopping != threading.get_ident():
            while self._stopping:
                self._stopped.wait(max(0.0, self._deadline + 1.0 - _clock.now()))
                if _clock.now() > self._deadline + 1.0:
                    break
        return self._report or ShutdownReport(0, 0, [], 0.0)

    def is_shut(self) -> bool:
        """Return whether a shutdown is over: nothing is left to be waited for, even where a run still hangs."""
        return self._report is not None

    def hurry(self, deadline: float) -> None:
        """Bring the deadline of the shutdown under way forward."""
        self._deadline = deadline
        with self.threads.changed:
            self.threads.changed.notify_all()

    def restart(self) -> None:
        """Accept work again after a shutdown."""
        with self._lock:
            if not (self._closed or self._stopping):
                return
            reopened = False
            try:
                self._reopen()
                reopened = True
            finally:
                # If an error has struck, the next call does it all; and so where a signal's handler has just shut down.
                self._closed = not reopened or self._report is not None

    def _reopen(self) -> None:
        reopened = False
        while not reopened:
            _process.over = self._closed = False
            self._stopping = 0
            self._report = None
            self.timer.resume()
            self.threads.resume()
            for queue in self.queues():
                queue.reopen()
            reopened = self._report is None  # else a signal's handler has shut down meanwhile

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        for queue in self.queues():
            queue.close()

    def _sweep(self, discarded: list[Run[Any]]) -> None:
        """Discard whatever is left, and add it to *discarded*, as what comes late will be."""
        me = threading.get_ident()
        for queue in self.queues():
            for run in (*queue.sweep(me, discarded), *queue.delayed()):
                if queue.discard(run):
                    queue.stop(run)
            queue.left.clear()

    def _totals(self) -> tuple[int, int]:
        tallies = [queue.tally() for queue in self.queues()]
        return sum(tally.succeeded for tally in tallies), sum(tally.failed for tally in tallies)


class _Process:
    """The global state of the package: the settings, the job classes and the runtime of this process.

    It is also what ``_lifecycle`` brings to its end.
    """

    __slots__ = ("definitions", "lock", "over", "runtime", "runtime_class", "runtimes", "settings")

    def __init__(self) -> None:
        self.settings = Settings()
        self.lock = threading.RLock()  # guards the making of a runtime
        self.runtime_class = Runtime
        self.runtime: Runtime | None = None
        self.runtimes: dict[int, Runtime] = {}  # the same, by process id
        self.over = False  # whether the process has ended, but for some finalizers
        self.definitions: weakref.WeakValueDictionary[str, Definition] = weakref.WeakValueDictionary()

    def current(self) -> Runtime:
        """Return the runtime of this process; a forked child makes its own."""
        runtime = self.runtime
        if runtime is None or runtime.pid != os.getpid():
            if runtime is not None:
                self.renew_locks()  # a fork that called no hook
            with self.lock:
                new = self.runtime_class(self.settings, closed=self.over)
                runtime = self.runtime = self.runtimes.setdefault(new.pid, new)  # as in Runtime.queue
                for pid in self.runtimes.keys() - {new.pid}:
                    del self.runtimes[pid]
        if here[0] != runtime.pid:
            here[0] = runtime.pid
        return runtime

    def existing(self) -> Runtime | None:
        """Return the runtime of this process if it has one."""
        runtime = self.runtime
        return runtime if runtime is not None and runtime.pid == os.getpid() else None

    def renew_locks(self) -> None:
        self.lock = threading.RLock()
        _run.after_fork()

    def shutdown_timeout(self) -> float:
        return self.settings.shutdown_timeout

    def finish(self, deadline: float, *, finally_: bool) -> None:
        self.over = finally_
        runtime = self.existing()
        if runtime is None:
            return
        if finally_:
            runtime.shutdown(deadline)
        elif not runtime.is_shut():
            runtime.drain(deadline)

    def hurry(self) -> None:
        runtime = self.existing()
        if runtime is not None:
            runtime.hurry(_clock.now())

    def is_idle(self) -> bool:
        runtime = self.existing()
        return runtime is None or (
            runtime.quiet(_clock.now()) and not any(queue.scheduled or queue.retrying for queue in runtime.queues())
        )

    def is_at_work(self) -> bool:
        runtime = self.existing()
        return runtime is not None and runtime.threads.at_work()

    def detach(self) -> Iterable[threading.Thread]:
        runtime = self.existing()
        return () if runtime is None else runtime.threads.detach()

    def forked(self) -> None:
        runtime, self.runtime = self.runtime, None
        here[0] = 0  # as the kernel has done; an emulated one may not have
        self.runtimes = {}
        self.over = False
        self.renew_locks()
        if runtime is not None:
            abandon(runtime)


def abandon(runtime: Runtime) -> None:
    """Empty what the child of a fork has inherited, so that a job which forked does not go on as a worker there."""
    for queue in runtime.queues():
        queue.abandon()


_process = _Process()
_lifecycle.register(_process)


def runtime() -> Runtime:
    """Return the runtime of this process."""
    return _process.current()


def define(definition: Definition) -> None:
    """Make a job class known by its name; a reloaded one takes its predecessor's place.

    Raises:
        ValueError: another job class has the name.
    """
    other = _process.definitions.get(definition.name)
    if other is not None and _place(other) != _place(definition):
        raise ValueError(
            f"{_place(definition)}: the job name {definition.name!r} is taken by {_place(other)}: choose another name="
        )
    definition.open = partial(_open, definition)
    _process.definitions[definition.name] = definition
    _lifecycle.watch_signals()


def _open(definition: Definition) -> JobQueue:
    return _process.current().queue(definition)


def _place(definition: Definition) -> str:
    function = getattr(definition.job, "function", definition.job)
    return f"{function.__module__}.{function.__qualname__}"


def definitions() -> list[Definition]:
    """Return the job classes there are, by name."""
    return sorted(_process.definitions.values(), key=lambda definition: definition.name)


def configure(
    *,
    shutdown_timeout: float | timedelta = _KEEP,
    max_threads: int = _KEEP,
    max_scheduled: int = _KEEP,
    **unknown: Never,
) -> None:
    """Change settings of the process; those not named stay as they are.

    Takes effect at once, before or after the first enqueue; a forked child inherits it.

    Args:
        shutdown_timeout: seconds, counted from the first sign of a stop, within which accepted work is finished; 8.0.
        max_threads: the most worker threads of all job classes together; 32.
        max_scheduled: the most runs that may wait for their time or their next attempt; 200,000. A retry itself is
            never refused, but then new runs of its job class are.

    Raises:
        TypeError, ValueError: an unknown setting, a wrong type or range; nothing is changed.
    """
    given = {
        "shutdown_timeout": shutdown_timeout,
        "max_threads": max_threads,
        "max_scheduled": max_scheduled,
        **unknown,
    }
    apply_settings("configure", {name: value for name, value in given.items() if value is not _KEEP})


def apply_settings(owner: str, given: Mapping[str, object], label: Callable[[str], str] = str) -> None:
    """Change the settings *given*; errors name *owner*, and a setting by its *label*."""
    _process.settings = merged_settings(_process.settings, owner, given, label)
    existing = _process.existing()
    if existing is not None:
        existing.apply(_process.settings)


def settings() -> Settings:
    """Return the settings of the process."""
    return _process.settings


def install(new: Runtime) -> Callable[[], None]:
    """Have *new* be the runtime of this process, until what is returned is called; the one before waits meanwhile.

    For tests. Each job class gets a queue of *new*'s at its next enqueue, and its own back afterwards.
    """
    before = (_process.runtime_class, _process.runtime, _process.runtimes)
    queues = {definition: (definition.queue, definition.queues) for definition in definitions()}

    def use(definition: Definition, queue: Any, queues: dict[int, Any]) -> None:
        definition.queue, definition.queues = queue, queues

    def restore() -> None:
        _process.runtime_class, _process.runtime, _process.runtimes = before
        for definition in definitions():
            use(definition, *queues.get(definition, (Unopened(definition), {})))

    _process.runtime_class, _process.runtime, _process.runtimes = type(new), new, {new.pid: new}
    for definition in queues:
        use(definition, Unopened(definition), {})
    return restore


def on_worker_thread() -> bool:
    """Return whether this thread is one of the pool's, which nobody else uses."""
    existing = _process.existing()
    return existing is not None and existing.threads.own_me()


def stats() -> dict[str, Stats]:
    """Return a snapshot of every job class by its name, counted since the start of this process.

    The name is ``module.QualName`` unless ``name=`` says otherwise. A class of which nothing was enqueued is there with
    zeros.
    """
    result = {}
    for definition in definitions():
        queue = definition.queue
        result[definition.name] = queue.stats() if queue.pid == os.getpid() else NO_STATS
    return result


def drain(timeout: float | timedelta | None = None) -> bool:
    """Wait until every accepted run has settled, and those that are enqueued meanwhile.

    Blocks for *timeout* seconds at most (``shutdown_timeout`` by default), and returns early when all that is left is
    not due until then. Called inside a job it does not wait for the run it is part of.

    Returns:
        Whether everything settled.
    """
    return _process.current().drain(_deadline(timeout))


def shutdown(timeout: float | timedelta | None = None) -> ShutdownReport:
    """Drain, then accept no more work, and discard and name what is left.

    For hosts with hooks of their own; an exit of the process calls it by itself. Blocks for *timeout* seconds at most
    (``shutdown_timeout`` by default), plus the moment that discarding takes. Idempotent: a second call returns the
    first report. Safe from any thread, and inside a job, which then is not waited for.
    """
    return _process.current().shutdown(_deadline(timeout))


def restart() -> None:
    """Accept work again after a ``shutdown``; without one it does nothing."""
    _process.current().restart()


def _deadline(timeout: float | timedelta | None) -> float:
    return _clock.now() + (
        _process.settings.shutdown_timeout if timeout is None else _clock.seconds(timeout, "timeout")
    )
