"""Drain, shutdown, restart: what they wait for, what they report, and from where they may be called."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from gates import until

from inproc_jobs import Job, RunState, ShutdownReport, configure, current_run, drain, restart, shutdown, signals, stats
from inproc_jobs.errors import RejectedError, ShutdownError

WAIT = 10.0  # seconds


class Passing(Job):
    def perform(self, what=None):
        return what() if what else None


def test_drain_waits_for_what_runs_what_waits_and_what_is_enqueued_meanwhile():
    """drain() returns True once everything has settled, a job's own offspring included."""
    performed: list[int] = []

    class Chain(Job, workers=1):
        def perform(self, left):
            performed.append(left)
            if left:
                Chain.perform_async(left - 1)

    Chain.perform_async(50)

    assert drain(WAIT) is True
    assert performed == list(range(50, -1, -1))


def test_drain_gives_up_at_its_timeout_and_accepts_on(gate):
    """drain(timeout) returns False in time; nothing is discarded and new work is taken."""
    run = Passing.perform_async(gate)
    started = time.monotonic()

    assert drain(0.05) is False

    assert 0.05 <= time.monotonic() - started < 2
    assert run.state in (RunState.QUEUED, RunState.RUNNING)
    assert Passing.perform_async() is not None
    gate.open()
    assert drain(WAIT)


def test_drain_inside_a_job_does_not_wait_for_that_job():
    """A job may drain: it waits for all others."""

    class Drainer(Job, workers=2):
        def perform(self):
            inner = Passing.perform_async()
            return drain(5), inner.done()

    assert Drainer.perform_async().result(WAIT) == (True, True)


def test_drain_of_nothing_returns_at_once():
    """An idle process is drained."""
    started = time.monotonic()

    assert drain() is True
    assert time.monotonic() - started < 0.5


def test_shutdown_finishes_what_was_accepted_and_reports_it():
    """ShutdownReport tells what succeeded and failed while it drained, and how long that took."""

    class Mail(Job, workers=1):
        def perform(self, *, fail):
            if fail:
                raise OSError

    for number in range(10):
        Mail.perform_async(fail=number % 5 == 0)

    report = shutdown(timeout=WAIT)

    assert isinstance(report, ShutdownReport)
    assert (report.finished + report.failed <= 10, report.discarded) == (True, [])
    assert 0 <= report.elapsed < WAIT
    seen = stats()[Mail.__job__.name]
    assert (seen.succeeded, seen.failed) == (8, 2)
    with pytest.raises(AttributeError):
        report.finished = 3


def test_shutdown_discards_and_names_what_it_could_not_finish(gate, record, caplog):
    """Past the deadline everything left ends as discarded with reason "shutdown", in the report and in the log."""

    class Mail(Job, workers=1, retry=lambda attempt, error: 1000.0):
        def perform(self, what=None):
            if what:
                what()
            else:
                raise OSError

    retrying = Mail.perform_async()
    assert not drain(WAIT)
    running = Mail.perform_async(gate)
    gate.entered()
    waiting = Mail.using(priority=3).perform_async(gate)
    scheduled = Mail.perform_in(1000)
    started = time.monotonic()

    report = shutdown(timeout=0.1)

    assert time.monotonic() - started < 1.1
    assert set(report.discarded) == {retrying, running, waiting, scheduled}
    for run in report.discarded:
        assert (run.state, run.reason, run.done()) == (RunState.DISCARDED, "shutdown", True)
        assert sum(run.id in line and "shutdown" in line for line in caplog.messages) == 1
        assert record.names(run)[-1] == "job_discarded"
    assert stats()[Mail.__job__.name].discarded == 4
    assert (
        stats()[Mail.__job__.name].queued,
        stats()[Mail.__job__.name].scheduled,
        stats()[Mail.__job__.name].retrying,
    ) == (0, 0, 0)


def test_a_run_past_the_deadline_is_told_to_stop(gate):
    """Past the shutdown deadline should_stop is true and checkpoint() raises ShutdownError."""
    seen: list = []

    def look():
        gate()
        seen.append(current_run().should_stop)
        try:
            current_run().checkpoint()
        except ShutdownError as error:
            seen.append(type(error))
        told.set()

    told = threading.Event()
    Passing.perform_async(look)
    gate.entered()

    shutdown(timeout=0.02)
    gate.open()

    assert told.wait(WAIT)
    assert seen == [True, ShutdownError]


