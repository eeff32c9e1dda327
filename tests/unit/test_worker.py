"""What happens around one attempt: outcomes, retries, timeouts, interrupts, context, coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import tracemalloc
from datetime import timedelta

import pytest
from gates import until

import inproc_jobs
from inproc_jobs import (
    Discard,
    Job,
    Retry,
    RunState,
    _modes,
    _report,
    _run,
    _runtime,
    current_run,
    drain,
    job,
    signals,
    stats,
)
from inproc_jobs._worker import Worker
from inproc_jobs.errors import RunCancelledError, RunTimeoutError

WAIT = 10.0  # seconds


class Hostile(Exception):
    """An error nobody can print."""

    def __str__(self):
        raise SystemExit("no text")

    __repr__ = __str__


# Outcomes.


@pytest.mark.parametrize(
    "error", [Exception, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, StopIteration, IndexError, Hostile]
)
def test_whatever_a_job_raises_is_its_outcome_and_the_worker_goes_on(error):
    """Any exception is that run's failure; the next runs of the same worker are performed."""

    class Mail(Job, workers=1):
        def perform(self, what=None):
            if what:
                raise what

    bad = Mail.perform_async(error)
    good = [Mail.perform_async() for _ in range(5)]

    assert drain(WAIT)
    assert bad.state is RunState.FAILED
    assert type(bad.error) is error
    assert {run.state for run in good} == {RunState.SUCCEEDED}


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.11.7 itself can loop for ever under a trace function (DO_TRACING)"
)
def test_a_run_that_is_discarded_as_its_attempt_begins_never_looks_as_if_it_ran(gate):
    """A shutdown comes between two lines of the worker: whatever that then notes, the run has ended."""
    states: list[RunState] = []
    over = threading.Event()

    def trace(frame, event, arg):
        return look if frame.f_code is Worker.perform.__code__ else None

    def look(frame, event, arg):
        run = frame.f_locals["run"]
        if run.attempt and not states:
            gate()
        if run.attempt:
            states.append(run.state)
        if event == "return":
            over.set()
        return look

    class Mail(Job, workers=1):
        def perform(self):
            raise AssertionError

    threading.settrace(trace)
    try:
        run = Mail.perform_async()
        gate.entered()
    finally:
        threading.settrace(None)
    report = inproc_jobs.shutdown(0)
    gate.open()

    assert over.wait(WAIT)
    assert report.discarded == [run]
    assert len(states) > 2
    assert set(states) == {RunState.DISCARDED}


def test_each_attempt_has_an_instance_of_its_own():
    """What a job keeps on self is gone with the attempt."""

    class Mail(Job, retry=lambda attempt, error: 0.0):
        def perform(self):
            seen.append(getattr(self, "mark", None))
            self.mark = "used"
            if len(seen) < 3:
                raise OSError

    seen: list = []
    assert Mail.perform_async().wait(WAIT)

    assert seen == [None, None, None]


def test_a_constructor_that_raises_fails_the_run():
    """An error on the way to perform is the run's failure too."""

    class Mail(Job):
        def __init__(self):
            raise LookupError("no config")

        def perform(self):
            pass

    with pytest.raises(LookupError, match="no config"):
        Mail.perform_async().result(WAIT)


def test_a_discard_ends_the_run_without_retry(record):
    """Raise Discard("why") ends the run as discarded with that reason, whatever the retry policy."""

    class Mail(Job, retry=Retry(attempts=5, backoff=0)):
        def perform(self):
            raise Discard("unsubscribed")

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert (run.state, run.reason, run.attempt, run.error) == (RunState.DISCARDED, "unsubscribed", 1, None)
    assert record.data("job_discarded") == [{"run": run, "reason": "unsubscribed"}]


def test_a_discard_without_a_word_has_a_reason():
    """The reason of a discarded run is never empty."""

    class Mail(Job):
        def perform(self):
            raise Discard

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert (run.state, run.reason) == (RunState.DISCARDED, "discarded by the job")


