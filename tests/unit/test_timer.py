"""What happens later: delays, moments, many of them, and their end."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from inproc_jobs import Job, RunState, drain, restart, shutdown, stats

WAIT = 10.0  # seconds


class Later(Job, workers=1):
    def perform(self, what=None):
        if what:
            what()
        return time.monotonic()


@pytest.mark.parametrize("delay", [0.05, timedelta(milliseconds=50)])
def test_perform_in_starts_no_earlier_and_soon_after(delay):
    """A delay is seconds or a timedelta; the run starts when it has passed."""
    started = time.monotonic()

    run = Later.perform_in(delay)

    assert 0.05 <= run.result(WAIT) - started < 1


def test_perform_at_starts_at_the_moment_in_whatever_zone():
    """An aware datetime means the same moment in each zone."""
    started = time.monotonic()
    when = datetime.now(timezone(timedelta(hours=5))) + timedelta(seconds=0.1)

    run = Later.perform_at(when)

    assert 0.08 <= run.result(WAIT) - started < 2


def test_a_moment_that_has_passed_means_now():
    """perform_at in the past starts at once."""
    assert Later.perform_at(datetime(2001, 1, 1, tzinfo=UTC)).wait(WAIT)


def test_delayed_runs_start_in_the_order_of_their_times():
    """The heap orders by time, and by insertion within the same."""
    order: list[str] = []

    for what, delay in (("c", 0.06), ("a", 0.02), ("b", 0.04)):
        Later.perform_in(delay, lambda what=what: order.append(what))

    assert drain(WAIT)
    assert order == ["a", "b", "c"]


def test_a_later_delay_does_not_hold_up_an_earlier_one():
    """An earlier entry wakes the timer that waits for a later one."""
    Later.perform_in(1000)

    assert Later.perform_in(0.01).wait(5)


def test_many_delays_are_cheap_and_cost_one_thread():
    """20,000 pending runs enqueue in seconds, cost one thread, and a shutdown discards them all by name."""
    before = threading.active_count()
    started = time.monotonic()

    runs = [Later.perform_in(1000 + number) for number in range(20_000)]

    assert time.monotonic() - started < 5
    assert threading.active_count() - before <= 2
    assert stats()[Later.__job__.name].scheduled == 20_000
    report = shutdown(timeout=1)
    assert len(report.discarded) == 20_000
    assert {run.reason for run in runs} == {"shutdown"}


def test_drain_does_not_miss_a_run_on_its_way_from_the_timer_to_the_queue(interleaved):
    """drain() returns True only when every run due by then has ended, however it races the timer."""
    for number in range(400):
        run = Later.perform_in(number % 10 * 0.0002)

        assert drain(WAIT)
        assert run.done()


def test_a_shutdown_names_or_finishes_every_delayed_run(record):
    """However the deadline races the timer, each accepted run ends, and the discarded ones are in the report."""
    for number in range(60):
        runs = [Later.perform_in(one * 0.0005) for one in range(20)]

        report = shutdown(timeout=number % 10 * 0.001)

        discarded = [run for run in runs if run.state is RunState.DISCARDED]
        assert all(run.wait(5) for run in runs)
        assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.DISCARDED}
        assert set(report.discarded) >= set(discarded)
        restart()


def test_drain_waits_for_what_is_due_and_not_for_what_is_not():
    """drain() waits for a delay within its timeout, and returns False at once when all that is left is later."""
    soon = Later.perform_in(0.05)
    Later.perform_in(1000)
    started = time.monotonic()

    assert drain(5) is False

    assert soon.done()
    assert time.monotonic() - started < 3


def test_a_cancelled_delay_is_forgotten(gate):
    """Cancelled delays cost nothing: thousands may come and go beside a pending one."""
    Later.perform_in(1000)
    for _ in range(2000):
        assert Later.perform_in(1000).cancel()

    assert stats()[Later.__job__.name].scheduled == 1
    assert len(shutdown(timeout=0.1).discarded) == 1
