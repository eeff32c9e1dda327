"""A run: its states, waiting for it, its value or error, cancelling it, and what it lets go of."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import os
import re
import sys
import threading
import tracemalloc
import weakref
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from gates import until

from inproc_jobs import Discard, Job, Run, RunState, configure, current_run, drain, job, shutdown, signals, stats
from inproc_jobs.errors import (
    DeadlockError,
    QueueFullError,
    RunCancelledError,
    RunDiscardedError,
    WrongProcessError,
)

WAIT = 10.0  # seconds
FINAL = {"job_succeeded", "job_failed", "job_discarded", "job_cancelled"}


def repr_of(value):
    """Name a test's parameter, shortly."""
    return repr(value)[:20]


class Argument:
    """Something whose end a weak reference can see."""


class Passing(Job):
    def perform(self, what=None):
        return what() if callable(what) else what


class Single(Job, workers=1):
    def perform(self, what=None):
        return what() if callable(what) else what


# States.


def test_a_run_goes_from_queued_to_running_to_succeeded(make_gate):
    """The state of a run says where it is."""
    first, second = make_gate(), make_gate()
    ahead = Single.perform_async(first)
    first.entered()

    run = Single.perform_async(second)
    assert run.state is RunState.QUEUED
    first.open()
    second.entered()
    assert run.state is RunState.RUNNING
    second.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED
    assert ahead.done()


def test_a_state_is_a_string_too():
    """What is documented can be compared with, and stored."""
    assert [*RunState] == [
        "scheduled",
        "queued",
        "running",
        "retrying",
        "succeeded",
        "failed",
        "discarded",
        "cancelled",
    ]


def test_a_delayed_run_is_scheduled_and_one_between_attempts_is_retrying():
    """perform_in gives a scheduled run; a failed attempt with another to come a retrying one that shows the error."""

    @job(retry=lambda attempt, error: 1000.0)
    def fail():
        raise OSError("no route")

    assert Passing.perform_in(1000).state is RunState.SCHEDULED
    run = fail.perform_async()
    assert not drain(WAIT)

    assert run.state is RunState.RETRYING
    assert run.attempt == 1
    assert isinstance(run.error, OSError)
    assert run.error.__traceback__ is None


def test_the_repr_of_a_run_says_what_and_where(gate):
    """A run can be read in a debugger: its id, its job, its state, its attempt."""
    run = Single.perform_async(gate)
    gate.entered()
    waiting = Single.perform_async()

    assert re.fullmatch(r"<Run [0-9a-f]+-\d+ of test_run\.Single: running, attempt 1>", repr(run))
    assert re.fullmatch(r"<Run [0-9a-f]+-\d+ of test_run\.Single: queued>", repr(waiting))


def test_every_run_has_an_id_of_its_own():
    """No two runs share an id."""
    runs = [Passing.perform_async() for _ in range(500)]

    assert len({run.id for run in runs}) == 500


def test_a_run_knows_its_job_and_arguments_until_it_ends(gate):
    """job, args and kwargs show what was asked; once ended, the arguments are gone."""

    class Mail(Job):
        def perform(self, gate, *, subject):
            gate()

    run = Mail.perform_async(gate, subject="Hi")
    gate.entered()
    assert (run.job, run.args, dict(run.kwargs)) == (Mail, (gate,), {"subject": "Hi"})
    with pytest.raises(TypeError):
        run.kwargs["subject"] = "changed"
    gate.open()

    assert run.wait(WAIT)
    assert (run.job, run.args, dict(run.kwargs)) == (Mail, (), {})


def test_the_times_of_a_run_are_aware_and_in_order():
    """enqueued_at, started_at and finished_at are aware UTC datetimes, each after the one before."""
    before = datetime.now(UTC)

    run = Passing.perform_async()
    run.result(WAIT)

    assert before - timedelta(seconds=1) < run.enqueued_at <= run.started_at <= run.finished_at
    assert run.finished_at < datetime.now(UTC) + timedelta(seconds=1)
    assert {moment.utcoffset() for moment in (run.enqueued_at, run.started_at, run.finished_at)} == {timedelta(0)}


def test_a_run_that_has_not_started_has_no_later_times():
    """started_at and finished_at are None until they happen; the attempt is 0."""
    run = Passing.perform_in(1000)

    assert (run.started_at, run.finished_at, run.attempt, run.error, run.reason) == (None, None, 0, None, None)


# Waiting.


def test_wait_returns_false_after_its_timeout_and_the_run_goes_on(gate):
    """wait(timeout) bounds the wait, not the run."""
    run = Passing.perform_async(gate)

    assert run.wait(0.01) is False
    assert run.wait(0) is False
    gate.open()

    assert run.wait(WAIT) is True
    assert run.done()


def test_result_returns_what_perform_returned():
    """result() is the value of perform, however often it is asked."""
    run = Passing.perform_async("value")

    assert run.result(WAIT) == "value"
    assert run.result() == "value"


