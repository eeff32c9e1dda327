"""Enqueues that interrupt enqueues, and threads that die where nobody expects it: nothing locks up or is lost."""

from __future__ import annotations

import _thread
import ctypes
import gc
import logging
import os
import queue
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from gates import until

import inproc_jobs
from inproc_jobs import Job, Retry, Run, RunState, signals

LONG = os.environ.get("INPROC_JOBS_STRESS") == "long"
SCALE = 5 if LONG else 1
TIMEOUT = 30.0  # seconds a test waits for what must happen
PACKAGE = str(Path(inproc_jobs.__file__).parent)

performed: queue.SimpleQueue[int] = queue.SimpleQueue()


def ran() -> list[int]:
    """Return the numbers that were performed since the last look."""
    return [performed.get_nowait() for _ in range(performed.qsize())]


@pytest.fixture(autouse=True)
def nothing_performed_yet() -> None:
    """Forget what the test before has left."""
    ran()


def workers() -> list[threading.Thread]:
    """Return the worker threads that live."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("inproc_jobs-worker")]


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Have *error* raised in a thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


needs_profile = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.11.7 itself can loop for ever under a profile function (DO_TRACING)"
)


def interrupted(step: int, operation: Callable[[], object], strike: Callable[[], object]) -> str:
    """Call *operation*, and *strike* at its step-th step in this package; return where that was, if it came so far."""
    left = [step]
    struck: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        # Where the interpreter looks for signals: as a function begins, and after each call.
        if event == "c_call" or struck or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        if left[0] == 0:
            struck.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {event}")
            strike()
        left[0] -= 1

    sys.setprofile(profile)
    try:
        operation()
    finally:
        sys.setprofile(None)
    return "".join(struck)


@pytest.mark.parametrize("announced", [False, True], ids=["no receiver", "a receiver"])
@pytest.mark.parametrize("max_queue", [1_000_000, 300], ids=["a long queue", "a short queue"])
def test_enqueues_in_a_signal_handler(max_queue: int, announced: bool):
    """A timer signal interrupts 20,000 enqueues, its handler enqueues: no deadlock, and each run is performed once."""
    total = 20_000 * SCALE
    accepted: list[int] = []
    by_handler: list[int] = []
    refused: list[int] = []
    own = iter(range(10**9, 2 * 10**9))

    class Interrupted(Job, workers=2, max_queue=max_queue, name="interrupted"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def enqueue(number: int, into: list[int]) -> None:
        try:
            Interrupted.perform_async(number)
        except inproc_jobs.errors.QueueFullError:
            refused.append(number)
        else:
            into.append(number)

    def handler(number: int, frame: FrameType | None) -> None:
        enqueue(next(own), by_handler)
        if len(by_handler) % 4 == 1:
            Interrupted.perform_in(0.001, next(own))
            scheduled.append(1)
        if not over:
            signal.setitimer(signal.ITIMER_REAL, 0.00002 + len(by_handler) % 50 * 1e-6)  # sooner, it interrupts itself

    def heard(sender: object, **extra: object) -> None:
        pass

    scheduled: list[int] = []
    over: list[bool] = []
    before = signal.signal(signal.SIGALRM, handler)
    if announced:
        signals.job_enqueued.connect(heard)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        for number in range(total):
            enqueue(number, accepted)
    finally:
        over.append(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signals.job_enqueued.disconnect(heard)
    settled = inproc_jobs.drain(TIMEOUT)

    stats = inproc_jobs.stats()["interrupted"]
    seen = ran()
    assert settled
    assert len(by_handler) > 10
    assert len(seen) == len(set(seen)) == stats.succeeded == len(accepted) + len(by_handler) + len(scheduled)
    assert {*accepted, *by_handler} <= set(seen)
    assert stats.rejected == len(refused)


def test_delays_in_a_signal_handler_beside_cancels():
    """A timer signal interrupts 20,000 cancels of delayed runs, its handler delays runs of its own: none is lost."""
    total = 20_000 * SCALE
    by_handler: list[Run[None]] = []

    class Cancelled(Job, max_queue=1_000_000, name="cancelled beside delays"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def handler(number: int, frame: FrameType | None) -> None:
        by_handler.append(Cancelled.perform_in(0.001, len(by_handler)))
        if not over:
            signal.setitimer(signal.ITIMER_REAL, 0.00002 + len(by_handler) % 50 * 1e-6)  # sooner, it interrupts itself

    over: list[bool] = []
    inproc_jobs.configure(max_scheduled=2 * total)
    waiting = [Cancelled.perform_in(600, -1) for _ in range(total)]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        cancelled = [run.cancel() for run in waiting]
    finally:
        over.append(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    ended = [run.wait(TIMEOUT) for run in by_handler]

    assert len(by_handler) > 100
    assert all(cancelled)
    assert all(ended), f"{ended.count(False)} of {len(ended)} never came due"
    assert sorted(ran()) == list(range(len(by_handler)))


@needs_profile
def test_a_shutdown_at_every_step_of_a_restart(quiet_deaths: None):
    """A handler that shuts down in the middle of a restart comes before it or after it; the next restart opens all."""

    class After(Job, name="after a restart"):
        def perform(self) -> None:
            performed.put(1)

    steps = 0
    while True:
        After.perform_async()
        inproc_jobs.shutdown(TIMEOUT)
        struck = interrupted(steps, inproc_jobs.restart, lambda: inproc_jobs.shutdown(0))
        inproc_jobs.restart()

        assert After.perform_async().wait(5), struck
        assert After.perform_in(0).wait(5), struck
        if not struck:
            break
        steps += 1

    assert steps > 5


class Enqueueing:
    """Part of a cycle; enqueues when the collector finds it, in the middle of whatever runs then."""

    def __init__(self, enqueue: Callable[[], object]) -> None:
        self.me = self
        self.enqueue = enqueue

    def __del__(self) -> None:
        self.enqueue()


@contextmanager
def collected_often() -> Iterator[None]:
    """Have the collector come at any moment, in any thread."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()  # the collections are to be many, and quick
    gc.set_threshold(7, 2, 2)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("announced", [False, True], ids=["no receiver", "a receiver"])