def test_an_error_that_outlives_its_attempt_holds_no_frames():
    """A job may raise the same error again and again; the frames of its attempts do not hang on to it."""
    why = Discard("unsubscribed")

    class Mail(Job):
        def perform(self):
            raise why

    assert Mail.perform_async().wait(WAIT)

    until(lambda: why.__traceback__ is None)


# Retries.


def test_a_failed_attempt_is_followed_by_another_until_one_succeeds(record):
    """A retried run ends once, as what its last attempt was, and every retry is announced with error and delay."""

    class Mail(Job, retry=Retry(attempts=5, on=(OSError,), backoff=0.001, jitter=False)):
        def perform(self):
            if self.run.attempt < 3:
                raise OSError(f"attempt {self.run.attempt}")
            return "sent"

    run = Mail.perform_async()

    assert run.result(WAIT) == "sent"
    assert record.names(run) == [
        "job_enqueued",
        "job_started",
        "job_retried",
        "job_started",
        "job_retried",
        "job_started",
        "job_succeeded",
    ]
    assert [(str(data["error"]), data["delay"]) for data in record.data("job_retried")] == [
        ("attempt 1", 0.001),
        ("attempt 2", 0.002),
    ]
    seen = stats()[Mail.__job__.name]
    assert (seen.succeeded, seen.failed, seen.retried, seen.wait.count) == (1, 0, 2, 3)


def test_attempts_bound_the_retries():
    """Attempts counts the first one too; after the last the run has failed with the last error."""

    class Mail(Job, retry=Retry(attempts=3, backoff=0)):
        def perform(self):
            raise OSError(self.run.attempt)

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert (run.state, run.attempt, run.error.args) == (RunState.FAILED, 3, (3,))


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_that_fails_is_timed_like_others(fails):
    """How long it has waited and run is in the numbers of its job class."""

    class Mail(Job):
        def perform(self):
            threading.Event().wait(0.05)
            if fails:
                raise OSError

    run = Mail.perform_async()

    assert run.wait(WAIT)
    seen = stats()[Mail.__job__.name]
    assert (seen.wait.count, seen.run.count) == (1, 1)
    assert 0 <= seen.wait.max < 5
    assert 0.05 <= seen.run.max < 5


def test_without_a_policy_nothing_is_tried_twice():
    """Retries are off by default: a mail must not go out twice unasked."""

    class Mail(Job):
        def perform(self):
            raise OSError

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert run.attempt == 1


def test_errors_not_worth_a_retry_fail_at_once():
    """on= names what is tried again, give_up_on= what is not."""

    class Mail(Job, retry=Retry(on=(OSError,), give_up_on=(FileNotFoundError,), backoff=0)):
        def perform(self, error):
            raise error

    runs = [Mail.perform_async(error) for error in (ValueError, FileNotFoundError)]

    assert drain(WAIT)
    assert [run.attempt for run in runs] == [1, 1]


def test_later_tries_again_without_a_policy(record):
    """Raise Retry.Later(0.01) tries the run again then, though the class has no retry policy."""

    class Poll(Job):
        def perform(self):
            if self.run.attempt < 4:
                raise Retry.Later(timedelta(milliseconds=1))
            return self.run.attempt

    assert Poll.perform_async().result(WAIT) == 4
    assert [data["delay"] for data in record.data("job_retried")] == [0.001] * 3


def test_a_waiting_retry_holds_no_thread():
    """While one run waits for its next attempt, the only worker performs others."""

    class Mail(Job, workers=1):
        def perform(self, *, fail):
            if fail:
                raise Retry.Later(1000)
            return "ran"

    waiting = Mail.perform_async(fail=True)

    assert Mail.perform_async(fail=False).result(WAIT) == "ran"
    assert waiting.state is RunState.RETRYING
    assert stats()[Mail.__job__.name].retrying == 1