def test_result_raises_a_timeout_that_says_the_run_goes_on(gate):
    """result(timeout) raises TimeoutError, and the run still ends well."""
    run = Passing.perform_async(gate)

    with pytest.raises(TimeoutError, match="goes on"):
        run.result(0.01)
    gate.open()

    assert run.wait(WAIT)


def test_a_wait_without_a_limit_ends_with_the_run(gate):
    """However long that takes."""
    run = Passing.perform_async(gate)
    threading.Timer(1.2, gate.open).start()

    assert run.wait() is True


def test_a_wait_of_a_century_ends_with_the_run(gate):
    """The longest timeout there may be is no trouble to a lock."""
    run = Passing.perform_async(gate)
    threading.Timer(0.05, gate.open).start()

    assert run.wait(3e9) is True


def test_what_result_says_where_there_is_none(gate):
    """Its errors name the run, and what became of it."""

    def give_up():
        raise Discard("address unknown")

    late, gone, dropped = Passing.perform_async(gate), Passing.perform_in(1000), Passing.perform_async(give_up)
    gate.entered()
    gone.cancel()
    dropped.wait(WAIT)

    said = []
    for run in (late, gone, dropped):
        with pytest.raises((TimeoutError, RunCancelledError, RunDiscardedError)) as caught:
            run.result(0.01)
        said.append(str(caught.value))
    assert said == [
        f"{late!r} has not ended within 0.01 s; it goes on",
        f"{gone!r} was cancelled",
        f"{dropped!r} was discarded: address unknown",
    ]


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError]
)
def test_result_raises_the_jobs_own_exception(error):
    """Whatever perform raised comes out of result()."""

    def fail():
        raise error("mine")

    run = Passing.perform_async(fail)

    assert run.wait(WAIT)
    assert run.state is RunState.FAILED
    for _ in range(2):
        with pytest.raises(error, match="mine") as caught:
            run.result(0)
        assert type(caught.value) is error


def test_result_raises_a_copy_that_tells_the_whole_story():
    """Cause, context and arguments are the job's; what the caller does with its copy changes nothing of the run's."""

    def fail():
        try:
            raise KeyError("context")
        except KeyError:
            raise ValueError("mine", 2) from OSError("cause")

    run = Passing.perform_async(fail)
    run.wait(WAIT)

    with pytest.raises(ValueError, match="mine") as caught:
        run.result()

    assert caught.value is not run.error
    assert caught.value.args == ("mine", 2)
    assert (repr(caught.value.__cause__), repr(caught.value.__context__)) == ("OSError('cause')", "KeyError('context')")
    assert caught.value.__suppress_context__ is True
    assert run.error.__traceback__ is None


class Unlike(Exception):
    """Cannot be made from its args."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Disguised(Exception):
    """Is something else when it is copied."""

    def __copy__(self):
        return KeyError("another")


@pytest.mark.parametrize(("error", "text"), [(Unlike("one", "two"), "one and two"), (Disguised("itself"), "itself")])
def test_result_raises_an_error_that_cannot_be_copied(error, text):
    """Then it is the job's own error, again and again, with a fresh traceback each time."""

    def fail():
        raise error

    run = Passing.perform_async(fail)
    run.wait(WAIT)

    depths = []
    for _ in range(3):
        with pytest.raises(type(error), match=text) as caught:
            run.result()
        assert caught.value is error
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_result_of_a_cancelled_run_says_so():
    """A cancelled run's result is a RunCancelledError, which is also concurrent.futures' own."""
    run = Passing.perform_in(1000)
    run.cancel()

    with pytest.raises(RunCancelledError) as caught:
        run.result(WAIT)

    assert isinstance(caught.value, concurrent.futures.CancelledError)
    assert run.id in str(caught.value)


def test_result_of_a_discarded_run_names_the_reason():
    """A discarded run's result is a RunDiscardedError with the reason."""

    def give_up():
        raise Discard("address unknown")

    run = Passing.perform_async(give_up)

    with pytest.raises(RunDiscardedError, match="address unknown") as caught:
        run.result(WAIT)
    assert caught.value.reason == run.reason == "address unknown"


def test_many_threads_may_wait_for_one_run(gate, in_threads):
    """Everybody who waits is woken."""
    run = Passing.perform_async(gate)
    threading.Timer(0.05, gate.open).start()

    in_threads(lambda _: run.result(WAIT), 8)

    assert run.done()


def test_no_wake_up_is_lost_between_the_end_of_a_run_and_a_waiter(in_threads, interleaved):
    """A wait that begins just as the run ends does not miss the end."""

    def wait(_):
        for _ in range(300):
            assert Passing.perform_async().wait(WAIT)

    in_threads(wait, 4)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True, [], 10**400], ids=repr_of)
def test_a_wrong_timeout_is_refused_by_name(timeout):
    """Wait and result say what a timeout may be."""
    run = Passing.perform_in(1000)

    for call in (run.wait, run.result):
        with pytest.raises((TypeError, ValueError), match="timeout must be"):
            call(timeout)


# Awaiting.


