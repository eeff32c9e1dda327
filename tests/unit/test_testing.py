"""The testing kit: what a test of somebody's code sees."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
import unittest
import weakref
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest

import inproc_jobs
from inproc_jobs import Job, Retry, RunState, _clock, configure, drain, job, signals, stats, testing
from inproc_jobs.errors import DeadlockError, QueueFullError, RunDiscardedError, ScheduleFullError
from inproc_jobs.testing import assert_enqueued, assert_not_enqueued, enqueued, fake, inline, real, run_all, travel

WAIT = 10.0
variable = contextvars.ContextVar("variable", default="none")


class Mail(Job):
    sent: list[object] = []  # noqa: RUF012

    def perform(self, to, subject="Hello"):
        if isinstance(to, BaseException):
            raise to
        self.sent.append((to, subject, threading.current_thread()))
        return len(to)


@job
def tidy():
    pass


@pytest.fixture(autouse=True)
def nothing_sent():
    Mail.sent.clear()


# inline()


def test_inline_performs_here():
    """Under inline() a run has ended when its enqueue returns, performed by the caller's thread."""
    with inline():
        run = Mail.perform_async("ada@example.org")

        assert Mail.sent == [("ada@example.org", "Hello", threading.current_thread())]
        assert (run.state, run.result()) == (RunState.SUCCEEDED, 15)
        assert stats()[Mail.__job__.name].succeeded == 1


def test_inline_keeps_no_job_class():
    """One that is defined in a test is gone with it, also before the fixture that has entered the mode ends."""

    def once() -> weakref.ref[type[Job]]:
        class Passing(Job):
            def perform(self):
                pass

        Passing.perform_async()
        return weakref.ref(Passing)

    with inline():
        passing = once()
        gc.collect()

        assert passing() is None


def test_inline_goes_the_way_of_a_worker(record):
    """Signals, a context of its own, the current run and its count are those of a worker."""
    seen = []

    @job
    def look():
        seen.append((variable.get(), inproc_jobs.current_run()))
        variable.set("changed by the job")

    variable.set("caller")
    with inline():
        run = look.perform_async()

    assert seen == [("caller", run)]
    assert variable.get() == "caller"
    assert record.names(run) == ["job_enqueued", "job_started", "job_succeeded"]


def test_inline_raises_what_the_job_raised():
    """The job's own exception comes out of the enqueue."""
    with inline(), pytest.raises(ValueError, match="no such address"):
        Mail.perform_async(ValueError("no such address"))


def test_inline_may_leave_the_error_in_the_run():
    """With raises=False the run tells of it."""
    with inline(raises=False):
        run = Mail.perform_async(ValueError("no such address"))

    assert run.state is RunState.FAILED
    with pytest.raises(ValueError, match="no such address"):
        run.result()


def test_inline_tries_again_without_waiting():
    """Retries follow at once, however long they would take to come."""
    attempts = []

    @job(retry=Retry(attempts=3, on=(OSError,), backoff=300.0, jitter=False))
    def shaky():
        attempts.append(inproc_jobs.current_run().attempt)
        if len(attempts) < 3:
            raise OSError("down")
        return "up"

    with inline():
        assert shaky.perform_async().result() == "up"
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("call", ["perform_in", "perform_at"])
def test_inline_does_not_wait_for_a_delay(call):
    """A delayed run is performed at once."""
    when = {"perform_in": 3600, "perform_at": datetime.now(UTC) + timedelta(hours=1)}[call]

    with inline():
        run = getattr(Mail, call)(when, "ada@example.org")

        assert run.state is RunState.SUCCEEDED


def test_inline_performs_what_jobs_enqueue():
    """What a job enqueues has ended, too, when the outermost enqueue returns; whatever the number of workers."""

    @job(workers=1)
    def countdown(number):
        done.append(number)
        if number:
            countdown.perform_async(number - 1)
            tidy.perform_in(60)

    done = []
    with inline():
        countdown.perform_async(5)

        assert done == [5, 4, 3, 2, 1, 0]
        assert stats()[tidy.__job__.name].succeeded == 5