def test_a_callable_decides_about_retries():
    """Retry may be a callable (attempt, error) -> seconds or None."""
    asked: list = []

    def policy(attempt, error):
        asked.append((attempt, type(error)))
        return 0.0 if attempt < 2 else None

    class Mail(Job, retry=policy):
        def perform(self):
            raise OSError

    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert asked == [(1, OSError), (2, OSError)]


@pytest.mark.parametrize("answer", ["soon", -1, float("nan"), True, SystemExit])
def test_a_broken_policy_fails_the_run_and_is_named(answer, caplog):
    """A retry policy that raises or answers nonsense costs its run the retry, and is in the log."""

    def policy(attempt, error):
        if answer is SystemExit:
            raise SystemExit
        return answer

    class Mail(Job, workers=1, retry=policy):
        def perform(self, *, fail):
            if fail:
                raise OSError("the mail")

    run = Mail.perform_async(fail=True)
    after = Mail.perform_async(fail=False)

    assert drain(WAIT)
    assert (run.state, type(run.error), after.state) == (RunState.FAILED, OSError, RunState.SUCCEEDED)
    (trouble, _) = caplog.records
    assert (trouble.name, trouble.levelname) == ("inproc_jobs._worker", "ERROR")
    assert trouble.getMessage().startswith("the retry policy of <Run ")
    assert trouble.getMessage().endswith(" raised")
    assert trouble.run_id == run.id
    assert ("SystemExit" if answer is SystemExit else "the answer of the retry policy must be") in trouble.exc_text


def test_the_policy_of_one_call_goes_before_the_classs():
    """using(retry=None) switches the retries of one call off."""

    class Mail(Job, retry=Retry(backoff=0)):
        def perform(self):
            raise OSError

    run = Mail.using(retry=None).perform_async()

    assert run.wait(WAIT)
    assert run.attempt == 1


# Timeouts.


def test_a_run_past_its_timeout_is_reported_at_once_with_its_stack(gate, record, caplog):
    """job_overran and a warning with the live stack come while the run is still at work, and once."""

    class Hung(Job, timeout=0.02):
        def perform(self):
            self.in_a_helper()

        def in_a_helper(self):
            gate()

    run = Hung.perform_async()
    gate.entered()
    until(lambda: caplog.messages)

    assert record.data("job_overran") == [{"run": run}]
    assert run.state is RunState.RUNNING
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("inproc_jobs._queue", logging.WARNING)
    assert run.id in warning.getMessage()
    assert "in_a_helper" in warning.getMessage()
    assert "_bootstrap" not in warning.getMessage()


def test_a_stack_without_a_line_of_the_packages_is_shown_whole():
    """The thread of a hung run may do something else by the time that it is looked at."""
    said = _report.stack(sys._getframe())

    assert "test_a_stack_without_a_line_of_the_packages_is_shown_whole" in said
    assert "pytest" in said


def test_a_run_that_may_not_be_interrupted_goes_on_at_the_deadline_of_a_shutdown(gate):
    """It is discarded and told to stop; nothing is raised in the middle of what it does."""
    told: list[bool] = []

    class Long(Job, timeout=60):
        def perform(self):
            gate()
            told.append(self.should_stop)

    run = Long.perform_async()
    gate.entered()
    inproc_jobs.shutdown(timeout=0.05)
    assert run.state is RunState.DISCARDED

    gate.open()

    until(lambda: told)
    assert told == [True]


def test_a_run_within_its_timeout_is_left_alone(gate, record):
    """The timeout counts from the start of the attempt, and before it is over nothing is said or raised."""

    class Patient(Job, timeout=60, interruptible=True):
        def perform(self):
            gate()
            return self.should_stop

    run = Patient.perform_async()
    gate.entered()
    threading.Event().wait(0.2)
    gate.open()

    assert run.result(WAIT) is False
    assert record.data("job_overran") == []