def test_a_run_can_be_awaited_from_asyncio(gate):
    """Await run gives the value, and the loop goes on meanwhile."""
    turns: list[int] = []

    async def main():
        run = Passing.perform_async(gate)

        async def others():
            turns.append(1)
            gate.open()

        task = asyncio.create_task(others())
        value = await asyncio.wait_for(_result(run), WAIT)
        await task
        return value

    asyncio.run(main())

    assert turns == [1]


async def _result(run):
    return await run


def test_awaiting_a_failed_run_raises_its_error():
    """Await run raises what the job raised."""

    def fail():
        raise LookupError("gone")

    async def main():
        await Passing.perform_async(fail)

    with pytest.raises(LookupError, match="gone"):
        asyncio.run(main())


def test_an_ended_run_can_be_awaited_and_awaited_again():
    """Await on a run that has ended returns at once, each time."""
    run = Passing.perform_async(7)
    run.result(WAIT)

    async def main():
        return [await run, await run, *await asyncio.gather(_result(run), _result(run))]

    assert asyncio.run(main()) == [7, 7, 7, 7]


def test_awaiting_a_run_of_another_process_is_refused(monkeypatch):
    """It can only end there: whoever awaits it here is told, instead of waiting for ever."""
    run = Passing.perform_in(1000)

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: run._queue.pid + 1)
            with pytest.raises(WrongProcessError, match="forked"):
                await run

    asyncio.run(main())


def test_giving_up_an_await_leaves_the_run_alone(gate):
    """Cancelling the task that awaits does not cancel the run."""
    run = Passing.perform_async(gate)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_result(run), 0.01)

    asyncio.run(main())
    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


def test_waits_that_were_given_up_leave_nothing_behind(gate, no_collector):
    """Whoever polls a run that takes hours, from threads or event loops, does not fill the memory."""
    run = Passing.perform_async(gate)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_result(run), 0.01)

    asyncio.run(main())
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(3000):
            if number == 1000:
                before = tracemalloc.get_traced_memory()[0]
            run.wait(0)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert loops[0]() is None
    assert grown < 50_000


def test_an_event_loop_that_has_closed_harms_no_run(gate):
    """A run whose awaiting loop is gone ends all the same, and nothing is logged as broken."""
    run = Passing.perform_async(gate)
    loop = asyncio.new_event_loop()
    task = loop.create_task(_result(run))
    loop.run_until_complete(asyncio.wait([task], timeout=0.01))
    loop.close()

    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED
    task._log_destroy_pending = False  # asyncio would complain of the task that this test leaves undone


def test_an_error_that_strikes_a_wake_up_leaves_no_task_waiting(gate):
    """An event loop only logs it, so the task is woken once more."""
    run = Passing.perform_async(gate)
    logged: list[dict[str, object]] = []

    class Struck(asyncio.Future):
        calls = 0

        def set_result(self, result):
            Struck.calls += 1
            if Struck.calls == 1:
                raise MemoryError
            super().set_result(result)

    async def main():
        task = asyncio.ensure_future(_result(run))
        loop.call_soon(gate.open)  # when the task waits
        await task

    loop = asyncio.new_event_loop()
    loop.create_future = lambda: Struck(loop=loop)
    loop.set_exception_handler(lambda loop, context: logged.append(context))
    loop.call_later(WAIT, loop.stop)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()

    assert Struck.calls == 2
    assert [type(context["exception"]) for context in logged] == [MemoryError]


# Deadlocks.


def test_waiting_for_oneself_is_a_deadlock_error():
    """A job that waits for its own run is told so at once."""
    run = Passing.perform_async(lambda: current_run().wait())

    with pytest.raises(DeadlockError):
        run.result(WAIT)


@pytest.mark.parametrize("timeout", [None, 30])
def test_waiting_in_the_only_worker_for_the_same_class_is_a_deadlock_error(timeout):
    """A job of the only worker that waits for another run of its class fails with what to do, instead of hanging."""

    def wait_for_sibling():
        return Single.perform_async().result(timeout)

    run = Single.perform_async(wait_for_sibling)

    with pytest.raises(DeadlockError, match=r"workers") as caught:
        run.result(WAIT)
    assert isinstance(caught.value, RuntimeError)
    assert drain(WAIT)


def test_waiting_for_a_delayed_run_of_the_only_worker_is_a_deadlock_error():
    """Also a run that is not due yet needs the worker that waits for it."""
    run = Single.perform_async(lambda: Single.perform_in(0.05).result())

    with pytest.raises(DeadlockError):
        run.result(WAIT)


def test_waiting_with_a_second_worker_is_fine():
    """With a worker to spare, a job may wait for another one of its class."""
    run = Passing.perform_async(lambda: Passing.perform_async("inner").result(WAIT))

    assert run.result(WAIT) == "inner"