def test_inline_raises_the_error_of_a_run_that_a_job_enqueued():
    """It comes out of the outermost enqueue, and the job that enqueued it is none the worse."""

    @job
    def outer():
        Mail.perform_async(ValueError("inner"))
        return "fine"

    with inline():
        with pytest.raises(ValueError, match="inner"):
            outer.perform_async()
        assert stats()[outer.__job__.name].succeeded == 1


def test_inline_coroutines_on_an_event_loop():
    """An async job is performed although the caller is on an event loop."""

    @job
    async def double(number):
        await asyncio.to_thread(int)
        return 2 * number

    async def main():
        return await double.perform_async(4)

    with inline():
        assert asyncio.run(main()) == 8


def test_inline_watches_the_timeout(caplog):
    """A timeout is reported under inline(), too."""

    @job(timeout=0.02)
    def slow():
        overran.wait(WAIT)

    overran = threading.Event()

    def heard(sender, **extra):
        overran.set()

    with signals.job_overran.connected_to(heard), inline():
        assert slow.perform_async().state is RunState.SUCCEEDED
    assert "past its timeout" in caplog.text


# fake()


def test_fake_runs_nothing_until_told():
    """Under fake() an enqueue is accepted and recorded, and run_all() performs it here."""
    with fake() as jobs:
        run = Mail.perform_async("ada@example.org")

        assert (run.state, Mail.sent) == (RunState.QUEUED, [])
        assert run_all() == [run]
        assert Mail.sent == [("ada@example.org", "Hello", threading.current_thread())]
        assert run.result() == 15
        assert len(jobs.enqueued()) == 1


def test_run_one_runs_the_oldest():
    """run_one() performs the run that has waited longest, of all job classes or of one; None when none waits."""
    with fake() as jobs:
        first, second, third = Mail.perform_async("a"), tidy.perform_async(), Mail.perform_async("b")

        assert [jobs.run_one(tidy), jobs.run_one(tidy), jobs.run_one(), jobs.run_one(), jobs.run_one()] == [
            second,
            None,
            first,
            third,
            None,
        ]


def test_run_all_runs_what_comes_later():
    """Retries, delayed runs and what jobs enqueue are performed, without waiting."""
    attempts = []

    @job(retry=Retry(attempts=2, backoff=100.0))
    def shaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("down")
        Mail.perform_async("ada@example.org")

    with fake():
        shaky.perform_in(3600)
        runs = run_all()

        assert [run.job for run in runs] == [shaky, shaky, Mail]
        assert len(Mail.sent) == 1


def test_run_all_raises():
    """The job's own exception comes out of run_all() and run_one()."""
    with fake() as jobs:
        Mail.perform_async(ValueError("first"))
        Mail.perform_async(ValueError("second"))

        with pytest.raises(ValueError, match="first"):
            jobs.run_all()
        with pytest.raises(ValueError, match="second"):
            jobs.run_one()


def test_fake_has_the_limits_of_production():
    """A full queue refuses, and signals are sent."""

    @job(max_queue=1)
    def small():
        pass

    with fake():
        small.perform_async()
        with pytest.raises(QueueFullError):
            small.perform_async()
        assert len(enqueued(small)) == 1


def test_waiting_under_fake():
    """To wait for what nothing runs is an error that says what to do."""
    with fake():
        run = Mail.perform_async("ada@example.org")
        with pytest.raises(DeadlockError, match="run_all"):
            run.result(1)
        started = time.monotonic()
        assert not drain(WAIT)
        assert time.monotonic() - started < 5