def test_a_run_cancelled_while_it_is_announced_is_not_performed_now(record):
    """A receiver of job_enqueued may cancel a run that has a thread already; it ends as cancelled."""

    class Mail(Job):
        def perform(self):
            pytest.fail("it was performed")

    def cancel(sender, run, **extra):
        run.cancel()

    with signals.job_enqueued.connected_to(cancel), pytest.raises(RunCancelledError):
        Mail.perform_now()

    ((_, _, data),) = [sent for sent in record.sent if sent[0] == "job_cancelled"]
    assert record.names(data["run"]) == ["job_enqueued", "job_cancelled"]
    assert (data["run"].state, data["run"].attempt, data["run"].started_at) == (RunState.CANCELLED, 0, None)


def test_what_perform_now_raises_shows_where_in_the_job():
    """Its traceback leads to the line that raised, as that of a plain call does; the run's own holds no frames."""

    class Broken(Job):
        def perform(self):
            self.in_a_helper()

        def in_a_helper(self):
            errors.append(ZeroDivisionError("mine"))
            raise errors[0]

    errors: list[ZeroDivisionError] = []
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        Broken.perform_now()

    assert caught.value is errors[0]
    assert [entry.name for entry in caught.traceback][-2:] == ["perform", "in_a_helper"]


def test_checkpoint_raises_past_the_timeout(gate, record):
    """Past its timeout should_stop is true, checkpoint() raises RunTimeoutError, and that is the run's failure."""

    class Hung(Job, timeout=0.02):
        def perform(self):
            gate()
            seen.append(self.should_stop)
            self.checkpoint()

    seen: list = []
    run = Hung.perform_async()
    gate.entered()
    until(lambda: record.data("job_overran"))
    gate.open()

    assert run.wait(WAIT)
    assert (seen, run.state) == ([True], RunState.FAILED)
    assert isinstance(run.error, RunTimeoutError)
    assert isinstance(run.error, TimeoutError)


def test_a_hung_run_does_not_wedge_its_queue(gate, record):
    """A run past its timeout no longer counts against workers: the next runs of a single worker go on."""

    class Hung(Job, workers=1, timeout=0.02):
        def perform(self, what=None):
            if what:
                what()
            return "ran"

    hung = Hung.perform_async(gate)
    gate.entered()
    others = [Hung.perform_async() for _ in range(5)]

    assert [run.result(WAIT) for run in others] == ["ran"] * 5
    assert hung.state is RunState.RUNNING
    gate.open()
    assert hung.result(WAIT) == "ran"
    assert drain(WAIT)
    seen = stats()[Hung.__job__.name]
    assert (seen.workers, seen.busy, seen.succeeded) == (0, 0, 6)


def test_workers_are_as_many_as_before_after_overruns(make_gate, record):
    """The place a hung run gave up is not there twice once the run returns."""
    lock = threading.Lock()
    now = 0
    most = 0

    class Hung(Job, workers=2):
        def perform(self, what=None):
            nonlocal now, most
            if what:
                what()
                return
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.001)
            with lock:
                now -= 1

    gates = [make_gate() for _ in range(3)]
    hung = [Hung.using(timeout=0.02).perform_async(one) for one in gates]
    for one in gates:
        one.entered()
    until(lambda: len(record.data("job_overran")) == 3)
    for one in gates:
        one.open()
    for run in hung:
        assert run.wait(WAIT)
    for _ in range(200):
        Hung.perform_async()

    assert drain(WAIT)
    assert most <= 2


def test_a_run_that_ends_in_time_is_not_reported(record):
    """A timeout that does not pass leaves no trace."""

    class Quick(Job, timeout=0.2):
        def perform(self):
            pass

    for _ in range(20):
        assert Quick.perform_async().wait(WAIT)
    threading.Event().wait(0.25)

    assert record.data("job_overran") == []