def test_two_workers_that_wait_for_each_other_are_told(make_gate):
    """Of two workers that wait for runs behind each other, one gets a DeadlockError and the other its value."""
    first, second = make_gate(), make_gate()

    class Pair(Job, workers=2):
        def perform(self, gate):
            if gate is None:
                return "inner"
            gate()
            return Pair.perform_async(None).result()

    runs = [Pair.perform_async(first), Pair.perform_async(second)]
    first.entered()
    second.entered()
    first.open()
    second.open()

    for run in runs:
        assert run.wait(WAIT), "two workers wait for each other"
    assert sorted(run.state.value for run in runs) == ["failed", "succeeded"] or {run.state for run in runs} == {
        RunState.SUCCEEDED
    }


def test_two_jobs_may_wait_for_each_other_a_while(make_gate):
    """A wait with a limit ends by itself, so it is no deadlock."""
    doors = make_gate(), make_gate()

    class Pair(Job, workers=2):
        def perform(self, number, seconds):
            doors[number]()
            return runs[1 - number].wait(seconds)

    runs = [Pair.perform_async(0, WAIT), Pair.perform_async(1, 0.3)]
    for door in doors:
        door.entered()
    for door in doors:
        door.open()

    assert [run.result(WAIT) for run in runs] == [True, False]


def test_tasks_beside_two_async_jobs_may_await_them(make_gate):
    """Only the task that performs a job holds it up; what else it has started may wait for whatever it likes."""
    doors = make_gate(), make_gate()

    class Pair(Job, workers=2):
        async def perform(self, number):
            doors[number]()
            task = asyncio.ensure_future(_result(runs[1 - number]))
            done, _ = await asyncio.wait([task], timeout=0.5)
            task.cancel()
            return [task.exception() for task in done]

    runs = [Pair.perform_async(number) for number in range(2)]
    for door in doors:
        door.entered()
    for door in doors:
        door.open()

    for run in runs:
        assert run.result(WAIT) in ([], [None])


def test_a_deadlock_across_two_classes_is_told(make_gate):
    """Single workers of two classes that wait for each other's next run do not hang."""
    doors = make_gate(), make_gate()

    class Left(Job, workers=1):
        def perform(self, gate):
            if gate is not None:
                gate()
                Right.perform_async(None).result()

    class Right(Job, workers=1):
        def perform(self, gate):
            if gate is not None:
                gate()
                Left.perform_async(None).result()

    runs = [Left.perform_async(doors[0]), Right.perform_async(doors[1])]
    for door in doors:
        door.entered()
    for door in doors:
        door.open()

    for run in runs:
        assert run.wait(WAIT), "two classes wait for each other"
    assert {type(run.error) for run in runs} == {DeadlockError, type(None)}


def test_a_deadlock_for_want_of_threads_is_told():
    """With one thread in the process, a job that waits for a run of another class cannot go on, and is told."""
    configure(max_threads=1)
    run = Single.perform_async(lambda: Passing.perform_async().result())

    with pytest.raises(DeadlockError, match="max_threads"):
        run.result(WAIT)
    assert drain(WAIT)


def test_awaiting_in_the_only_worker_for_the_same_class_is_a_deadlock_error():
    """Await inside an async job is watched as wait is."""

    @job(workers=1)
    async def outer(*, again):
        if again:
            await outer.perform_async(again=False)

    with pytest.raises(DeadlockError):
        outer.perform_async(again=True).result(WAIT)


def test_waiting_in_a_thread_of_an_async_job_is_a_deadlock_error():
    """A thread that a coroutine waits for acts for the worker that performs the coroutine."""

    class Asking(Job, workers=1):
        async def perform(self, asks=True):
            if asks:
                await asyncio.to_thread(lambda: Asking.perform_async(False).result(WAIT))

    with pytest.raises(DeadlockError, match="workers"):
        Asking.perform_async().result(WAIT)
    assert drain(WAIT)


def test_two_async_jobs_that_await_each_other_are_told(make_gate):
    """Await inside an async job is watched also where two workers wait for each other."""
    doors = make_gate(), make_gate()

    @job(workers=2)
    async def outer(gate):
        if gate is not None:
            gate()
            await outer.perform_async(None)

    runs = [outer.perform_async(door) for door in doors]
    for door in doors:
        door.entered()
    for door in doors:
        door.open()

    for run in runs:
        assert run.wait(WAIT), "two async jobs await each other"


# Cancelling.


@pytest.mark.parametrize("delay", [None, 1000])
def test_cancelling_a_run_that_waits_removes_it(gate, record, delay):
    """cancel() before the start: the run is out of the queue, ends as cancelled, and is never performed."""
    performed: list[int] = []
    Single.perform_async(gate)
    gate.entered()
    run = (
        Single.perform_async(lambda: performed.append(1))
        if delay is None
        else Single.perform_in(delay, lambda: performed.append(1))
    )

    assert run.cancel() is True

    assert (run.state, run.done(), run.args) == (RunState.CANCELLED, True, ())
    seen = stats()[Single.__job__.name]
    assert (seen.queued, seen.scheduled) == (0, 0)
    gate.open()
    assert drain(WAIT)
    assert performed == []
    assert record.names(run) == ["job_enqueued", "job_cancelled"]


