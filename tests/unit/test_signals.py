"""The signals: what is sent, in which order, with what, and to whom."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest

from inproc_jobs import Discard, Job, drain, job, restart, shutdown, signals
from inproc_jobs.errors import ShutdownError

WAIT = 10.0  # seconds


def test_the_sender_is_the_job_class_and_the_run_is_always_told(record):
    """A receiver may connect to one job class; each signal of a run brings it along."""

    class Mail(Job):
        def perform(self):
            pass

    @job
    def thumbnail():
        pass

    runs = [Mail.perform_async(), thumbnail.perform_async()]

    assert drain(WAIT)
    senders = {data["run"]: sender for name, sender, data in record.sent}
    assert senders == {runs[0]: Mail, runs[1]: thumbnail}
    assert [run.job for run in runs] == [Mail, thumbnail]


def test_a_receiver_connected_to_one_class_hears_of_no_other():
    """connect(receiver, sender=Mail) hears of Mail alone."""

    class Mail(Job):
        def perform(self):
            pass

    class Other(Job):
        def perform(self):
            pass

    heard: list = []

    def receiver(sender, run, **extra):
        heard.append(sender)

    with signals.job_succeeded.connected_to(receiver, sender=Mail):
        Other.perform_async()
        Mail.perform_async()
        assert drain(WAIT)

    assert heard == [Mail]


def test_enqueued_comes_before_started_for_every_run(record, in_threads, interleaved):
    """However fast a worker is, job_enqueued is sent first."""

    class Mail(Job, workers=4):
        def perform(self):
            pass

    in_threads(lambda _: [Mail.perform_async() for _ in range(200)], 3)

    assert drain(WAIT)
    first: dict = {}
    for name, _, data in record.sent:
        first.setdefault(data["run"], []).append(name)
    assert len(first) == 600
    assert {tuple(names) for names in first.values()} == {("job_enqueued", "job_started", "job_succeeded")}


def test_failures_and_discards_say_why(record):
    """job_failed brings the error, its traceback still attached; job_discarded the reason."""
    attached: list[bool] = []

    def look(sender, run, error, **extra):
        attached.append(error.__traceback__ is not None)

    class Mail(Job, workers=1):
        def perform(self, error):
            raise error

    failure = ValueError("bad address")
    with signals.job_failed.connected_to(look):
        failed = Mail.perform_async(failure)
        discarded = Mail.perform_async(Discard("later"))
        assert drain(WAIT)

    assert record.data("job_failed") == [{"run": failed, "error": failure}]
    assert record.data("job_discarded") == [{"run": discarded, "reason": "later"}]
    assert attached == [True]


def test_the_runtime_tells_of_its_shutdown(record):
    """shutdown_started and shutdown_finished come once each, with the report."""

    class Mail(Job):
        def perform(self):
            pass

    Mail.perform_async()

    report = shutdown(timeout=WAIT)
    shutdown(timeout=WAIT)
    with pytest.raises(ShutdownError):
        Mail.perform_async()

    names = [name for name, _, _ in record.sent]
    assert names[-3:] == ["shutdown_started", "shutdown_finished", "job_rejected"] or names.index(
        "shutdown_started"
    ) < names.index("shutdown_finished")
    assert names.count("shutdown_started") == names.count("shutdown_finished") == 1
    assert record.data("shutdown_finished") == [{"report": report}]
    restart()


def test_a_coroutine_as_a_receiver_is_named_in_the_log(caplog):
    """An async receiver would silently do nothing: it is logged, with what to do."""

    async def receiver(sender, **extra):
        pass

    class Mail(Job):
        def perform(self):
            pass

    with signals.job_succeeded.connected_to(receiver):
        assert Mail.perform_async().wait(WAIT)

    (line,) = caplog.messages
    assert "receiver" in line
    assert "plain function" in line


def test_a_receiver_that_takes_too_little_is_told_what_it_is_called_with(caplog):
    """The log names the signal as it is imported, and what receivers take; but not where a receiver's own code fails."""

    def too_little(sender, error):
        pass

    def mistaken(sender, **extra):
        len(5)

    class Mail(Job):
        def perform(self):
            pass

    for receiver in (too_little, mistaken):
        with signals.job_succeeded.connected_to(receiver):
            assert Mail.perform_async().wait(WAIT)

    called, inside = caplog.records
    assert "too_little of job_succeeded raised TypeError" in called.getMessage()
    assert "receivers are called with the sender and run: let them take **extra" in called.exc_text
    assert "receivers are called" not in inside.exc_text


def test_a_receiver_that_keeps_the_error_keeps_no_frame():
    """The frames are let go of once the closing is over, also for who has kept the error."""
    kept: list = []

    class Argument:
        pass

    def keep(sender, error, **extra):
        kept.append(error)

    class Mail(Job):
        def perform(self, argument):
            raise OSError

    argument = Argument()
    seen = weakref.ref(argument)
    with signals.job_failed.connected_to(keep):
        assert Mail.perform_async(argument).wait(WAIT)
    del argument
    drain(WAIT)
    gc.collect()

    assert seen() is None
    assert kept[0].__traceback__ is None


def test_a_receiver_may_enqueue():
    """A receiver of any signal may enqueue another run."""

    class Follow(Job):
        def perform(self):
            followed.append(1)

    class Mail(Job):
        def perform(self):
            pass

    followed: list[int] = []

    def follow(sender, **extra):
        Follow.perform_async()

    with (
        signals.job_enqueued.connected_to(follow, sender=Mail),
        signals.job_started.connected_to(follow, sender=Mail),
        signals.job_succeeded.connected_to(follow, sender=Mail),
    ):
        assert Mail.perform_async().wait(WAIT)

    assert drain(WAIT)
    assert followed == [1, 1, 1]


def test_a_muted_signal_is_not_sent(caplog):
    """Blinker's own muted() holds."""
    heard: list = []

    def receiver(sender, **extra):
        heard.append(sender)

    class Mail(Job):
        def perform(self):
            pass

    with signals.job_succeeded.connected_to(receiver), signals.job_succeeded.muted():
        assert Mail.perform_async().wait(WAIT)

    assert heard == []


def test_every_signal_is_documented():
    """Each signal says when it is sent and which keywords it brings."""
    for name in signals.__all__:
        assert getattr(signals, name).__doc__
    assert logging.getLogger("inproc_jobs").handlers == []
