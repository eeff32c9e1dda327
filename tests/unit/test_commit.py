"""Enqueues that wait for a transaction, with the least framework that has some."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from inproc_jobs import Job, RunState, _commit, configure, drain, job, stats
from inproc_jobs.errors import DeadlockError, QueueFullError, RunDiscardedError

WAIT = 10.0


class Transactions:
    """One transaction after the other, of any database."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], object], str | None]] = []

    def defer(self, call: Callable[[], object], database: str | None) -> None:
        self.calls.append((call, database))

    def commit(self) -> None:
        calls, self.calls = self.calls, []
        for call, _ in calls:
            call()

    def roll_back(self) -> None:
        self.calls.clear()
        gc.collect()


@pytest.fixture
def transactions() -> Iterator[Transactions]:
    before = _commit._defer
    transactions = Transactions()
    _commit.defer_by(transactions.defer)
    yield transactions
    _commit._defer = before


def test_a_commit_enqueues(transactions, record):
    """Nothing is enqueued before the commit, and everything after it, in order."""
    done = []

    class Mail(Job, workers=1):
        def perform(self, number):
            done.append(number)

    runs = [Mail.perform_on_commit(number) for number in range(3)]
    assert (done, record.sent) == ([], [])

    transactions.commit()

    assert drain(WAIT)
    assert done == [0, 1, 2]
    assert all(run.state is RunState.SUCCEEDED for run in runs)
    assert record.names(runs[0])[:2] == ["job_enqueued", "job_started"]


def test_a_rollback_enqueues_nothing(transactions, record):
    """After a rollback the run was never accepted: no signal, no count; and whoever kept it is told so."""

    class Mail(Job):
        def perform(self, number):
            raise AssertionError

    run = Mail.perform_on_commit(1)

    transactions.roll_back()

    assert (run.state, run.reason, run.done(), run.args) == (RunState.DISCARDED, "rollback", True, ())
    with pytest.raises(RunDiscardedError, match="rollback"):
        run.result(1)
    assert record.sent == []


@pytest.mark.parametrize("call", ["perform_async", "perform_in", "perform_at", "perform_on_commit"])
def test_the_option_is_that_of_every_enqueue(transactions, call):
    """on_commit=True holds for perform_async and for what is enqueued for later; database names the transaction."""

    class Mail(Job, on_commit=True, database="other"):
        def perform(self):
            pass

    first = {"perform_in": (0,), "perform_at": (datetime.now(UTC),)}.get(call, ())
    run = getattr(Mail, call)(*first)
    using = getattr(Mail.using(database="third"), call)(*first)

    assert [database for _, database in transactions.calls] == ["other", "third"]
    assert Mail.__job__.queue._qsize() + len(Mail.__job__.queue.scheduled) == 0
    transactions.commit()
    assert run.wait(WAIT)
    assert using.wait(WAIT)


def test_perform_now_does_not_wait(transactions):
    """perform_now is part of the transaction, whatever the options say."""

    @job(on_commit=True)
    def double(number):
        return 2 * number

    assert double.perform_now(4) == 8
    assert transactions.calls == []


def test_using_on_commit(transactions):
    """using(on_commit=...) decides for one call, either way."""

    @job(on_commit=True)
    def mail():
        return 1

    assert mail.using(on_commit=False).perform_async().result(WAIT) == 1
    assert transactions.calls == []


def test_a_full_queue_at_the_commit(transactions, gate):
    """What is refused at the commit raises there."""

    @job(workers=1, max_queue=1)
    def stand():
        gate()

    stand.perform_async()
    gate.entered()
    stand.perform_async()
    stand.perform_on_commit()

    with pytest.raises(QueueFullError):
        transactions.commit()

    gate.open()


def test_cancelled_before_the_commit(transactions):
    """A run that is cancelled before its commit is not performed."""

    @job
    def mail():
        raise AssertionError

    run = mail.perform_on_commit()

    assert run.cancel()
    transactions.commit()
    assert run.wait(WAIT)
    assert run.state is RunState.CANCELLED


def test_waiting_inside_the_transaction(transactions):
    """To wait for a run before its commit would be for ever."""

    @job
    def mail():
        pass

    run = mail.perform_on_commit()

    with pytest.raises(DeadlockError, match="commits"):
        run.wait()
    assert not run.wait(0.0)


def test_the_time_counts_from_the_commit(transactions):
    """A run is accepted, and begins to expire, when its transaction commits."""

    @job(expires_in=2)
    def mail():
        pass

    before = mail.perform_on_commit()
    made = before.enqueued_at
    assert not before.wait(2.1)

    transactions.commit()

    assert before.wait(WAIT)
    assert before.state is RunState.SUCCEEDED
    assert before.enqueued_at > made


def test_without_a_framework():
    """Where nobody knows of transactions, the call says what to do."""
    before = _commit._defer
    _commit._defer = None

    @job
    def mail():
        pass

    try:
        with pytest.raises(RuntimeError, match="INSTALLED_APPS"):
            mail.perform_on_commit()
    finally:
        _commit._defer = before


@pytest.mark.parametrize(("option", "value"), [("on_commit", 1), ("on_commit", "yes"), ("database", 5)])
def test_wrong_values(option, value):
    """Each option is checked when the class is made."""
    with pytest.raises(TypeError, match=option):
        job(**{option: value})(lambda: None)


def test_the_settings_stay():
    """The option is the job's; the process has none for it."""
    with pytest.raises(TypeError, match="on_commit"):
        configure(on_commit=True)


def test_what_waits_for_a_commit_says_so(transactions):
    """The call that a framework keeps, and logs if it must, names the run; to make it again changes nothing."""

    @job(on_commit=True)
    def mail():
        return "sent"

    run = mail.perform_async()
    ((call, _),) = transactions.calls
    assert repr(call) == f"<admission of {run!r}>"

    call()
    assert run.result(WAIT) == "sent"
    call()

    assert drain(WAIT)
    assert stats()[run.job_name].succeeded == 1