def test_cancelling_a_run_between_attempts_ends_it():
    """cancel() while a retry is waited for: there is no other attempt."""
    run = Passing.using(retry=lambda attempt, error: 1000.0).perform_async(lambda: 1 / 0)
    drain(WAIT)
    assert run.state is RunState.RETRYING

    assert run.cancel() is True

    assert (run.state, run.error, stats()[Passing.__job__.name].retrying) == (RunState.CANCELLED, None, 0)


def test_cancelling_a_running_run_asks_it_to_stop(gate, record):
    """cancel() while running: should_stop turns true, checkpoint() raises, and the run ends as cancelled."""
    seen: list[bool] = []

    class Long(Job, retry=lambda attempt, error: 0.0):
        def perform(self):
            seen.append(self.should_stop)
            gate()
            seen.append(self.should_stop)
            try:
                self.checkpoint()
            except RunCancelledError as error:
                said.append(str(error))
                raise

    said: list[str] = []
    run = Long.perform_async()
    gate.entered()
    at_work = repr(run)

    assert run.cancel() is True
    assert run.state is RunState.RUNNING
    gate.open()

    assert run.wait(WAIT)
    assert seen == [False, True]
    assert said == [f"{at_work} was cancelled"]
    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)
    assert record.names(run) == ["job_enqueued", "job_started", "job_cancelled"]


def test_a_running_run_that_ignores_its_cancellation_may_succeed(gate):
    """A thread cannot be stopped from outside: a job that does not look succeeds."""
    run = Passing.perform_async(gate)
    gate.entered()

    run.cancel()
    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


def test_a_cancelled_run_that_fails_is_not_tried_again(gate):
    """Whatever a cancelled run raises, it ends as cancelled, without another attempt."""

    def fail():
        gate()
        raise OSError

    run = Passing.using(retry=lambda attempt, error: 0.0).perform_async(fail)
    gate.entered()

    run.cancel()
    gate.open()

    assert run.wait(WAIT)
    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)


def test_cancelling_a_run_that_overran_keeps_it_from_being_tried_again(gate, record):
    """cancel() counts also for a run that is past its timeout already."""

    class Long(Job, timeout=0.02, retry=lambda attempt, error: 0.0):
        def perform(self):
            gate()
            self.checkpoint()

    run = Long.perform_async()
    gate.entered()
    until(lambda: run.should_stop)

    assert run.cancel() is True
    gate.open()

    assert run.wait(WAIT)
    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)


def test_a_cancelled_run_that_overruns_stays_cancelled(gate, record):
    """A timeout that passes after cancel() does not turn the cancellation into a failure with retries."""

    class Long(Job, timeout=0.05, retry=lambda attempt, error: 0.0):
        def perform(self):
            gate()
            self.checkpoint()

    run = Long.perform_async()
    gate.entered()
    assert run.cancel() is True
    until(lambda: record.data("job_overran"))
    gate.open()

    assert run.wait(WAIT)
    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)


def test_a_cancelled_run_ends_although_an_error_strikes_its_end(struck):
    """It has been taken out already, so that nobody else would."""
    run = Passing.perform_in(1000)

    with struck("Run._close") as strikes, pytest.raises(MemoryError):
        run.cancel()

    assert strikes
    assert (run.state, run.done()) == (RunState.CANCELLED, True)


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.11.7 itself can loop for ever under a trace function (DO_TRACING)"
)
def test_a_run_that_shows_its_end_shows_when_that_was():
    """Whoever looks from another thread, at whichever line, sees both or neither."""
    run = Passing.perform_in(1000)
    seen = set()

    def look(*_):
        seen.add((run.state is RunState.CANCELLED, run.finished_at is not None))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        run.cancel()
    finally:
        sys.settrace(before)

    assert seen == {(False, False), (True, True)}


def test_who_waits_for_a_cancelled_run_is_woken_although_an_error_strikes(struck):
    """Nobody comes by once more who could do it."""
    run = Passing.perform_in(1000)
    waiter = threading.Thread(target=run.wait)
    waiter.start()
    until(lambda: run._waiters)

    with struck("Run._wake") as strikes, pytest.raises(MemoryError):
        run.cancel()

    assert strikes
    waiter.join(WAIT)
    assert not waiter.is_alive()


def test_who_waits_for_a_refused_run_is_woken(gate):
    """A receiver of job_rejected may hand the run on; there is nothing to wait for."""
    waiters: list[threading.Thread] = []

    class Mail(Job, workers=1, max_queue=1):
        def perform(self, gate=None):
            if gate:
                gate()

    def hand_on(sender, run, **extra):
        waiters.append(threading.Thread(target=run.wait, args=(60,)))
        waiters[0].start()
        until(lambda: run._waiters)

    Mail.perform_async(gate)
    gate.entered()
    Mail.perform_async()
    with signals.job_rejected.connected_to(hand_on), pytest.raises(QueueFullError):
        Mail.perform_async()

    waiters[0].join(WAIT)
    assert not waiters[0].is_alive()


