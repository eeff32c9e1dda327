"""What follows a run from the caller to the worker, and what is left behind."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import pytest

from inproc_jobs import Job, RunState, _carriers

WAIT = 10.0  # seconds


@pytest.fixture
def carry():
    """Register a carrier for this test."""
    before = len(_carriers.carriers)
    yield _carriers.carry
    del _carriers.carriers[before:]


def test_a_carrier_is_asked_at_the_enqueue_and_entered_around_each_attempt(carry):
    """Captured once in the caller's thread, entered and left once per attempt in the worker's."""
    story: list[str] = []

    def carrier():
        story.append("captured")

        return "tenant"

    @contextmanager
    def entrance(tenant: str):
        story.append(f"entered {tenant}")
        try:
            yield
        finally:
            story.append("left")

    class Mail(Job, retry=lambda attempt, error: 0.0):
        def perform(self):
            story.append("performed")
            if self.run.attempt == 1:
                raise OSError

    carry(carrier, entrance)
    assert Mail.perform_async().wait(WAIT)

    assert story == ["captured", *["entered tenant", "performed", "left"] * 2]


def test_a_carrier_that_carries_nothing_costs_nothing(carry):
    """None means there is nothing to enter."""

    def entrance(_: object):
        raise AssertionError

    carry(lambda: None, entrance)

    class Mail(Job):
        def perform(self):
            return 1

    assert Mail.perform_async().result(WAIT) == 1


def test_an_entrance_that_raises_fails_the_attempt_alone(carry):
    """What cannot be entered is that run's failure; carriers entered before are left again."""
    left: list[int] = []

    @contextmanager
    def good(_: object):
        yield
        left.append(1)

    @contextmanager
    def careful(_: object):
        try:
            yield
        finally:
            left.append(2)

    @contextmanager
    def broken(_: object):
        raise SystemExit("no context")
        yield

    class Mail(Job, workers=1):
        def perform(self):
            return 1

    for entrance in (good, careful, broken):
        carry(lambda: True, entrance)
    run = Mail.perform_async()

    assert run.wait(WAIT)
    assert (run.state, type(run.error), left) == (RunState.FAILED, SystemExit, [2])


def test_a_carrier_that_raises_raises_in_the_caller(carry):
    """A broken carrier is the caller's to see: nothing is accepted."""

    def broken():
        raise LookupError("nothing to carry")

    class Mail(Job):
        def perform(self):
            pass

    carry(broken, nullcontext)
    with pytest.raises(LookupError):
        Mail.perform_async()


def test_what_is_left_behind_does_not_follow():
    """A variable that must not outlive the caller is unset in the job; others follow all the same."""
    dropped: ContextVar[str] = ContextVar("dropped", default="unset")
    kept: ContextVar[str] = ContextVar("kept", default="unset")
    before = _carriers._left_behind

    class Mail(Job):
        def perform(self):
            return dropped.get(), kept.get()

    tokens = dropped.set("the caller's"), kept.set("the caller's")
    _carriers.leave_behind(dropped)
    try:
        run = Mail.perform_async()
        assert dropped.get() == "the caller's"
    finally:
        _carriers._left_behind = before
        dropped.reset(tokens[0])
        kept.reset(tokens[1])

    assert run.result(WAIT) == ("unset", "the caller's")


def test_without_a_carrier_the_callers_context_follows():
    """Where no framework is, what the caller has set is in the job all the same."""
    word: ContextVar[str] = ContextVar("word", default="unset")
    before = _carriers.carriers[:]

    class Mail(Job):
        def perform(self):
            return word.get()

    token = word.set("the caller's")
    _carriers.carriers.clear()
    try:
        run = Mail.perform_async()
    finally:
        _carriers.carriers.extend(before)
        word.reset(token)

    assert run.result(WAIT) == "the caller's"


def test_a_carrier_that_carries_nothing_is_passed_over(carry):
    """Of several carriers, only those that captured something are entered; one that is registered twice, once."""
    entered: list[str] = []

    def entrance(what: str):
        entered.append(what)
        return nullcontext()

    nothing, something = (lambda: None), (lambda: "tenant")
    for capture in (nothing, something, something):
        carry(capture, entrance)

    class Mail(Job):
        def perform(self):
            return list(entered)

    assert Mail.perform_async().result(WAIT) == ["tenant"]