def test_an_interruptible_run_is_interrupted_at_the_deadline():
    """interruptible=True: past the shutdown deadline ShutdownError is raised in the thread."""
    caught: list = []
    inside, out = threading.Event(), threading.Event()

    class Endless(Job, interruptible=True):
        def perform(self):
            try:
                self.spin()  # a call, for CPython 3.13 leaves a loop's jump back out of the try around it
            except ShutdownError as error:
                caught.append(type(error))
            finally:
                out.set()

        def spin(self):
            inside.set()
            deadline = time.monotonic() + WAIT
            while time.monotonic() < deadline:
                pass

    Endless.perform_async()
    assert inside.wait(WAIT)

    shutdown(timeout=0.02)

    assert out.wait(WAIT)
    assert caught == [ShutdownError]


def test_work_enqueued_while_draining_is_still_accepted(gate):
    """Until the deadline late requests and running jobs may enqueue, and it is run."""
    late: list = []

    def enqueue_late():
        gate()
        late.append(Passing.perform_async())

    Passing.perform_async(enqueue_late)
    gate.entered()
    reports: list[ShutdownReport] = []
    stopper = threading.Thread(target=lambda: reports.append(shutdown(timeout=WAIT)))
    stopper.start()
    late.append(Passing.perform_async())
    gate.open()
    stopper.join(WAIT)

    assert [run.state for run in late] == [RunState.SUCCEEDED] * 2
    assert reports[0].discarded == []


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: Passing.perform_async(),
        lambda: Passing.perform_in(1),
        lambda: Passing.perform_now(),
        lambda: Passing.using(when_full="block", block_timeout=5).perform_async(),
    ],
    ids=["async", "in", "now", "block"],
)
def test_after_the_shutdown_every_enqueue_is_refused(enqueue, record):
    """A ShutdownError says what to do; it is counted and announced as a rejection."""
    Passing.perform_async()
    shutdown(timeout=WAIT)
    before = stats()[Passing.__job__.name].rejected

    with pytest.raises(ShutdownError, match="restart") as caught:
        enqueue()

    assert caught.value.job == Passing.__job__.name
    assert stats()[Passing.__job__.name].rejected == before + 1
    assert len(record.data("job_rejected")) == 1


def test_where_nobody_listens_an_enqueue_after_the_shutdown_is_refused_too():
    """The usual case takes a shorter way."""
    assert Passing.perform_async().wait(WAIT)
    shutdown(timeout=WAIT)

    for enqueue in (Passing.perform_async, lambda: Passing.perform_in(1)):
        with pytest.raises(ShutdownError, match="restart"):
            enqueue()


def test_a_class_first_used_after_the_shutdown_is_refused_too():
    """A queue made after the shutdown is closed from the start."""
    shutdown(timeout=WAIT)

    class New(Job):
        def perform(self):
            pass

    with pytest.raises(ShutdownError):
        New.perform_async()
    restart()
    assert New.perform_async().wait(WAIT)


def test_shutdown_is_idempotent_and_safe_from_many_threads(gate, in_threads):
    """Every call returns the same report, also those that come during the first."""
    Passing.perform_async(gate)
    gate.entered()
    threading.Timer(0.05, gate.open).start()
    reports: list[ShutdownReport] = []

    in_threads(lambda _: reports.append(shutdown(timeout=WAIT)), 4)
    reports.append(shutdown())

    assert len({id(report) for report in reports}) == 1
    assert reports[0].finished == 1


def test_a_second_shutdown_brings_the_deadline_forward(gate):
    """A stop with less patience than the one under way cuts that one short."""
    run = Passing.perform_async(gate)
    gate.entered()
    patient = threading.Thread(target=shutdown, args=(WAIT,))
    patient.start()
    started = time.monotonic()

    report = shutdown(timeout=0.05)

    assert time.monotonic() - started < 5
    assert report.discarded == [run]
    patient.join(WAIT)
    assert not patient.is_alive()


