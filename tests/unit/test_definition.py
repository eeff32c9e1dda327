"""The seams an integration has: an observer of its own job classes, coroutines, the end of a thread."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from inproc_jobs import Discard, Job, Retry, RunState, _carriers, _threads, drain, job, shutdown
from inproc_jobs.errors import QueueFullError

WAIT = 10.0


class Observer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, tuple[object, ...], str | None]] = []

    def enqueued(self, run):
        self.told.append(("enqueued", run, run.args, run.state))

    def refused(self, run):
        self.told.append(("refused", run, run.args, run.state))

    def retried(self, run, error):
        self.told.append(("retried", run, run.args, str(error)))

    def closed(self, run):
        self.told.append(("closed", run, run.args, run.state))

    def of(self, run):
        return [(name, state) for name, one, _, state in self.told if one is run]


@pytest.fixture
def observer():
    return Observer()


def observed(observer, **options):
    class Observed(Job, **options):
        def perform(self, what=None, call=int):
            call()
            if what is not None:
                raise what

    Observed.__job__.observer = observer
    return Observed


@pytest.mark.parametrize("delay", [False, True], ids=["at once", "later"])
def test_an_observer_is_told(observer, delay):
    """Acceptance, another attempt and the end, each once, in order, while the arguments are there."""
    job_class = observed(observer, retry=Retry(attempts=2, on=(OSError,), backoff=0.0))
    enqueue = (lambda *args: job_class.perform_in(0, *args)) if delay else job_class.perform_async
    first = "scheduled" if delay else "queued"

    good, bad, gone = enqueue(), enqueue(OSError("no")), enqueue(Discard("gone"))

    assert drain(WAIT)
    assert observer.of(good) == [("enqueued", first), ("closed", "succeeded")]
    assert observer.of(bad) == [("enqueued", first), ("retried", "no"), ("closed", "failed")]
    assert observer.of(gone) == [("enqueued", first), ("closed", "discarded")]
    assert all(args for _, run, args, _ in observer.told if run is not good)


def test_an_observer_logs_failures_itself(observer, caplog):
    """A failed run of an observed job class is the observer's to log; one that was discarded is not."""
    job_class = observed(observer)
    job_class.perform_async(ValueError("no"))
    job_class.perform_async(Discard("gone"))

    assert drain(WAIT)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_observer_that_raises(observer, caplog):
    """What an observer raises is logged with the job's name, and harms no run."""
    job_class = observed(observer)
    observer.enqueued = observer.closed = lambda run: 1 / 0

    run = job_class.perform_async()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED
    assert [record.getMessage() for record in caplog.records] == [
        f"the observer of {job_class.__job__.name} raised ZeroDivisionError: division by zero"
    ] * 2


def test_an_observer_is_told_of_refusals(observer, gate):
    """A run that is not accepted is refused, not closed."""
    job_class = observed(observer, workers=1, max_queue=1)
    job_class.perform_async(call=gate)
    gate.entered()
    job_class.perform_async()
    with pytest.raises(QueueFullError):
        job_class.perform_async(1)

    gate.open()
    assert drain(WAIT)
    assert [name for name, _, args, _ in observer.told if args == (1,)] == ["refused"]


def test_an_observer_is_told_of_a_shutdown(observer):
    """What a shutdown discards is closed for the observer, too."""
    job_class = observed(observer)
    run = job_class.perform_in(60)

    shutdown(0)

    assert observer.of(run) == [("enqueued", "scheduled"), ("closed", "discarded")]


def test_coroutines_run_by_another():
    """An integration may bring coroutines to their end its own way, and the run is still the current one."""
    before = _carriers.run_coroutine
    ways = []

    def run(function, argument):
        ways.append(threading.get_ident())
        with asyncio.Runner() as runner:
            return runner.run(function(argument))

    @job
    async def double(number):
        await asyncio.to_thread(int)
        return 2 * number

    _carriers.run_coroutines_by(run)
    try:
        assert double.perform_async(4).result(WAIT) == 8
    finally:
        _carriers.run_coroutines_by(before)
    assert len(ways) == 1


def test_the_end_of_a_thread(caplog):
    """What asks for it is called in each thread that has worked, before it ends; what it raises is logged."""
    called = []

    def farewell():
        called.append(threading.current_thread().name)
        raise ValueError("farewell")

    before = _threads._farewells
    _threads.before_thread_ends(farewell)
    _threads.before_thread_ends(farewell)
    try:

        @job
        def name():
            return threading.current_thread().name

        worker = name.perform_async().result(WAIT)
        shutdown(WAIT)
        for thread in threading.enumerate():
            if thread.name == worker:
                thread.join(WAIT)
    finally:
        _threads._farewells = before
    assert called == [worker]
    assert "farewell" in caplog.text


def test_a_function_written_in_c_takes_what_it_takes():
    """Without a signature to check, wrong arguments are the run's failure."""
    largest = job(max, name="largest")

    assert largest.perform_async(1, 3, 2).result(WAIT) == 3
    with pytest.raises(TypeError):
        largest.perform_async().result(WAIT)
    assert repr(largest.__job__) == "<Definition of largest>"