def test_cancelling_an_ended_run_changes_nothing():
    """cancel() on a run that has ended returns False."""
    run = Passing.perform_async(3)
    run.result(WAIT)

    assert run.cancel() is False
    assert run.result() == 3


def test_a_run_cancelled_by_a_receiver_of_job_enqueued_is_not_performed(record):
    """cancel() is allowed from the first moment on."""
    performed: list[int] = []

    def cancel(sender, run, **extra):
        run.cancel()

    with signals.job_enqueued.connected_to(cancel):
        runs = [Passing.perform_async(lambda: performed.append(1)), Passing.perform_in(0, lambda: performed.append(1))]

    for run in runs:
        assert run.wait(WAIT)
        assert run.state is RunState.CANCELLED
    assert performed == []
    assert drain(WAIT)


def test_a_cancellation_that_races_the_start_ends_every_run_once(record, in_threads, interleaved):
    """However cancel() and the worker race: a run is performed or cancelled unstarted, and closed once."""

    class Raced(Job, workers=2):
        def perform(self, number):
            performed.append(number)

    performed: list[int] = []
    runs: list[tuple[int, Run]] = []

    def produce(base):
        for number in range(base * 1000, base * 1000 + 300):
            run = Raced.perform_async(number)
            run.cancel()
            runs.append((number, run))

    in_threads(produce, 4)
    assert drain(WAIT)

    assert max(Counter(performed).values(), default=1) == 1
    for number, run in runs:
        names = record.names(run)
        assert run.done()
        assert len(FINAL & set(names)) == 1
        assert len([name for name in names if name in FINAL]) == 1
        if number not in performed:
            assert run.state is RunState.CANCELLED
    seen = stats()[Raced.__job__.name]
    assert (seen.succeeded + seen.cancelled, seen.queued) == (1200, 0)


def test_a_cancellation_that_races_a_delay_ends_every_run_once(record, in_threads):
    """However cancel() and the timer race, each delayed run is closed once and no count is left over."""

    class Delayed(Job, workers=2):
        def perform(self):
            pass

    runs: list[Run] = []

    def produce(_):
        for _ in range(200):
            run = Delayed.perform_in(0.001)
            run.wait(0.0011)
            run.cancel()
            runs.append(run)

    in_threads(produce, 4)
    assert drain(WAIT)

    for run in runs:
        assert [name in FINAL for name in record.names(run)].count(True) == 1
    seen = stats()[Delayed.__job__.name]
    assert (seen.succeeded + seen.cancelled, seen.queued, seen.scheduled) == (800, 0, 0)


# One closing.


def test_one_signal_one_count_and_one_log_line_close_a_run(record, caplog):
    """Each outcome has exactly one closing signal and one count, and unless it is a success one log line."""
    caplog.set_level(logging.INFO, "inproc_jobs")

    def give_up():
        raise Discard("why")

    class Four(Job):
        def perform(self, what=None):
            if what:
                what()

    good = Four.perform_async()
    bad = Four.perform_async(lambda: 1 / 0)
    dropped = Four.perform_async(give_up)
    gone = Four.perform_in(1000)
    gone.cancel()
    drain(WAIT)

    for run, name, lines in (
        (good, "job_succeeded", 0),
        (bad, "job_failed", 1),
        (dropped, "job_discarded", 1),
        (gone, "job_cancelled", 1),
    ):
        assert run.wait(WAIT)
        assert [sent for sent in record.names(run) if sent in FINAL] == [name]
        assert sum(run.id in line for line in caplog.messages) == lines
    seen = stats()[Four.__job__.name]
    assert (seen.succeeded, seen.failed, seen.discarded, seen.cancelled) == (1, 1, 1, 1)


def test_what_the_log_says_of_each_end(caplog):
    """Each line names the run, says how it ended and why, at the level of its weight, and carries what to filter by."""
    caplog.set_level(logging.INFO, "inproc_jobs")

    def give_up():
        raise Discard("nobody\nthere")

    bad, dropped = Passing.perform_async(lambda: 1 / 0), Passing.perform_async(give_up)
    gone = Passing.perform_in(1000)
    gone.cancel()
    drain(WAIT)

    said = {record.run_id: record for record in caplog.records}
    assert [(said[run.id].levelname, said[run.id].getMessage()) for run in (bad, dropped, gone)] == [
        ("ERROR", f"<Run {bad.id} of test_run.Passing: failed, attempt 1>: ZeroDivisionError: division by zero"),
        ("WARNING", f"<Run {dropped.id} of test_run.Passing: discarded, attempt 1>: nobody\\nthere"),
        ("INFO", f"<Run {gone.id} of test_run.Passing: cancelled>"),
    ]
    assert "Traceback" in said[bad.id].exc_text
    assert (said[dropped.id].exc_text, said[gone.id].exc_text) == (None, None)
    assert {(record.name, record.job) for record in caplog.records} == {("inproc_jobs.run", "test_run.Passing")}