def test_what_was_not_run_is_forgotten(caplog):
    """The end of fake() says nothing, and whoever kept a run is told that it never ran."""
    with fake():
        runs = [Mail.perform_async("ada@example.org"), Mail.perform_in(5, "ada@example.org")]

    assert [run.reason for run in runs] == ["the test is over"] * 2
    with pytest.raises(RunDiscardedError):
        runs[0].result(1)
    assert (caplog.records, Mail.sent) == ([], [])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("ada@example.org",), {}),
        (("ada@example.org", "Hello"), {}),
        ((), {"to": "ada@example.org"}),
        ((ANY,), {"subject": ANY}),
        (("ada@example.org",), {"delay": None}),
        ((), {"times": 1, "priority": 0}),
    ],
)
def test_assert_enqueued(args, kwargs):
    """Arguments are compared as perform receives them, however they were given; none given means any."""
    with fake():
        Mail.perform_async("ada@example.org")

        note = assert_enqueued(Mail, *args, **kwargs)

        assert (note.job, note.args, note.kwargs, note.delay) == (Mail, ("ada@example.org",), {}, None)


def test_assert_enqueued_with_a_delay():
    """The delay is in seconds, of perform_in and of perform_at."""
    with fake():
        Mail.perform_in(timedelta(minutes=1), "ada@example.org")
        tidy.perform_at(datetime.now(UTC) + timedelta(hours=1))
        Mail.using(priority=5).perform_async("bob@example.org")

        assert_enqueued(Mail, "ada@example.org", delay=60)
        assert_enqueued(Mail, "ada@example.org", delay=pytest.approx(60))
        assert_enqueued(tidy, delay=pytest.approx(3600, abs=1))
        assert_enqueued(Mail, "bob@example.org", delay=None, priority=5)
        with pytest.raises(AssertionError, match="delay is"):
            assert_enqueued(Mail, "ada@example.org", delay=None)


def test_a_delay_is_what_was_given_however_slow_the_machine_is(monkeypatch):
    """Nothing that passes between the call and the note of it is taken off."""
    monkeypatch.setattr(_clock, "now", lambda: time.monotonic() + 3)

    with fake():
        Mail.perform_in(60, "ada@example.org")

        assert_enqueued(Mail, "ada@example.org", delay=60)


def test_max_scheduled_holds_in_fake():
    """What is held back for the test counts."""
    configure(max_scheduled=300)

    with fake():
        for _ in range(300):
            Mail.perform_in(60, "ada@example.org")

        with pytest.raises(ScheduleFullError):
            Mail.perform_in(60, "ada@example.org")


def test_what_was_enqueued_instead():
    """The message shows what was asked for, and what was enqueued instead, the closest first, with the difference."""
    with fake():
        tidy.perform_async()
        Mail.perform_async("bob@example.org", subject="Bye")
        Mail.perform_async("ada@example.org", subject="Bye")

        with pytest.raises(AssertionError) as caught:
            assert_enqueued(Mail, "ada@example.org", subject="Hi")

    assert str(caught.value).splitlines() == [
        "not enqueued: Mail('ada@example.org', subject='Hi')",
        "enqueued instead:",
        "    Mail('ada@example.org', subject='Bye')  - subject is 'Bye', not 'Hi'",
        "    Mail('bob@example.org', subject='Bye')  - to is 'bob@example.org', not 'ada@example.org';"
        " subject is 'Bye', not 'Hi'",
        "    tidy()",
    ]


def test_nothing_was_enqueued():
    """The message says so."""
    with fake(), pytest.raises(AssertionError, match=r"not enqueued: tidy\(\.\.\.\)\nnothing was enqueued"):
        assert_enqueued(tidy)


def test_times():
    """The number is exact, also where it is none."""
    with fake():
        for _ in range(2):
            tidy.perform_async()

        assert_enqueued(tidy, times=2)
        assert_enqueued(Mail, times=0)
        for wrong, said in ((3, "enqueued 2 times, not 3 times"), (1, "enqueued 2 times, not once")):
            with pytest.raises(AssertionError) as caught:
                assert_enqueued(tidy, times=wrong)
            assert str(caught.value).splitlines() == [
                f"{said}: tidy(...)",
                "enqueued:",
                *["    tidy()  - as wanted"] * 2,
            ]
        with pytest.raises(AssertionError, match=r"^not enqueued: Mail\(...\)\nenqueued instead:"):
            assert_enqueued(Mail, times=2)