def test_timeouts_leave_no_worker_behind_under_races(record):
    """Runs that end just as their timeout passes end once, and the workers are all there afterwards."""

    class Racing(Job, workers=3, timeout=0.002):
        def perform(self):
            threading.Event().wait(0.002)

    runs = [Racing.perform_async() for _ in range(150)]

    assert drain(WAIT)
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    seen = stats()[Racing.__job__.name]
    assert (seen.succeeded, seen.queued, seen.busy) == (150, 0, 0)


def test_a_timed_out_attempt_may_be_tried_again():
    """A RunTimeoutError is an error like others to a retry policy; the next attempt has a timeout of its own."""

    class Slow(Job, timeout=0.02, retry=Retry(attempts=2, on=(TimeoutError,), backoff=0)):
        def perform(self):
            if self.run.attempt == 1:
                deadline = time.monotonic() + WAIT
                while time.monotonic() < deadline:
                    self.checkpoint()
            return self.should_stop

    run = Slow.perform_async()

    assert run.result(WAIT) is False
    assert run.attempt == 2


def test_an_interruptible_run_is_interrupted_between_two_bytecodes():
    """interruptible=True: past the timeout RunTimeoutError is raised in a loop that never looks."""

    class Endless(Job, timeout=0.05, interruptible=True):
        def perform(self):
            deadline = time.monotonic() + WAIT
            while time.monotonic() < deadline:
                pass

    run = Endless.perform_async()

    assert run.wait(5)
    assert run.state is RunState.FAILED
    assert isinstance(run.error, RunTimeoutError)
    assert str(run.error) == f"<Run {run.id} of {run.job_name}: running, attempt 1> is past its timeout of 0.05 s"


def _never_end():
    """Loop, in a function of its own: CPython counts a loop's jump back as outside of the try around the loop."""
    while True:
        pass


def test_an_interruptible_job_may_raise_the_same_of_its_own():
    """Only the bare error of the interrupt is given the words of the run; what the job says itself is left."""

    class Endless(Job, timeout=0.05, interruptible=True):
        def perform(self):
            try:
                _never_end()
            except RunTimeoutError:
                raise RunTimeoutError("in the middle of it") from None

    run = Endless.perform_async()

    assert run.wait(5)
    assert str(run.error) == "in the middle of it"


def test_a_job_that_hides_its_interrupt_has_succeeded():
    """What perform returns is its outcome, and nothing strikes the runs after it."""

    class Hiding(Job, workers=1, interruptible=True):
        def perform(self, endless=False):
            try:
                if endless:
                    _never_end()
            except RunTimeoutError:
                return "hidden"
            return "done"

    hidden = Hiding.using(timeout=0.05).perform_async(True)
    others = [Hiding.using(timeout=WAIT).perform_async() for _ in range(50)]

    assert [run.result(WAIT) for run in (hidden, *others)] == ["hidden"] + ["done"] * 50