def test_shutdown_inside_a_job_does_not_wait_for_that_job():
    """A job may stop the process: it is not waited for, and ends as itself."""

    class Stopper(Job, workers=1):
        def perform(self):
            inner = Passing.perform_async()
            report = shutdown(timeout=5)
            return inner.state, report.discarded, report.elapsed

    run = Stopper.perform_async()

    state, discarded, elapsed = run.result(WAIT)
    assert (state, discarded) == (RunState.SUCCEEDED, [])
    assert elapsed < 4
    assert run.state is RunState.SUCCEEDED


def test_a_shutdown_within_a_shutdown_does_not_wait_for_it():
    """A receiver calls it, or a signal's handler that has interrupted the other: each would wait for the other."""
    within = []

    def heard(sender: object, **extra: object) -> None:
        within.append(shutdown(60))

    signals.shutdown_started.connect(heard)
    try:
        stopping = threading.Thread(target=shutdown, args=(60,), daemon=True)
        stopping.start()
        stopping.join(10)
        stuck = stopping.is_alive()
    finally:
        signals.shutdown_started.disconnect(heard)

    assert not stuck
    assert within == [ShutdownReport(0, 0, [], 0.0)]


def test_shutdown_inside_two_jobs_at_once_ends(make_gate):
    """Two jobs that both stop the process do not wait for each other beyond the deadline."""
    doors = make_gate(), make_gate()

    class Stopper(Job, workers=2):
        def perform(self, door):
            door()
            return shutdown(timeout=0.5)

    runs = [Stopper.perform_async(door) for door in doors]
    for door in doors:
        door.entered()
    for door in doors:
        door.open()

    for run in runs:
        assert run.wait(WAIT)


def test_restart_accepts_work_again_each_time():
    """Shutdown and restart may follow each other; what came before stays counted."""

    class Mail(Job):
        def perform(self):
            return 1

    for _ in range(20):
        assert Mail.perform_async().result(WAIT) == 1
        shutdown(timeout=WAIT)
        restart()

    assert stats()[Mail.__job__.name].succeeded == 20


def test_restart_without_a_shutdown_changes_nothing(gate):
    """restart() on a working process leaves its runs alone."""
    run = Passing.perform_async(gate)
    gate.entered()

    restart()
    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


def test_the_default_deadline_is_the_setting(gate):
    """shutdown() without a timeout takes shutdown_timeout, which may be a timedelta."""
    configure(shutdown_timeout=timedelta(milliseconds=50))
    run = Passing.perform_async(gate)
    started = time.monotonic()

    report = shutdown()

    assert 0.05 <= time.monotonic() - started < 1.2
    assert report.discarded == [run]


def test_a_deadline_of_zero_discards_at_once(gate):
    """timeout=0 waits for nothing."""
    Passing.perform_async(gate)
    gate.entered()
    waiting = [Passing.perform_async(gate) for _ in range(5)]
    started = time.monotonic()

    report = shutdown(timeout=0)

    assert time.monotonic() - started < 1
    assert set(waiting) <= set(report.discarded)


@pytest.mark.parametrize("call", [drain, shutdown])
@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True], ids=repr)
def test_a_wrong_timeout_is_refused(call, timeout):
    """Drain and shutdown name what a timeout may be, and do nothing."""
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        call(timeout)

    assert Passing.perform_async().wait(WAIT)


def test_producers_racing_a_shutdown_lose_nothing(interleaved):
    """Every enqueue that races the stop either raises or gives a run that ends, finished or in the report."""

    class Mail(Job, workers=2):
        def perform(self):
            performed.append(1)

    for _ in range(40):
        performed: list[int] = []
        runs: list = []
        ended = threading.Event()
        started = threading.Semaphore(0)

        def produce(runs=runs, ended=ended, started=started):
            started.release()
            try:
                while not ended.is_set():
                    runs.append(Mail.perform_async())
            except RejectedError:
                pass

        producers = [threading.Thread(target=produce) for _ in range(3)]
        for producer in producers:
            producer.start()
        for _ in producers:
            assert started.acquire(timeout=WAIT)

        report = shutdown(timeout=0.005)
        ended.set()
        for producer in producers:
            producer.join(WAIT)
            assert not producer.is_alive()

        assert all(run.wait(WAIT) for run in runs)
        discarded = {run for run in runs if run.state is RunState.DISCARDED}
        assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.DISCARDED}
        # A run that is at work at the deadline is discarded, and may have done its part all the same.
        assert 0 <= len(performed) - (len(runs) - len(discarded)) <= 2
        assert discarded <= set(report.discarded)
        restart()