def test_assert_not_enqueued():
    """Of a job, with arguments, or of any."""
    with fake():
        assert_not_enqueued()
        Mail.perform_async("ada@example.org")

        assert_not_enqueued(tidy)
        assert_not_enqueued(Mail, "bob@example.org")
        for call in (
            lambda: assert_not_enqueued(),
            lambda: assert_not_enqueued(Mail),
            lambda: assert_not_enqueued(Mail, to="ada@example.org"),
        ):
            with pytest.raises(AssertionError, match=r"Mail\('ada@example.org'\)"):
                call()


def test_wrong_questions():
    """What is no job, arguments that perform does not take, and a question outside of fake() are errors that say so."""
    with fake():
        with pytest.raises(TypeError, match="a job class or a function under @job"):
            assert_enqueued(print)
        with pytest.raises(TypeError, match="colour"):
            assert_enqueued(Mail, "ada@example.org", colour="red")
    with pytest.raises(RuntimeError, match=r"fake\(\)"):
        assert_enqueued(Mail)


# real() and travel()


def test_real_has_threads_of_its_own():
    """Under real() a run is performed by a worker's thread, which has ended at its end."""
    with real():
        run = Mail.perform_async("ada@example.org")
        assert run.wait(WAIT)
        thread = Mail.sent[0][2]
        assert thread is not threading.current_thread()

    assert not [one for one in inproc_jobs._runtime.runtime().threads.alive() if one is thread]
    assert stats()[Mail.__job__.name].succeeded == 0


def test_real_waits_for_what_was_accepted():
    """The end of real() waits for runs, but not for those that are not due."""
    with real():
        runs = [Mail.perform_async(str(number)) for number in range(50)]
        late = Mail.perform_in(3600, "late")

    assert all(run.state is RunState.SUCCEEDED for run in runs)
    assert late.reason == "the test is over"


def test_real_names_what_does_not_end(monkeypatch, gate):
    """A run that is still at work at the end is named."""
    monkeypatch.setattr("inproc_jobs._modes.TIMEOUT", 0.05)

    @job
    def hang():
        gate()

    def leave():
        with real():
            hang.perform_async()
            gate.entered()

    with pytest.raises(AssertionError, match=r"still at work after 0\.05 s: <Run .*hang"):
        leave()
    gate.open()


@pytest.mark.parametrize("mode", [real, fake])
def test_travel(mode):
    """Time passes for delayed runs and for nothing else: what comes due has run, the rest has not."""
    with mode():
        soon, later = Mail.perform_in(60, "soon"), Mail.perform_at(datetime.now(UTC) + timedelta(hours=2), "later")
        before = time.monotonic()

        travel(3600)
        assert (soon.state, later.state) == (RunState.SUCCEEDED, RunState.SCHEDULED)
        travel(timedelta(hours=1))

        assert later.state is RunState.SUCCEEDED
        assert time.monotonic() - before < WAIT


@pytest.mark.parametrize("mode", [real, fake])
def test_travel_through_retries(mode):
    """A retry that comes due on the way runs, and so does the next one."""
    attempts = []

    @job(retry=Retry(attempts=4, on=(OSError,), backoff=60.0, jitter=False))
    def shaky():
        attempts.append(1)
        raise OSError("down")

    with mode():
        run = shaky.perform_in(10)
        travel(10 + 60 + 119)
        assert (len(attempts), run.state) == (2, RunState.RETRYING)
        travel(2)
        assert len(attempts) == 3
        travel(86_400)

    assert (len(attempts), run.state) == (4, RunState.FAILED)


def test_travel_first_ends_what_is_due():
    """The backoff of an attempt that is under way when time begins to pass counts from before."""

    @job(retry=Retry(attempts=2, on=(OSError,), backoff=60.0, jitter=False))
    def shaky():
        threading.Event().wait(0.05)
        raise OSError("down")

    with real():
        run = shaky.perform_async()
        travel(60)

        assert (run.state, run.attempt) == (RunState.FAILED, 2)