def test_an_attempt_in_time_is_never_interrupted(interleaved):
    """An interrupt that is due just as the attempt ends is taken back, and strikes neither the worker nor the next run."""

    class Close(Job, workers=2, timeout=0.002, interruptible=True):
        def perform(self, seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                pass
            return seconds

    runs = [Close.perform_async(0.0015 + number % 20 * 0.00005) for number in range(300)]

    assert drain(60)
    for run in runs:
        assert run.state in (RunState.SUCCEEDED, RunState.FAILED)
        assert run.error is None or isinstance(run.error, RunTimeoutError)
    seen = stats()[Close.__job__.name]
    assert seen.succeeded + seen.failed == 300


def test_a_retry_that_waits_for_a_worker_does_not_expire(gate):
    """expires_in is about the first start: what has been tried is not given up for it."""

    class Mail(Job, workers=1):
        def perform(self, what=None):
            if what:
                what()
            elif self.run.attempt == 1:
                raise Retry.Later(0.1)

    retried = Mail.using(expires_in=60).perform_async()
    until(lambda: retried.attempt)
    blocking = Mail.using(priority=9).perform_async(gate)
    gate.entered()
    until(lambda: retried.state is RunState.QUEUED)
    _modes.advance(_runtime.runtime(), 61)
    gate.open()

    assert blocking.wait(WAIT)
    assert retried.wait(WAIT)
    assert (retried.state, retried.reason) == (RunState.SUCCEEDED, None)
    assert retried.attempt == 2


def test_threads_that_have_performed_leave_nothing_behind(in_threads):
    """Where the runs of a thread are looked for, there is nothing once the thread has left its queue."""

    class Mail(Job):
        def perform(self):
            return current_run() is self.run

    before = set(_run.hands)  # of a thread that another test has hang

    in_threads(lambda _: Mail.perform_now(), 8)
    assert Mail.perform_async().result(WAIT)
    assert drain(WAIT)
    inproc_jobs.shutdown()

    until(lambda: set(_run.hands) <= before)


# Inside a job.


def test_run_logger_and_should_stop_belong_to_the_run(caplog):
    """self.run is the current run, self.logger's records carry its id, and nothing asks it to stop."""
    caplog.set_level(logging.INFO, "inproc_jobs")

    class Mail(Job, name="mail 100%d"):
        def perform(self):
            self.logger.info("sent to %s", "Ada", extra={"more": 1})
            self.checkpoint()
            return self.run is current_run(), self.should_stop

    run = Mail.perform_async()

    assert run.result(WAIT) == (True, False)
    (record,) = [record for record in caplog.records if "sent to" in record.getMessage()]
    assert (record.run_id, record.job, record.more) == (run.id, "mail 100%d", 1)
    assert record.getMessage().endswith("sent to Ada")


def test_outside_of_a_run_a_job_says_so():
    """A job made by hand can be tested: checkpoint does nothing, should_stop is false, run explains itself."""

    class Mail(Job):
        def perform(self):
            self.checkpoint()
            return self.should_stop

    mail = Mail()

    assert mail.perform() is False
    with pytest.raises(RuntimeError, match="while a run"):
        _ = mail.run


# Context.


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


def test_the_callers_contextvars_are_visible_in_the_job():
    """What the caller has set when it enqueues, the job sees."""

    @job
    def look():
        return variable.get()

    token = variable.set("the caller's")
    try:
        run = look.perform_async()
    finally:
        variable.reset(token)

    assert run.result(WAIT) == "the caller's"
    assert look.perform_async().result(WAIT) == "default"


def test_contextvars_are_isolated_between_runs_and_attempts():
    """What a job sets is gone with its attempt: the next run, the next attempt and the caller do not see it."""

    class Mail(Job, workers=1, retry=lambda attempt, error: 0.0 if attempt < 2 else None):
        def perform(self):
            seen.append(variable.get())
            variable.set("the job's")
            raise OSError

    seen: list[str] = []
    runs = [Mail.perform_async() for _ in range(2)]

    assert drain(WAIT)
    assert seen == ["default"] * 4
    assert variable.get() == "default"
    assert all(run.done() for run in runs)


def test_a_job_enqueued_by_a_job_sees_the_outer_ones_context():
    """Context goes on from job to job, as from caller to job; the outer run itself does not."""

    @job
    def inner():
        return variable.get(), current_run().job is inner

    @job
    def outer():
        variable.set("outer")
        return inner.perform_async()

    assert outer.perform_async().result(WAIT).result(WAIT) == ("outer", True)


# Coroutines.


def test_an_async_perform_runs_to_its_end_on_a_loop_of_its_own():
    """Async def perform: the run's value is what it returns; current_run() works inside, in its tasks too."""

    class Fetch(Job):
        async def perform(self, number):
            inner = await asyncio.gather(self.one(), asyncio.to_thread(current_run))
            return number, self.run is current_run(), [one is self.run for one in inner]

        async def one(self):
            return current_run()

    assert Fetch.perform_async(3).result(WAIT) == (3, True, [True, True])


def test_an_async_function_is_a_job_too():
    """@job on a coroutine function, and await of its run."""

    @job
    async def double(number):
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0)
        return 2 * number

    async def main():
        return await double.perform_async(4)

    assert double.perform_async(3).result(WAIT) == 6
    assert asyncio.run(main()) == 8