def test_what_the_closing_signals_bring(record):
    """job_failed brings the error, job_discarded the reason, and each the run, which has ended but is not done yet."""
    done: list[bool] = []

    def give_up():
        raise Discard("why")

    def look(sender, run, **extra):
        done.append(run.done())

    with signals.job_succeeded.connected_to(look):
        good = Passing.perform_async()
        bad, dropped = Passing.perform_async(lambda: 1 / 0), Passing.perform_async(give_up)
        gone = Passing.perform_in(1000)
        gone.cancel()
        assert drain(WAIT)

    assert record.data("job_succeeded") == [{"run": good}]
    assert record.data("job_failed") == [{"run": bad, "error": bad.error}]
    assert record.data("job_discarded") == [{"run": dropped, "reason": "why"}]
    assert record.data("job_cancelled") == [{"run": gone}]
    assert done == [False]


def test_the_closing_signal_is_sent_before_wait_returns():
    """Who waited for a run finds what the receivers of its closing signal did."""
    told: list[Run] = []

    def tell(sender, run, **extra):
        threading.Event().wait(0.002)
        told.append(run)

    with signals.job_succeeded.connected_to(tell):
        for _ in range(20):
            run = Passing.perform_async()
            assert run.wait(WAIT)
            assert told[-1] is run


def test_a_run_whose_end_is_being_announced_is_not_done_because_a_shutdown_meets_it(gate, record):
    """Whoever waits is woken when the receivers have returned, whoever else would have ended the run meanwhile."""

    def hold(sender, run, **extra):
        gate()

    with signals.job_succeeded.connected_to(hold):
        run = Passing.perform_async("value")
        gate.entered()
        report = shutdown(timeout=0.05)

        assert report.discarded == []
        assert not run.done()
        gate.open()
        assert run.result(WAIT) == "value"

    assert [name for name in record.names(run) if name in FINAL] == ["job_succeeded"]


def test_a_run_ended_by_shutdown_stays_ended_when_its_job_returns(gate, record):
    """A run discarded at the deadline keeps that outcome, whatever its thread does later."""

    class Late(Job):
        def perform(self):
            gate()

    run = Late.perform_async()
    gate.entered()

    shutdown(timeout=0.05)
    gate.open()

    assert (run.state, run.reason) == (RunState.DISCARDED, "shutdown")
    until(lambda: not stats()[Late.__job__.name].busy)
    assert [name for name in record.names(run) if name in FINAL] == ["job_discarded"]
    assert (stats()[Late.__job__.name].succeeded, stats()[Late.__job__.name].discarded) == (0, 1)


# Letting go.