def test_enqueues_in_finalizers(announced: bool):
    """20,000 finalizers enqueue, called by the collector in the middle of enqueues: no deadlock, none is lost."""
    total = 20_000 * SCALE
    own: list[Run[None]] = []

    class Finalized(Job, workers=2, max_queue=1_000_000, name="finalized"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def finalized() -> None:
        own.append(Finalized.perform_async(-1))

    def heard(sender: object, **extra: object) -> None:
        pass

    if announced:
        signals.job_enqueued.connect(heard)
    with collected_often():
        for number in range(total):
            Enqueueing(finalized)
            Finalized.perform_async(number)
    until(lambda: gc.collect() >= 0 and len(own) == total)  # it does nothing while another thread's goes on
    settled = inproc_jobs.drain(TIMEOUT)
    signals.job_enqueued.disconnect(heard)

    seen = ran()
    assert settled
    assert sorted(seen) == [-1] * total + list(range(total))
    assert inproc_jobs.stats()["finalized"].succeeded == 2 * total


def test_enqueues_in_finalizers_beside_delays_and_cancels():
    """Finalizers enqueue, called by the collector in the middle of delays, cancels and what the timer's thread does."""
    total = 5_000 * SCALE
    own: list[Run[None]] = []

    class Beside(Job, workers=2, max_queue=1_000_000, name="finalized beside delays"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def heard(sender: object, **extra: object) -> None:
        pass

    def finalized() -> None:
        own.append(Beside.perform_async(-1))

    signals.job_enqueued.connect(heard)  # so that each takes the lock
    cancelled = []
    with collected_often():
        for number in range(total):
            Enqueueing(finalized)
            Beside.perform_in(0.0, number)
            cancelled.append(Beside.perform_in(600, -2).cancel())
    until(lambda: gc.collect() >= 0 and len(own) == total)  # as above
    settled = inproc_jobs.drain(TIMEOUT)
    signals.job_enqueued.disconnect(heard)

    seen = ran()
    assert settled
    assert all(cancelled)
    assert sorted(seen) == [-1] * total + list(range(total))
    assert inproc_jobs.stats()["finalized beside delays"].succeeded == 2 * total


@needs_profile
@pytest.mark.parametrize("announced", [False, True], ids=["no receiver", "a receiver"])
@pytest.mark.parametrize("delay", [None, 0.0], ids=["at once", "delayed"])
@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
def test_an_enqueue_at_every_step_of_an_enqueue(first: bool, delay: float | None, announced: bool):
    """Wherever an enqueue is interrupted by another one of the same job class, both are performed and counted."""

    def heard(sender: object, **extra: object) -> None:
        pass

    if announced:
        signals.job_enqueued.connect(heard)
    try:
        trouble = []
        for step in range(1_000):
            struck, said = after_an_enqueue_at(step, first=first, delay=delay)
            if said:
                trouble.append(f"{struck}: {said}")
            if not struck:
                break
    finally:
        signals.job_enqueued.disconnect(heard)

    assert step > 10
    assert not trouble, "\n" + "\n".join(trouble)


def after_an_enqueue_at(step: int, *, first: bool, delay: float | None) -> tuple[str, str]:
    """Enqueue inside an enqueue, at its step-th step in this package; return where, and what is wrong."""

    class Nested(Job, workers=1, name=f"nested-{step}-{first}-{delay}-{bool(signals.job_enqueued.receivers)}"):
        def perform(self) -> None:
            performed.put(step)

    def enqueue() -> Run[None]:
        return Nested.perform_async() if delay is None else Nested.perform_in(delay)

    runs: list[Run[None]] = []
    if not first:
        assert Nested.perform_async().wait(TIMEOUT)
    struck = interrupted(step, lambda: runs.append(enqueue()), lambda: runs.append(enqueue()))
    ended = [run.wait(5) for run in runs]
    inproc_jobs.drain(5)

    count = len(runs) + (not first)
    stats = inproc_jobs.stats()[f"nested-{step}-{first}-{delay}-{bool(signals.job_enqueued.receivers)}"]
    wrong = [
        "" if all(ended) else f"never ended: {runs}",
        "" if len(seen := ran()) == count else f"{len(seen)} of {count} performed",
        "" if stats.succeeded == count else f"{stats.succeeded} of {count} counted",
        "" if stats.scheduled == stats.queued == 0 else f"left: {stats}",
    ]
    return struck, ", ".join(filter(None, wrong))


@needs_profile
@pytest.mark.parametrize("strike", ["cancel", "shutdown"])
@pytest.mark.parametrize("operation", ["delay", "cancel", "drain"])
def test_a_delayed_run_ended_at_every_step(operation: str, strike: str, quiet_deaths: None):
    """A handler that cancels or shuts down in the middle of anything leaves it in order, and each run ends once."""

    class Ended(Job, name=f"ended-{operation}-{strike}"):
        def perform(self) -> None:
            performed.put(1)

    runs: list[Run[None]] = []

    def delay() -> None:
        with suppress(inproc_jobs.errors.ShutdownError):
            runs.append(Ended.perform_in(600))

    operations: dict[str, Callable[[], object]] = {
        "delay": delay,
        "cancel": lambda: runs[-1].cancel(),
        "drain": lambda: inproc_jobs.drain(0),
    }
    strikes: dict[str, Callable[[], object]] = {
        "cancel": lambda: runs[-1].cancel(),
        "shutdown": lambda: inproc_jobs.shutdown(0),
    }
    closed: list[object] = []

    def heard(sender: object, *, run: Run[None], **extra: object) -> None:
        closed.append(run.id)

    for announcement in (signals.job_cancelled, signals.job_discarded):
        announcement.connect(heard)
    steps = 0
    try:
        while True:
            delay()
            struck = interrupted(steps, operations[operation], strikes[strike])
            inproc_jobs.restart()
            for run in runs:
                run.cancel()

            assert all(run.wait(0) for run in runs), struck
            assert sorted(closed) == sorted({run.id for run in runs}), struck
            assert inproc_jobs.drain(5), struck
            assert inproc_jobs.stats()[f"ended-{operation}-{strike}"].scheduled == 0, struck
            if not struck:
                break
            steps += 1
    finally:
        for announcement in (signals.job_cancelled, signals.job_discarded):
            announcement.disconnect(heard)

    assert steps > 10


class Interruption(BaseException):
    """What a handler raises out of whatever it interrupts."""


def test_a_handler_that_raises_out_of_an_enqueue():
    """A signal handler that raises, as Ctrl-C does, leaves every enqueue made or not made, and the queue in order."""
    rounds = 3_000 * SCALE
    returned: list[int] = []
    armed = [False]

    class Raised(Job, workers=2, max_queue=1_000_000, name="raised"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def handler(number: int, frame: FrameType | None) -> None:
        if armed[0]:
            armed[0] = False
            raise Interruption

    before = signal.signal(signal.SIGALRM, handler)
    gc.freeze()  # a handler that raises out of the finalizer of what another test has left is not heard of here
    interrupted = 0
    try:
        for number in range(rounds):
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + number % 50 * 1e-6)
            try:
                armed[0] = True
                for step in range(20):
                    Raised.perform_async(number * 20 + step)
                    returned.append(number * 20 + step)
                armed[0] = False
            except Interruption:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    settled = inproc_jobs.drain(TIMEOUT)

    seen = ran()
    assert settled
    assert interrupted > rounds // 10
    assert len(seen) == len(set(seen)) == inproc_jobs.stats()["raised"].succeeded
    assert set(returned) <= set(seen)
    assert len(seen) <= len(returned) + interrupted


@pytest.fixture
def quiet_deaths(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the log from minding threads that die: here they are meant to."""
    caplog.set_level("CRITICAL")


class Gunner:
    """Strikes worker threads; one that was struck not before it has come to a job again.

    A thread that is struck while it starts, or again while it dies, is beyond what anybody can promise.
    """

    def __init__(self) -> None:
        self.at_work: set[threading.Thread] = set()  # those that have come to a job since they were struck
        self.count = 0

    def fire(self, error: type[BaseException]) -> None:
        """Raise *error* in every worker thread that may be struck."""
        for thread in workers():
            if thread.ident is not None and thread in self.at_work:
                self.at_work.discard(thread)
                self.count += 1
                raise_in(thread.ident, error)


@pytest.mark.usefixtures("quiet_deaths")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [MemoryError, SystemExit])
def test_idle_workers_that_are_killed(error: type[BaseException]):
    """After every idle worker thread was killed, the next 20 runs run, round after round."""
    gunner = Gunner()

    class After(Job, workers=4, name="after"):
        def perform(self, number: int) -> None:
            performed.put(number)
            gunner.at_work.add(threading.current_thread())

    for round_ in range(300 * SCALE):
        gunner.fire(error)
        runs = [After.perform_async(number) for number in range(20)]
        ended = [run.wait(TIMEOUT) for run in runs]

        assert all(ended), f"round {round_}: {inproc_jobs.stats()['after']}"
        # A run that the error has struck while it was performed has failed; it was not lost.
        seen, states = ran(), [run.state for run in runs]
        assert set(states) <= {RunState.SUCCEEDED, RunState.FAILED}
        assert len(seen) == len(set(seen))
        assert states.count(RunState.SUCCEEDED) <= len(seen)

    assert gunner.count > 20
    assert inproc_jobs.drain(TIMEOUT), f"looks busy for ever: {inproc_jobs.stats()['after']}"


def in_child(call: Callable[[], str]) -> str:
    """Return what *call* returns in a process of its own, where nothing has happened yet."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12 on: there may be threads, but none of ours
        child = os.fork()
    if child == 0:
        try:
            logging.disable()
            threading.excepthook = lambda arguments: None
            os.write(writing, call().encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        came = select.select([answer], [], [], 10.0)[0]
        if not came:
            os.kill(child, signal.SIGKILL)
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text if came else "hung"


class Struck(Job, workers=2, retry=Retry(attempts=2, on=(OSError,), backoff=0.0), name="struck"):
    def perform(self, number: int) -> None:
        performed.put(number)
        if number == 1:
            raise ValueError(number)
        if number == 2 and self.run.attempt == 1:
            raise OSError(number)


def enqueue_twenty() -> list[Run[None]]:
    runs = []
    for number in range(20):
        runs.append(Struck.perform_in(0.001, number) if number == 3 else Struck.perform_async(number))
        if number in (0, 5):
            runs[-1].wait(0.5)
    return runs


def no_threads_for_a_while(count: int) -> str:
    """Enqueue where the next *count* threads cannot be started, and return what is wrong in the end."""
    left = [count]
    raw, proper = _thread.start_new_thread, threading.Thread.start

    def start_new_thread(*arguments: Any) -> int:
        refuse()
        return raw(*arguments)

    def start(thread: threading.Thread) -> None:
        refuse()
        proper(thread)

    def refuse() -> None:
        if left[0] > 0:
            left[0] -= 1
            raise RuntimeError("can't start new thread")

    _thread.start_new_thread = start_new_thread
    threading.Thread.start = start  # type: ignore[method-assign]
    runs = enqueue_twenty()
    # What asks again is the next enqueue, or a second that passes.
    for number in range(20, 40):
        runs.append(Struck.perform_async(number))
        runs[-1].wait(0.05)
    settled = inproc_jobs.drain(TIMEOUT)
    seen = sorted(ran())
    stats = inproc_jobs.stats()["struck"]
    expected = sorted([*range(40), 2])  # 2 is retried once
    wrong = [
        "" if settled else f"left: {stats}",
        "" if seen == expected else f"performed {seen}",
        "" if (stats.succeeded, stats.failed, stats.retried) == (39, 1, 1) else f"counted {stats}",
    ]
    return "; ".join(filter(None, wrong))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 30])
def test_threads_that_cannot_be_started(count: int):
    """Where the system gives no thread for a while, nothing is lost and nothing performed twice once it does again."""
    assert in_child(partial(no_threads_for_a_while, count)) == ""


@pytest.mark.parametrize("depth", range(8))
def test_an_enqueue_near_the_limit_of_recursion(depth: int):
    """An enqueue that runs into the recursion limit raises or is accepted, and harms no other one."""
    accepted = []
    room = [0]

    class Deep(Job, workers=2, name=f"deep-{depth}"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def dive(levels: int) -> None:
        if levels:
            dive(levels - 1)
        else:
            accepted.append(Deep.perform_async(1))

    for levels in range(sys.getrecursionlimit() - 150 + depth, sys.getrecursionlimit(), 8):
        try:
            dive(levels)
        except RecursionError:
            room[0] += 1
    late = [Deep.perform_async(2) for _ in range(20)]
    settled = inproc_jobs.drain(TIMEOUT)

    seen = ran()
    assert room[0] > 0
    assert settled
    assert all(run.state is RunState.SUCCEEDED for run in accepted + late)
    assert seen.count(2) == 20
    assert len(accepted) <= seen.count(1) <= len(accepted) + room[0]