def test_an_async_perform_that_fails_is_a_failed_run():
    """What a coroutine raises, SystemExit included, is the run's error."""

    @job(workers=1)
    async def fail(error):
        raise error

    runs = [fail.perform_async(error) for error in (ValueError, SystemExit, KeyboardInterrupt)]

    assert drain(WAIT)
    assert [type(run.error) for run in runs] == [ValueError, SystemExit, KeyboardInterrupt]


def test_an_async_job_can_be_performed_now_on_an_event_loop():
    """perform_now of an async job works where a loop runs already."""

    @job
    async def double(number):
        return 2 * number, current_run() is not None

    async def main():
        return double.perform_now(2)

    assert asyncio.run(main()) == (4, True)
    assert double.perform_now(3) == (6, True)


# Receivers.


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError, Hostile])
def test_broken_receivers_harm_neither_the_run_nor_the_others(error, caplog, record):
    """A receiver that raises, whatever it is, is logged once with its name; the run and the other receivers go on."""

    def broken(sender, **extra):
        raise error

    class Mail(Job, workers=1):
        def perform(self):
            return "sent"

    with signals.job_started.connected_to(broken), signals.job_succeeded.connected_to(broken):
        runs = [Mail.perform_async() for _ in range(3)]
        values = [run.result(WAIT) for run in runs]

    assert values == ["sent"] * 3
    assert len([line for line in caplog.messages if "broken" in line]) == 6
    for run in runs:
        assert record.names(run) == ["job_enqueued", "job_started", "job_succeeded"]


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -1, "soon", None])
def test_a_later_that_makes_no_sense_fails_its_run_alone(delay):
    """A delay that was put in place of a good one is refused, and what else is delayed comes in its time."""

    class Mail(Job):
        def perform(self, fail=False):
            if fail:
                later = Retry.Later(0)
                later.delay = delay
                raise later

    failed = Mail.perform_async(True)
    assert failed.wait(WAIT)
    assert Mail.perform_in(0.01).wait(WAIT)

    assert (failed.state, failed.attempt) == (RunState.FAILED, 1)


def test_a_run_past_its_timeout_in_its_callers_thread_is_reported(gate, record, caplog):
    """perform_now has no worker's place to give up, and says the same."""

    class Slow(Job, timeout=0.02):
        def perform(self):
            until(lambda: record.data("job_overran"))
            return self.should_stop

    assert Slow.perform_now() is True

    assert len(record.data("job_overran")) == 1
    until(lambda: caplog.messages)
    (warning,) = caplog.messages
    assert "is past its timeout of 0.02 s" in warning


def test_the_log_says_when_and_why_a_run_is_tried_again(caplog):
    """At a level for who looks for it, with the run that it is about."""
    caplog.set_level(logging.INFO, "inproc_jobs")

    class Mail(Job, retry=lambda attempt, error: 0.015 if attempt == 1 else None):
        def perform(self):
            if self.run.attempt == 1:
                raise OSError("no route\nto host")

    run = Mail.perform_async()
    assert run.wait(WAIT)

    (said,) = caplog.records
    assert (said.name, said.levelname, said.run_id) == ("inproc_jobs._queue", "INFO", run.id)
    assert (
        f"<Run {run.id} of {run.job_name}: running, attempt 1> is tried again in 0.015 s: OSError: no route\\nto host"
    ) in caplog.text


def test_runs_in_their_callers_thread_leave_nothing_behind():
    """Thousands of them do not fill the memory, and each is counted."""

    class Mail(Job):
        def perform(self):
            pass

    tracemalloc.start()
    try:
        for number in range(3000):
            if number == 1000:
                before = tracemalloc.get_traced_memory()[0]
            Mail.perform_now()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 100_000
    assert stats()[Mail.__job__.name].succeeded == 3000
