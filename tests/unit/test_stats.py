"""What is counted, exactly, and the frozen snapshots of it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys

import pytest

from inproc_jobs import Discard, Job, Stats, drain, stats
from inproc_jobs.errors import QueueFullError
from inproc_jobs.types import Times

WAIT = 10.0  # seconds


def test_a_job_class_has_stats_before_its_first_run():
    """Every job class is in stats() from its definition on, all zero."""

    class Mail(Job):
        def perform(self):
            pass

    seen = stats()[Mail.__job__.name]

    assert isinstance(seen, Stats)
    assert {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)} == {
        field.name: 0 if field.name not in ("wait", "run") else type(seen.wait)() for field in dataclasses.fields(seen)
    }


def test_a_snapshot_is_frozen(gate):
    """A snapshot does not move with the counts, and cannot be changed."""

    class Mail(Job):
        def perform(self):
            pass

    before = stats()[Mail.__job__.name]
    assert Mail.perform_async().wait(WAIT)

    assert before.succeeded == 0
    with pytest.raises(AttributeError):
        before.succeeded = 3
    with pytest.raises(AttributeError):
        before.wait.count = 3
    with pytest.raises(AttributeError):
        del before.failed


def test_a_snapshot_is_a_value():
    """Two with the same figures are equal and have one hash; it can be shown, copied, pickled and made a dict."""

    class Mail(Job):
        def perform(self):
            pass

    assert Mail.perform_async().wait(WAIT)
    assert drain(WAIT)
    one, other = stats()[Mail.__job__.name], stats()[Mail.__job__.name]

    assert one is not other
    assert one == other == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert one != dataclasses.replace(one, failed=1)
    assert one != dataclasses.astuple(one)
    assert one.wait != dataclasses.astuple(one.wait)
    assert dataclasses.asdict(one)["wait"] == dataclasses.asdict(one.wait)
    assert repr(one).startswith("Stats(workers=0, busy=0, idle=0, queued=0, ")
    assert repr(type(one.wait)(count=2)) == "Times(count=2, mean=0.0, p50=0.0, p95=0.0, max=0.0)"


@pytest.mark.parametrize(
    ("values", "named"), [((1, 2, 3, 4, 5, 6), {}), ((1,), {"count": 2}), ((), {"median": 1.0})], ids=str
)
def test_a_snapshot_takes_each_of_its_fields_once(values, named):
    """Whoever makes one, for a test of his own, is told what it takes; one without a default must be given."""
    with pytest.raises(TypeError, match="Times takes each of these once: count, mean, p50, p95, max"):
        Times(*values, **named)
    with pytest.raises(TypeError, match="Stats takes each of these once: workers, busy, "):
        Stats(1)


def test_busy_queued_scheduled_and_retrying_say_what_is_now(make_gate):
    """The gauges show where the runs are."""
    first, second = make_gate(), make_gate()

    class Mail(Job, workers=2, retry=lambda attempt, error: 1000.0):
        def perform(self, what):
            what()

    def fail():
        raise OSError

    Mail.perform_async(fail)
    assert not drain(WAIT)
    Mail.perform_in(1000, fail)
    Mail.perform_async(first)
    first.entered()
    Mail.perform_async(second)
    second.entered()
    for _ in range(3):
        Mail.perform_async(second)

    seen = stats()[Mail.__job__.name]

    assert (seen.workers, seen.busy, seen.idle) == (2, 2, 0)
    assert (seen.queued, seen.scheduled, seen.retrying, seen.retried) == (3, 1, 1, 1)
    assert (seen.succeeded, seen.failed) == (0, 0)


def test_the_counts_are_exact_under_contention(in_threads, interleaved):
    """Eight producers and four workers at a switch interval of 1 us: not one run too many or too few is counted."""

    class Mail(Job, workers=4, max_queue=60, retry=lambda attempt, error: 0.0 if attempt < 2 else None):
        def perform(self, number):
            if number % 5 == 1:
                raise ValueError
            if number % 5 == 2:
                raise Discard
            if number % 5 == 3 and self.run.attempt == 1:
                raise ValueError

    accepted: list[list[int]] = [[] for _ in range(8)]
    refused = [0] * 8

    def produce(me):
        for number in range(250):
            try:
                Mail.perform_async(number)
                accepted[me].append(number % 5)
            except QueueFullError:
                refused[me] += 1

    assert sys.getswitchinterval() < 1e-4
    in_threads(produce, 8)
    assert drain(WAIT)

    kinds = [kind for one in accepted for kind in one]
    seen = stats()[Mail.__job__.name]
    assert len(kinds) + sum(refused) == 2000
    assert seen.rejected == sum(refused)
    assert seen.failed == kinds.count(1)
    assert seen.discarded == kinds.count(2)
    assert seen.retried == kinds.count(1) + kinds.count(3)
    assert seen.succeeded == kinds.count(0) + kinds.count(3) + kinds.count(4)
    assert seen.run.count == len(kinds) + seen.retried
    assert (seen.queued, seen.busy, seen.retrying) == (0, 0, 0)


def test_times_are_in_seconds_and_in_order(gate):
    """Wait and run tell how long, with count, mean, p50, p95 and max."""

    class Mail(Job, workers=1):
        def perform(self, what=None):
            if what:
                what()

    first = Mail.perform_async(gate)
    gate.entered()
    waiting = [Mail.perform_async() for _ in range(9)]
    assert not first.wait(0.05)
    gate.open()
    assert drain(WAIT)

    seen = stats()[Mail.__job__.name]
    for times in (seen.wait, seen.run):
        assert times.count == 10
        assert 0 <= times.p50 <= times.p95 <= times.max < WAIT
        assert 0 < times.mean <= times.max
    assert seen.wait.p50 >= 0.05
    assert seen.run.max >= 0.05
    assert seen.run.p50 < 0.05
    assert all(run.done() for run in waiting)


def test_the_wait_of_a_delayed_run_counts_from_its_due_time():
    """A delay that was asked for is no waiting."""

    class Mail(Job):
        def perform(self):
            pass

    assert Mail.perform_in(0.2).wait(WAIT)

    assert stats()[Mail.__job__.name].wait.max < 0.15