@pytest.fixture
def no_collector():
    """What goes away now, goes away by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _fail_with_cause(argument, other=None):
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


def _fail_in_group(argument, other=None):
    try:
        _fail_with_cause(argument)
    except ValueError as error:
        inner = error
    try:
        raise ExceptionGroup("several", [inner])
    finally:
        del inner


def _succeed(argument, other=None):
    return None


def _exit(argument, other=None):
    raise SystemExit


def _discard(argument, other=None):
    raise Discard("no")


@pytest.mark.parametrize("function", [_succeed, _fail_with_cause, _fail_in_group, _exit, _discard])
def test_an_ended_run_holds_neither_arguments_nor_frames(no_collector, function):
    """A kept run, and its kept error, keep no argument of the job alive; no collector is needed."""

    class Holding(Job):
        def perform(self, argument, other):
            function(argument, other)

    arguments = Argument(), Argument()
    seen = [weakref.ref(argument) for argument in arguments]
    run = Holding.perform_async(arguments[0], other=arguments[1])
    del arguments

    assert run.wait(WAIT)
    error = run.error
    drain(WAIT)

    assert [one() for one in seen] == [None, None]
    if error is not None:
        assert error.__traceback__ is None


def test_a_failed_async_run_holds_neither_arguments_nor_frames():
    """The frames of a coroutine are let go of too."""

    class Holding(Job):
        async def perform(self, argument):
            await asyncio.wait_for(self.fail(argument), 5)

        async def fail(self, argument):
            raise ValueError

    argument = Argument()
    seen = weakref.ref(argument)
    run = Holding.perform_async(argument)
    del argument

    assert run.wait(WAIT)
    drain(WAIT)
    gc.collect()  # asyncio's own tasks are cyclic

    assert seen() is None
    assert isinstance(run.error, ValueError)


def test_what_an_async_job_enqueues_holds_nothing_of_it():
    """The context that goes along does not keep the task which performed the job."""
    seen: list[weakref.ref[object]] = []

    class Outer(Job):
        async def perform(self):
            seen.extend((weakref.ref(asyncio.current_task()), weakref.ref(self.run)))
            return Passing.perform_in(1000)

    later = Outer.perform_async().result(WAIT)
    gc.collect()  # asyncio's own tasks are cyclic

    assert later.state is RunState.SCHEDULED
    until(lambda: [one() for one in seen] == [None, None])


@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_a_run_whose_job_caught_the_checkpoint_holds_no_frames(no_collector, gate, end):
    """A job that catches what checkpoint() raises, cleans up and returns, leaves no frame in the run."""

    class Tidy(Job, timeout=0.02 if end == "timeout" else None):
        def perform(self, argument):
            gate()
            try:
                self.checkpoint()
            except Exception:
                return

    argument = Argument()
    seen = weakref.ref(argument)
    run = Tidy.perform_async(argument)
    del argument
    gate.entered()
    if end == "cancel":
        run.cancel()
    else:
        until(lambda: run.should_stop)
    gate.open()

    assert run.wait(WAIT)
    drain(WAIT)

    assert run.state is RunState.SUCCEEDED
    until(lambda: seen() is None)  # the timer's thread may be about to say where the run hangs


def test_a_run_that_had_just_ended_at_a_fork_has_ended_in_the_child():
    """Its worker still had it in hand; there is nothing left to be taken from the child."""

    class Told(Job):
        def perform(self):
            return "told"

    run = Told.perform_async()
    assert run.wait(WAIT)

    run._disown()

    assert (run.state, run.result(0)) == (RunState.SUCCEEDED, "told")


def test_a_cancelled_run_lets_go_of_its_arguments(no_collector):
    """Also a run that never started, and whose time had not come, holds nothing once cancelled."""
    argument = Argument()
    seen = weakref.ref(argument)
    run = Passing.perform_in(1000, argument)
    del argument

    run.cancel()

    assert seen() is None


def test_an_ended_run_nobody_keeps_is_gone(no_collector):
    """The package itself keeps no ended run, with or without a timeout."""
    seen = []
    for _ in range(20):
        run = Passing.using(timeout=100).perform_async()
        assert run.wait(WAIT)
        seen.append(weakref.ref(run))
        del run
    drain(WAIT)

    until(lambda: not any(one() for one in seen))


def test_an_idle_worker_keeps_no_arguments(no_collector):
    """The thread that performed a run holds nothing of it while it waits for the next."""
    argument = Argument()
    seen = weakref.ref(argument)
    Passing.perform_async(argument).wait(WAIT)
    del argument

    until(lambda: seen() is None)


def test_what_result_raises_keeps_no_argument_alive(no_collector):
    """To look at the error of a kept run changes nothing of what it keeps."""

    def caller(run):
        local = Argument()
        with pytest.raises(ZeroDivisionError):
            run.result(WAIT)
        return weakref.ref(local)

    run = Passing.perform_async(lambda: 1 / 0)

    seen = caller(run)

    gc.collect()
    assert seen() is None, "the caller's frame lives on in run.error"


# The current run.


def test_current_run_is_the_run_inside_and_none_outside():
    """current_run() answers anywhere in a job, and None elsewhere."""
    run = Passing.perform_async(current_run)

    assert run.result(WAIT) is run
    assert current_run() is None


def test_a_run_knows_its_jobs_name():
    """The name is the key of the stats, whatever the class is called."""

    class Mail(Job, name="post"):
        def perform(self):
            pass

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert run.job_name == "post"
    assert stats()[run.job_name].succeeded == 1


def test_a_task_that_is_cancelled_in_the_moment_the_run_ends_is_cancelled(gate):
    """The end of the run comes to a future that nobody waits for any more, and harms nobody."""
    run = Passing.perform_async(gate)

    def later(seconds):
        moment = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(seconds, moment.set_result, None)
        return moment

    async def main():
        task = asyncio.create_task(_result(run))
        await later(0)
        gate.open()
        run.wait(WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await later(0.01)

    asyncio.run(main())

    assert run.state is RunState.SUCCEEDED


def test_what_a_coroutine_has_left_behind_may_wait_when_its_run_is_over():
    """A context that was copied in a job acts for itself once the job has ended."""

    class Copying(Job):
        async def perform(self):
            return contextvars.copy_context()

    context = Copying.perform_async().result(WAIT)

    assert context.run(lambda: Passing.perform_async("value").result(WAIT)) == "value"


def test_an_error_that_strikes_the_waking_leaves_nobody_asleep(gate, struck):
    """Whoever waits for a run is woken, also if the first call to do so runs out of memory."""
    run = Passing.perform_async(gate)
    gate.entered()
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(run.wait()))
    waiter.start()
    until(lambda: run._waiters)

    with struck("Run._wake") as strikes:
        gate.open()
        waiter.join(WAIT)

    assert strikes
    assert woken == [True]


def test_several_workers_may_wait_for_the_one_at_work(make_gate):
    """Each waits for the thread that performs the run, and none for itself."""

    class Crowd(Job, workers=4):
        def perform(self, what):
            return what()

    working, waiting = make_gate(), [make_gate() for _ in range(3)]
    run = Crowd.perform_async(working)
    working.entered()

    def wait_behind(gate):
        def wait():
            gate()
            return run.wait(WAIT)

        return wait

    others = [Crowd.perform_async(wait_behind(gate)) for gate in waiting]
    for gate in waiting:
        gate.entered()
        gate.open()
    threading.Event().wait(0.1)
    working.open()

    assert [other.result(WAIT) for other in others] == [True] * 3