def test_travel_lets_runs_expire():
    """A run that waits too long by the clock of the test is discarded as expired."""

    @job(expires_in=60)
    def offer():
        raise AssertionError

    with fake():
        run = offer.perform_async()
        travel(61)
        run_all()

        assert run.reason == "expired"


@pytest.mark.parametrize("wrong", [-1, float("nan"), "1"])
def test_travel_takes_durations(wrong):
    """Nothing travels backwards."""
    with pytest.raises((TypeError, ValueError), match="time to travel"):
        travel(wrong)


# All modes


@pytest.mark.parametrize("mode", [inline, fake, real])
def test_modes_restore(mode):
    """What was before is there afterwards: the queue of the job class, its counts, its runs; also after an exception."""
    before = Mail.perform_async("before")
    assert before.wait(WAIT)
    queue = Mail.__job__.queue

    def raise_inside():
        with mode():
            Mail.perform_async("inside")
            assert Mail.__job__.queue is not queue
            raise KeyError

    with pytest.raises(KeyError):
        raise_inside()

    assert Mail.__job__.queue is queue
    assert stats()[Mail.__job__.name].succeeded == 1
    assert Mail.perform_async("after").wait(WAIT)
    assert stats()[Mail.__job__.name].succeeded == 2


def test_modes_nest():
    """The innermost decides, and each sees its own."""
    with fake() as outer:
        tidy.perform_async()
        with inline():
            Mail.perform_async("ada@example.org")
            with fake() as inner:
                Mail.perform_async("bob@example.org")
                assert len(inner.enqueued()) == 1
        assert len(Mail.sent) == 1
        assert [note.job for note in outer.enqueued()] == [tidy]


def test_a_job_class_made_inside():
    """A job class that is made inside of a mode works afterwards."""
    with fake():

        @job
        def young():
            return 1

        young.perform_async()

    assert young.perform_async().result(WAIT) == 1


@fake()
def test_modes_decorate():
    """As a decorator, each call has a runtime of its own."""

    @inline()
    def enqueue():
        Mail.perform_async("ada@example.org")
        return len(Mail.sent)

    assert [enqueue(), enqueue()] == [1, 2]
    assert enqueued() == []


def test_modes_decorate_coroutines():
    """A coroutine function is decorated for as long as it runs."""

    @inline()
    async def enqueue():
        await asyncio.to_thread(int)
        Mail.perform_async("ada@example.org")
        await asyncio.to_thread(int)
        return len(Mail.sent)

    assert asyncio.run(enqueue()) == 1


def test_modes_decorate_test_cases():
    """Each test of a TestCase is decorated."""

    @fake()
    class Case(unittest.TestCase):
        def test_one(self):
            Mail.perform_async("ada@example.org")
            assert_enqueued(Mail, times=1)

        test_two = test_one

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert (result.testsRun, result.errors, result.failures) == (2, [], [])


def test_the_mode_of_the_process(caplog, monkeypatch):
    """use() holds until the next use(), and warns where no test runs."""
    testing.use("inline")
    try:
        assert Mail.perform_async("ada@example.org").state is RunState.SUCCEEDED
        testing.use("fake")
        assert Mail.perform_async("ada@example.org").state is RunState.QUEUED
        assert caplog.records == []
        monkeypatch.setattr(testing, "_in_a_test", lambda: False)
        testing.use("inline")
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (
                logging.WARNING,
                "INPROC_JOBS_MODE is 'inline' and no test runs: jobs are not performed in the background",
            )
        ]
    finally:
        testing.use("real")
    assert Mail.perform_async("ada@example.org").wait(WAIT)


@pytest.mark.parametrize("wrong", ["Inline", "", None, 1])
def test_wrong_modes(wrong):
    """A mode that is none is named, with those there are."""
    with pytest.raises(ValueError, match="'real', 'inline', 'fake'"):
        testing.use(wrong)