@pytest.mark.parametrize("stop", [lambda: drain(WAIT), lambda: shutdown(WAIT)], ids=["drain", "shutdown"])
def test_a_cancelled_delay_holds_up_no_stop(stop):
    """What was cancelled is not waited for, though it would have come due before the deadline."""
    for _ in range(5):  # so that the cancelled one stays in the heap
        Passing.perform_in(1000)
    Passing.perform_in(2).cancel()

    before = time.monotonic()
    stop()

    assert time.monotonic() - before < 1


def test_a_drain_ends_when_what_it_waits_for_is_cancelled():
    """It is told at once, and does not wait until the run would have been due."""
    run = Passing.perform_in(20)
    drained: list[bool] = []
    draining = threading.Thread(target=lambda: drained.append(drain(30)))
    draining.start()
    until(lambda: Passing.__job__.queue.threads.watchers)
    run.cancel()

    draining.join(5)
    assert drained == [True]


def test_after_a_restart_an_enqueue_takes_no_lock_again():
    """Nobody stands in line for it, as before the shutdown."""
    Passing.perform_async().wait(WAIT)
    shutdown(WAIT)
    restart()
    Passing.perform_async().wait(WAIT)  # for the start of a thread it does
    until(lambda: not Passing.__job__.queue.threads.at_work())
    runs: list[object] = []

    with Passing.__job__.queue.mutex:
        producer = threading.Thread(target=lambda: runs.append(Passing.perform_async().wait(WAIT)))
        producer.start()
        producer.join(5)

        assert runs == [True]


def test_restart_without_a_shutdown_keeps_a_queues_place(gate):
    """A queue that waits for a thread still gets one."""

    class First(Job, workers=1):
        def perform(self):
            gate()

    class Second(Job, workers=1):
        def perform(self):
            pass

    configure(max_threads=1)
    First.perform_async()
    gate.entered()
    run = Second.perform_async()
    restart()
    gate.open()
    assert run.wait(WAIT)


def test_a_run_keeps_the_end_that_was_announced(gate):
    """A cancel that meets a run which a shutdown has just discarded changes nothing: one end, told alike everywhere."""

    class Mail(Job, workers=1, retry=lambda attempt, error: 0.0):
        def perform(self):
            gate()
            raise OSError

    run = Mail.perform_async()
    gate.entered()
    shutdown(0)
    gate.open()

    assert run.cancel() is False
    assert (run.state, run.reason) == (RunState.DISCARDED, "shutdown")


def test_a_drain_ends_as_soon_as_a_run_in_a_callers_thread_has(gate):
    """It is woken by the last run, whoever performs it."""
    caller = threading.Thread(target=Passing.perform_now, args=(gate,))
    drained: list[tuple[bool, float]] = []
    caller.start()
    gate.entered()
    waiter = threading.Thread(target=lambda: drained.append((drain(WAIT), time.monotonic())))
    waiter.start()
    threading.Event().wait(0.2)

    opened = time.monotonic()
    gate.open()

    waiter.join(WAIT)
    caller.join(WAIT)
    ((done, when),) = drained
    assert done
    assert when - opened < 2


def test_a_restart_that_an_error_has_struck_is_made_good_by_the_next(struck):
    """A MemoryError half-way leaves a process that accepts no work yet, and that can be restarted."""

    class Mail(Job):
        def perform(self):
            return "sent"

    assert Mail.perform_async().result(WAIT) == "sent"
    shutdown(WAIT)

    with struck("JobQueue.reopen") as strikes, pytest.raises(MemoryError):
        restart()
    with pytest.raises(ShutdownError):
        Mail.perform_async()
    restart()

    assert strikes
    assert Mail.perform_async().result(WAIT) == "sent"
