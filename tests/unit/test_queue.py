"""The queue of one job class: its bound, the policies at the bound, priority, and what is let in again."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType

import pytest
from gates import until

from inproc_jobs import (
    Discard,
    Job,
    Run,
    RunState,
    _full,
    _modes,
    _queue,
    _runtime,
    _worker,
    configure,
    current_run,
    drain,
    restart,
    shutdown,
    signals,
    stats,
)
from inproc_jobs._queue import JobQueue, readmit
from inproc_jobs.errors import QueueFullError, RejectedError, RunDiscardedError, ScheduleFullError, ShutdownError

WAIT = 10.0  # seconds


def fill(job, gate, *, waiting: int):
    """Keep the one worker of *job* in the gate, and let so many runs wait behind it."""
    inside = job.perform_async(gate)
    gate.entered()
    return inside, [job.perform_async(gate) for _ in range(waiting)]


def test_a_full_queue_refuses_by_name_and_says_what_to_do(gate):
    """when_full="raise": an enqueue beyond max_queue is a QueueFullError in the caller, which is also a queue.Full."""

    class Mail(Job, workers=1, max_queue=2):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=2)

    with pytest.raises(QueueFullError) as caught:
        Mail.perform_async(gate)

    assert isinstance(caught.value, queue.Full)
    assert isinstance(caught.value, RejectedError)
    assert caught.value.limit == 2
    assert caught.value.job == Mail.__job__.name
    for word in ("Mail", "max_queue=2", "workers", "when_full"):
        assert word in str(caught.value)


def test_a_queue_that_fills_up_while_a_run_is_made_refuses_it(gate, monkeypatch):
    """The bound holds for an enqueue that found room, and was interrupted by many others before its run was in."""

    class Mail(Job, workers=1, max_queue=300):
        def perform(self, gate):
            gate()

    _, waiting = fill(Mail, gate, waiting=40)

    def make(*given):
        monkeypatch.undo()
        waiting.extend([Mail.perform_async(gate) for _ in range(260)])
        return Run(*given)

    monkeypatch.setattr(_queue, "Run", make)
    with pytest.raises(QueueFullError):
        Mail.perform_async(gate)
    mail = stats()[Mail.__job__.name]
    gate.open()

    assert (mail.queued, mail.rejected) == (300, 1)
    assert drain(WAIT)
    assert [run.state for run in waiting] == [RunState.SUCCEEDED] * 300


def test_a_refused_enqueue_is_counted_and_announced_and_never_runs(gate, record):
    """A rejection leaves one count and one job_rejected, and nothing that runs."""

    class Mail(Job, workers=1, max_queue=1):
        performed = 0

        def perform(self, gate):
            gate()
            Mail.performed += 1

    fill(Mail, gate, waiting=1)

    with pytest.raises(QueueFullError) as caught:
        Mail.perform_async(gate)
    gate.open()

    assert drain(WAIT)
    assert Mail.performed == 2
    assert stats()[Mail.__job__.name].rejected == 1
    (rejected,) = record.data("job_rejected")
    assert rejected["error"] is caught.value
    assert record.names(rejected["run"]) == ["job_rejected"]
    assert rejected["run"].done()
    assert rejected["run"].reason == "queue_full"


def test_the_bound_is_exact_for_a_small_queue_under_many_producers(gate, in_threads):
    """Never more than max_queue runs wait, however many threads enqueue."""

    class Mail(Job, workers=1, max_queue=50):
        def perform(self, gate):
            gate()

    Mail.perform_async(gate)
    gate.entered()
    outcomes: Counter[str] = Counter()

    def produce(_):
        for _ in range(50):
            try:
                Mail.perform_async(gate)
                outcomes["accepted"] += 1
            except QueueFullError:
                outcomes["refused"] += 1

    in_threads(produce, 4)

    assert stats()[Mail.__job__.name].queued == 50
    assert stats()[Mail.__job__.name].rejected == 150


def test_block_waits_for_room(gate):
    """when_full="block": the enqueue returns as soon as a worker has taken a run."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=WAIT):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)
    threading.Timer(0.05, gate.open).start()

    run = Mail.perform_async(gate)

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


def test_a_blocked_producer_gets_in_as_soon_as_there_is_room(gate):
    """It is told by the worker that takes a run, and does not wait for its own timeout."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=60):
        def perform(self, gate=None):
            if gate:
                gate()

    fill(Mail, gate, waiting=1)
    producer = threading.Thread(target=Mail.perform_async)
    producer.start()
    threading.Event().wait(0.2)
    gate.open()

    producer.join(5)
    assert not producer.is_alive()


def test_a_blocked_producer_gets_in_when_a_run_is_cancelled(gate):
    """A cancelled run leaves room at once, and the producer is told."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=60):
        def perform(self, gate=None):
            if gate:
                gate()

    _, (waiting,) = fill(Mail, gate, waiting=1)
    producer = threading.Thread(target=Mail.perform_async)
    producer.start()
    until(lambda: Mail.__job__.queue.blocked)
    waiting.cancel()

    producer.join(5)
    assert not producer.is_alive()


def test_block_raises_after_its_timeout(gate, record):
    """when_full="block" waits block_timeout seconds and no longer."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=0.05):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)
    started = time.monotonic()

    with pytest.raises(QueueFullError):
        Mail.perform_async(gate)

    assert 0.05 <= time.monotonic() - started < 2
    assert len(record.data("job_rejected")) == 1
    assert stats()[Mail.__job__.name].rejected == 1


def test_every_blocked_producer_gets_in_once_there_is_room(gate, in_threads):
    """No wake-up is lost: four producers blocked at a queue of one all get their runs in."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=WAIT):
        performed = 0

        def perform(self, gate):
            gate()
            Mail.performed += 1

    fill(Mail, gate, waiting=1)
    threading.Timer(0.05, gate.open).start()

    in_threads(lambda _: [Mail.perform_async(gate) for _ in range(50)], 4)

    assert drain(WAIT)
    assert Mail.performed == 202


def test_block_is_refused_on_an_event_loop(gate):
    """when_full="block" never blocks an event loop: there it raises at once, and says why."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=30):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)

    async def view():
        Mail.perform_async(gate)

    started = time.monotonic()
    with pytest.raises(QueueFullError, match="event loop"):
        asyncio.run(view())
    assert time.monotonic() - started < 5


def test_block_inside_the_only_worker_is_refused_at_once(gate):
    """A job that would wait for room only itself could make gets a QueueFullError instead of a deadlock."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=30):
        def perform(self, gate, *, again):
            if again:
                gate()
                Mail.perform_async(gate, again=False)

    run = Mail.perform_async(gate, again=True)
    gate.entered()
    Mail.perform_async(gate, again=False)
    started = time.monotonic()

    gate.open()

    with pytest.raises(QueueFullError):
        run.result(WAIT)
    assert time.monotonic() - started < 5


def test_block_inside_all_workers_at_once_is_refused(make_gate):
    """Two workers that both wait for room which only they could make do not sit out their block_timeout."""
    first, second = make_gate(), make_gate()

    class Mail(Job, workers=2, max_queue=1, when_full="block", block_timeout=30):
        def perform(self, gate):
            if gate is not None:
                gate()
                Mail.perform_async(None)

    runs = [Mail.perform_async(first)]
    first.entered()
    runs.append(Mail.perform_async(second))
    second.entered()
    Mail.perform_async(None)

    first.open()
    second.open()

    for run in runs:
        assert run.wait(WAIT), "two blocked workers wait for each other"
    assert RunState.FAILED in {run.state for run in runs}


def test_block_ends_with_a_shutdown(gate):
    """A producer that is blocked when the process stops gets a ShutdownError, not silence."""

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=WAIT):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)
    errors = []

    def produce():
        try:
            Mail.perform_async(gate)
        except BaseException as error:
            errors.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    shutdown(timeout=0.1)

    producer.join(WAIT)
    assert not producer.is_alive()
    assert [type(error) for error in errors] == [ShutdownError]


def test_caller_runs_performs_in_the_callers_thread(gate, record):
    """when_full="caller_runs": the run that does not fit has ended when perform_async returns, with all its signals."""

    class Mail(Job, workers=1, max_queue=1, when_full="caller_runs"):
        def perform(self, gate):
            gate()
            return threading.get_ident()

    class Open:
        def __call__(self):
            pass

    fill(Mail, gate, waiting=1)

    run = Mail.perform_async(Open())

    assert run.done()
    assert run.result(0) == threading.get_ident()
    assert record.names(run) == ["job_enqueued", "job_started", "job_succeeded"]
    assert stats()[Mail.__job__.name].succeeded == 1


def test_caller_runs_keeps_the_error_in_the_run(gate):
    """when_full="caller_runs": a failure belongs to the run, not to the caller who enqueued it."""

    class Mail(Job, workers=1, max_queue=1, when_full="caller_runs"):
        def perform(self, gate):
            gate()

    def fail():
        raise SystemExit(3)

    fill(Mail, gate, waiting=1)

    run = Mail.perform_async(fail)

    assert run.state is RunState.FAILED
    assert isinstance(run.error, SystemExit)


def test_caller_runs_inside_a_job_does_not_deadlock_and_gives_the_run_back(gate):
    """A job at a full queue of its own class performs the new run inside itself, and is itself again afterwards."""

    class Mail(Job, workers=1, max_queue=1, when_full="caller_runs"):
        def perform(self, gate, depth):
            if depth:
                gate()
                inner = Mail.perform_async(gate, 0)
                seen.extend([inner.state, self.run is current_run(), current_run().args[1]])
            else:
                seen.append(current_run().args[1])

    seen: list = []
    outer = Mail.perform_async(gate, 1)
    gate.entered()
    Mail.perform_async(gate, 0)
    gate.open()

    outer.result(WAIT)

    assert seen[:4] == [0, RunState.SUCCEEDED, True, 1]


def test_caller_runs_does_not_recurse_without_end(gate):
    """A job that enqueues itself at a full queue ends in a QueueFullError long before the stack does."""

    class Mail(Job, workers=1, max_queue=1, when_full="caller_runs"):
        depth = 0

        def perform(self, gate):
            gate()
            Mail.depth += 1
            Mail.perform_async(gate)

    class Filler:
        def __call__(self):
            raise RuntimeError("ends here")

    outer = Mail.perform_async(gate)
    gate.entered()
    Mail.perform_async(Filler())
    gate.open()

    assert outer.wait(WAIT)
    assert drain(WAIT)
    assert Mail.depth < 100


def test_caller_runs_counts_what_its_own_thread_is_inside_of(gate, monkeypatch):
    """However many workers are at work, a thread that performs nothing yet may perform the new run."""
    monkeypatch.setattr(_full, "MAX_NESTING", 1)

    class Mail(Job, workers=3, max_queue=1, when_full="caller_runs"):
        def perform(self, what):
            what()

    for _ in range(3):
        Mail.perform_async(gate)
        gate.entered()
    Mail.perform_async(int)

    assert Mail.perform_async(int).state is RunState.SUCCEEDED


def test_discard_gives_the_new_run_back_as_discarded(gate, record, caplog):
    """when_full="discard": the new run ends at once with reason "queue_full", counted, announced and logged once."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard"):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)

    run = Mail.perform_async(gate)

    assert (run.state, run.reason, run.done(), run.args) == (RunState.DISCARDED, "queue_full", True, ())
    assert record.names(run) == ["job_enqueued", "job_discarded"]
    assert stats()[Mail.__job__.name].discarded == 1
    assert [run.id in line for line in caplog.messages] == [True]


def test_discard_oldest_makes_room_for_the_new_run(gate, record):
    """when_full="discard_oldest": the run that has waited longest ends as discarded, and the new one runs."""

    class Mail(Job, workers=1, max_queue=2, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest, younger) = fill(Mail, gate, waiting=2)

    new = Mail.perform_async(gate)
    gate.open()

    assert (oldest.state, oldest.reason) == (RunState.DISCARDED, "queue_full")
    assert new.wait(WAIT)
    assert younger.wait(WAIT)
    assert {younger.state, new.state} == {RunState.SUCCEEDED}
    assert record.names(oldest) == ["job_enqueued", "job_discarded"]


def test_discard_oldest_discards_one_run_where_more_wait_than_may(gate):
    """What comes back above the bound was accepted: a new run takes the place of one, and not of all there is too much of."""

    class Mail(Job, workers=1, max_queue=2, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest, younger) = fill(Mail, gate, waiting=2)
    due = [Mail.perform_in(0.0, gate) for _ in range(3)]
    until(lambda: stats()[Mail.__job__.name].queued == 5)

    new = Mail.perform_async(gate)

    assert (oldest.state, oldest.reason) == (RunState.DISCARDED, "queue_full")
    assert [run.state for run in (younger, *due, new)] == [RunState.QUEUED] * 5
    gate.open()
    assert drain(WAIT)
    assert {run.state for run in (younger, *due, new)} == {RunState.SUCCEEDED}


def test_discard_oldest_finds_a_worker_faster(gate, monkeypatch):
    """when_full="discard_oldest": where workers have taken all that waited meanwhile, nothing is discarded."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest,) = fill(Mail, gate, waiting=1)
    displace = JobQueue._displace

    def taken_meanwhile(self, priority, displaced):
        gate.open()
        assert oldest.wait(WAIT)
        displace(self, priority, displaced)

    monkeypatch.setattr(JobQueue, "_displace", taken_meanwhile)
    new = Mail.perform_async(gate)

    assert drain(WAIT)
    assert {oldest.state, new.state} == {RunState.SUCCEEDED}


def test_discard_oldest_displaces_none_that_is_being_announced(gate):
    """when_full="discard_oldest": a run whose job_enqueued is being sent keeps its place, and the new one is discarded."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=0)
    inner = []

    def enqueue_once(sender, run, **extra):
        signals.job_enqueued.disconnect(enqueue_once)
        inner.append(Mail.perform_async(gate))

    with signals.job_enqueued.connected_to(enqueue_once):
        outer = Mail.perform_async(gate)
    gate.open()

    assert drain(WAIT)
    assert [(run.state, run.reason) for run in inner] == [(RunState.DISCARDED, "queue_full")]
    assert outer.state is RunState.SUCCEEDED


def test_discard_oldest_spares_runs_of_a_higher_priority(gate):
    """when_full="discard_oldest" never drops a more important run for a less important one: then the new run goes."""

    class Mail(Job, workers=1, max_queue=2, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    Mail.perform_async(gate)
    gate.entered()
    high = Mail.using(priority=5).perform_async(gate)
    low = Mail.perform_async(gate)

    new = Mail.perform_async(gate)
    newest = Mail.using(priority=-1).perform_async(gate)
    gate.open()

    assert drain(WAIT)
    assert [run.state.value for run in (high, low, new, newest)] == ["succeeded", "discarded", "succeeded", "discarded"]


@pytest.mark.parametrize("when_full", ["raise", "block", "caller_runs", "discard", "discard_oldest"])
def test_every_policy_accounts_for_every_enqueue(when_full, in_threads, interleaved):
    """Whatever the policy, under four producers each enqueue either raises or gives a run that ends exactly once."""

    class Mail(Job, workers=2, max_queue=3, when_full=when_full, block_timeout=0.001):
        def perform(self):
            performed.append(1)

    performed: list[int] = []
    runs: list = []
    refused: list = []

    def produce(_):
        for _ in range(200):
            try:
                runs.append(Mail.perform_async())
            except QueueFullError as error:
                refused.append(error)

    in_threads(produce, 4)
    assert drain(WAIT)

    ended = Counter(run.state.value for run in runs)
    seen = stats()[Mail.__job__.name]
    assert len(runs) + len(refused) == 800
    assert ended["succeeded"] == len(performed) == seen.succeeded
    assert ended["discarded"] == seen.discarded
    assert ended["succeeded"] + ended["discarded"] == len(runs)
    assert seen.rejected == len(refused)
    assert (seen.queued, seen.busy) == (0, 0)


def test_the_policy_of_one_call_goes_before_the_classs(gate):
    """using(when_full=...) decides for that call alone."""

    class Mail(Job, workers=1, max_queue=1):
        def perform(self, gate):
            gate()

    fill(Mail, gate, waiting=1)

    run = Mail.using(when_full="discard").perform_async(gate)

    assert run.state is RunState.DISCARDED
    with pytest.raises(QueueFullError):
        Mail.perform_async(gate)


def test_higher_priorities_start_first_and_equals_in_their_order(gate, caplog):
    """Waiting runs start by priority, and within one in the order of their enqueues."""
    order: list[str] = []

    class Mail(Job, workers=1):
        def perform(self, what):
            if callable(what):
                what()
            else:
                order.append(what)

    Mail.perform_async(gate)
    gate.entered()
    for what, priority in (("a", 0), ("low", -100), ("b", 0), ("high", 100), ("five", 5), ("high too", 100)):
        Mail.using(priority=priority).perform_async(what)
    gate.open()

    assert drain(WAIT)
    assert order == ["high", "high too", "five", "a", "b", "low"]
    shutdown(WAIT)
    assert not caplog.records  # a worker that was at work takes them, too


def test_a_run_of_a_priority_of_its_own_starts_when_it_has_been_announced(record):
    """An idle worker comes for it as for any other."""

    class Mail(Job):
        def perform(self):
            pass

    run = Mail.using(priority=5).perform_async()

    assert run.wait(WAIT)
    assert record.names(run) == ["job_enqueued", "job_started", "job_succeeded"]


def test_priorities_count_together_against_the_bound(gate):
    """max_queue bounds all waiting runs of a class, whatever their priority."""

    class Mail(Job, workers=1, max_queue=2):
        def perform(self, gate):
            gate()

    Mail.perform_async(gate)
    gate.entered()
    Mail.using(priority=1).perform_async(gate)
    Mail.using(priority=2).perform_async(gate)

    with pytest.raises(QueueFullError):
        Mail.using(priority=3).perform_async(gate)


def test_a_run_that_waits_too_long_is_discarded_as_expired(gate, record):
    """expires_in: a run that has not started in time is not performed, and ends with reason "expired"."""

    class Mail(Job, workers=1):
        def perform(self, gate):
            gate()
            performed.append(1)

    performed: list[int] = []
    Mail.perform_async(gate)
    gate.entered()
    late = Mail.using(expires_in=0.01).perform_async(gate)
    assert not late.wait(0.05)

    gate.open()

    assert late.wait(WAIT)
    assert (late.state, late.reason) == (RunState.DISCARDED, "expired")
    assert (late.attempt, late.started_at) == (0, None)
    assert performed == [1]
    assert record.names(late) == ["job_enqueued", "job_discarded"]


def test_a_run_that_starts_in_time_does_not_expire(gate):
    """expires_in bounds the wait, not the run."""

    class Mail(Job, workers=1, expires_in=2):
        def perform(self, gate):
            gate()

    run = Mail.perform_async(gate)
    gate.entered()
    assert not run.wait(2.1)

    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


def test_a_scheduled_run_expires_from_its_due_time_on():
    """expires_in of a delayed run counts from when it is due, not from the enqueue."""

    class Mail(Job, expires_in=5):
        def perform(self):
            return "ran"

    run = Mail.using(expires_in=2).perform_in(2.1)

    assert run.result(WAIT) == "ran"


def test_due_runs_and_retries_come_in_above_the_bound(gate):
    """A run that was accepted is never refused later by a full queue."""

    class Mail(Job, workers=1, max_queue=1):
        def perform(self, gate):
            gate()

    class Flaky(Exception):
        retry_after = 0

    tried: list[int] = []

    def fail_once():
        tried.append(1)
        if len(tried) == 1:
            raise Flaky

    retried = Mail.using(retry=lambda attempt, error: 0.0).perform_async(fail_once)
    assert retried.wait(WAIT)
    fill(Mail, gate, waiting=1)
    due = [Mail.perform_in(0.01, gate) for _ in range(20)]
    deadline = time.monotonic() + WAIT
    while stats()[Mail.__job__.name].queued < 21 and time.monotonic() < deadline:
        due[0].wait(0.01)

    assert stats()[Mail.__job__.name].queued == 21
    assert stats()[Mail.__job__.name].rejected == 0
    gate.open()
    assert drain(WAIT)
    assert {run.state for run in due} == {RunState.SUCCEEDED}
    assert retried.state is RunState.SUCCEEDED
    assert len(tried) == 2


def test_retries_are_not_refused_by_a_full_queue(make_gate):
    """A retry whose queue has filled up meanwhile is let in all the same."""
    door, wall = make_gate(), make_gate()

    class Mail(Job, workers=1, max_queue=1):
        def perform(self, what):
            what()

    def fail_once():
        if current_run().attempt == 1:
            door()
            raise OSError

    run = Mail.using(retry=lambda attempt, error: 1000.0).perform_async(fail_once)
    door.entered()
    blocker = Mail.perform_async(wall)
    door.open()
    wall.entered()
    waiting = Mail.perform_async(wall)
    _modes.advance(_runtime.runtime(), 1000)
    until(lambda: not stats()[Mail.__job__.name].retrying)
    assert stats()[Mail.__job__.name].queued == 2
    wall.open()

    assert run.wait(WAIT)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
    assert blocker.wait(WAIT)
    assert waiting.wait(WAIT)


def test_pending_delays_have_a_limit_of_their_own():
    """max_scheduled: beyond it perform_in is a QueueFullError that names the setting."""
    configure(max_scheduled=5)

    class Mail(Job):
        def perform(self):
            pass

    runs = []
    with pytest.raises(QueueFullError, match="max_scheduled"):
        runs.extend(Mail.perform_in(1000) for _ in range(10))
    assert stats()[Mail.__job__.name].rejected == 1


def test_what_was_cancelled_leaves_room_for_other_delays():
    """max_scheduled counts the runs that wait, not those that have been taken out."""

    class Mail(Job):
        def perform(self):
            pass

    configure(max_scheduled=5)
    for run in [Mail.perform_in(1000) for _ in range(5)][:2]:
        run.cancel()
    runs = [Mail.perform_in(1000) for _ in range(2)]
    with pytest.raises(QueueFullError, match="max_scheduled"):
        Mail.perform_in(1000)

    assert [run.state for run in runs] == [RunState.SCHEDULED] * 2


def test_at_most_workers_runs_of_a_class_run_at_once(gate, in_threads):
    """Workers bounds how many runs of a class are performed together, whoever enqueues; so many there are."""
    lock = threading.Lock()
    seen: list[int] = []
    now = 0

    class Mail(Job, workers=3):
        def perform(self):
            nonlocal now
            with lock:
                now += 1
                seen.append(now)
            gate()
            threading.Event().wait(0.001)
            with lock:
                now -= 1

    in_threads(lambda _: [Mail.perform_async() for _ in range(50)], 4)
    gate.entered(3)
    gate.open()

    assert drain(WAIT)
    assert len(seen) == 200
    assert max(seen) == 3


def test_workers_rest_while_a_receiver_takes_its_time(gate):
    """A run that is still being announced keeps no worker awake: there is nothing to do for it yet."""

    class Mail(Job):
        def perform(self):
            pass

    def receive(sender, run, **extra):
        gate()

    assert Mail.perform_async().wait(WAIT)
    with signals.job_enqueued.connected_to(receive, sender=Mail):
        producer = threading.Thread(target=Mail.perform_async)
        producer.start()
        gate.entered()
        assert drain(0.0) is False  # which looks whether a worker should come
        before = time.process_time()
        threading.Event().wait(0.3)
        spent = time.process_time() - before
        gate.open()
        producer.join(WAIT)

    assert spent < 0.15
    assert drain(WAIT)


def test_a_drain_ends_with_the_run_that_another_thread_performs_itself(gate):
    """perform_now tells whoever waits for the process to go quiet, as a worker does."""

    class Mail(Job):
        def perform(self):
            gate()

    drained: list[bool] = []
    caller = threading.Thread(target=Mail.perform_now)
    waiter = threading.Thread(target=lambda: drained.append(drain(60)))
    caller.start()
    gate.entered()
    waiter.start()
    waiter.join(0.2)
    assert not drained

    gate.open()

    caller.join(WAIT)
    waiter.join(WAIT)
    assert drained == [True]


@pytest.mark.parametrize("when_full", ["raise", "block", "caller_runs", "discard", "discard_oldest"])
def test_too_many_retries_refuse_new_runs_whatever_the_policy(gate, when_full):
    """max_scheduled is no bound of the queue's: no policy could make room, and none throws away what waits."""

    class Mail(Job, workers=1, when_full=when_full, retry=lambda attempt, error: 1000.0):
        def perform(self, what):
            what()

    def fail():
        raise OSError

    failed = [Mail.perform_async(fail) for _ in range(2)]
    assert drain(WAIT) is False
    assert [run.state for run in failed] == [RunState.RETRYING] * 2
    inside, waiting = fill(Mail, gate, waiting=2)
    configure(max_scheduled=2)
    with pytest.raises(ScheduleFullError, match="max_scheduled"):
        Mail.perform_async(gate)

    assert [run.state for run in waiting] == [RunState.QUEUED] * 2
    gate.open()
    assert all(run.wait(WAIT) for run in (inside, *waiting))


def test_a_receiver_of_job_rejected_sees_what_was_refused(gate):
    """The arguments are still there, so that the work can be kept elsewhere; afterwards the run lets go of them."""
    seen = []
    runs = []

    class Mail(Job, workers=1, max_queue=1):
        def perform(self, what, number=0):
            what()

    def keep(sender, run, error, **extra):
        runs.append(run)
        seen.append((run.state, run.args, dict(run.kwargs), type(error)))

    fill(Mail, gate, waiting=1)
    with signals.job_rejected.connected_to(keep, sender=Mail), pytest.raises(QueueFullError) as refused:
        Mail.perform_async(gate, number=7)

    assert seen == [(RunState.DISCARDED, (gate,), {"number": 7}, QueueFullError)]
    assert [(run.args, dict(run.kwargs)) for run in runs] == [((), {})]
    assert refused.value.job == Mail.__job__.name


@pytest.mark.parametrize(
    ("setting", "value"),
    [("workers", 10_001), ("max_queue", 10**9 + 1), ("workers", 10**30), ("max_queue", 10**400)],
    ids=["workers", "max_queue", "workers huge", "max_queue huge"],
)
def test_a_number_beyond_any_machine_is_refused(setting, value):
    """An option has an upper bound, which the error names; a permit for each of 10**30 workers would not fit."""
    with pytest.raises(ValueError, match=rf"Mail: {setting} must be from 1 to 1\d+"):
        type("Mail", (Job,), {}, **{setting: value})


def test_a_run_that_a_shutdown_refuses_says_so(record):
    """Its reason is not that of a full queue."""

    class Mail(Job):
        def perform(self):
            pass

    shutdown()

    for enqueue in (Mail.perform_async, lambda: Mail.perform_in(10)):
        with pytest.raises(ShutdownError):
            enqueue()
    assert [data["run"].reason for data in record.data("job_rejected")] == ["shutdown"] * 2


def test_the_bound_holds_for_all_priorities_together(gate):
    """Runs of a priority of their own take room from the others, also far below the bound."""

    class Mail(Job, workers=1, max_queue=300):
        def perform(self, gate=None):
            if gate:
                gate()

    Mail.perform_async(gate)
    gate.entered()
    for _ in range(280):
        Mail.using(priority=5).perform_async()
    for _ in range(20):
        Mail.perform_async()

    with pytest.raises(QueueFullError):
        Mail.perform_async()


def test_every_signal_of_a_run_is_sent_by_its_job(record, gate):
    """The sender is the job class, by which receivers choose what to hear."""

    class Mail(Job, workers=1, max_queue=2, retry=lambda attempt, error: 0.0 if attempt == 1 else None):
        def perform(self, what=None):
            if what:
                what()

    def give_up():
        raise Discard("why")

    Mail.using(timeout=0.02).perform_async(gate)
    gate.entered()
    until(lambda: record.data("job_overran"))
    gate.open()
    assert drain(WAIT)
    Mail.perform_async(lambda: 1 / 0)
    assert drain(WAIT)
    Mail.perform_async(give_up)
    Mail.perform_in(1000).cancel()
    assert drain(WAIT)
    shutdown()
    with pytest.raises(ShutdownError):
        Mail.perform_async()

    ours = [(name, sender) for name, sender, data in record.sent if "run" in data]
    assert {sender for _, sender in ours} == {Mail}
    assert {name for name, _ in ours} == {
        *("job_enqueued", "job_started", "job_succeeded", "job_retried", "job_failed"),
        *("job_discarded", "job_cancelled", "job_overran", "job_rejected"),
    }


@pytest.mark.parametrize("delay", [0, 60], ids=["now", "later"])
def test_a_run_whose_announcement_outlasts_the_shutdown_is_discarded_by_name(record, delay):
    """It was accepted, so it is named like any other that could not be finished."""

    class Mail(Job):
        def perform(self):
            pass

    meanwhile: list[RunState] = []

    def stop(sender, run, **extra):
        shutdown(timeout=0)
        meanwhile.append(run.state)

    with signals.job_enqueued.connected_to(stop):
        run = Mail.perform_in(delay) if delay else Mail.perform_async()

    assert meanwhile == [RunState.SCHEDULED if delay else RunState.QUEUED]
    assert (run.state, run.reason) == (RunState.DISCARDED, "shutdown")
    assert sorted(record.names(run)) == ["job_discarded", "job_enqueued"]  # blinker calls receivers in no order
    seen = stats()[Mail.__job__.name]
    assert (seen.queued, seen.scheduled, seen.discarded) == (0, 0, 1)


# What comes in between.


@contextmanager
def before_lines(acts: dict[str, Callable[[], object]]) -> Iterator[None]:
    """Have each of *acts* called once, as the queue or a worker comes to the line that begins with its key."""
    if sys.version_info < (3, 12):
        pytest.skip("needs sys.monitoring")
    monitoring, tool = sys.monitoring, 4
    left = dict(acts)

    def look(code: CodeType, number: int) -> object:
        if not code.co_filename.endswith(
            ("inproc_jobs/_queue.py", "inproc_jobs/_worker.py")
        ):  # nor is it opened, which a test would see
            return monitoring.DISABLE
        line = linecache.getline(code.co_filename, number).strip()
        start = next((start for start in acts if line.startswith(start)), None)
        if start is None:
            return monitoring.DISABLE
        left.pop(start, int)()
        return None

    monitoring.use_tool_id(tool, "before_lines")
    monitoring.register_callback(tool, monitoring.events.LINE, look)
    monitoring.restart_events()
    monitoring.set_events(tool, monitoring.events.LINE)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.LINE, None)
        monitoring.free_tool_id(tool)
    assert not left, "it has not come there"


class Raced(Job):
    performed = 0

    def perform(self):
        Raced.performed += 1


class Alone(Job, workers=1):
    def perform(self):
        pass


def test_a_worker_that_comes_before_the_run_is_in_comes_again():
    """It is called before the run is made, for it takes longer to wake; here it has looked and gone by then."""
    Alone.perform_async().wait(WAIT)
    queue = Alone.__job__.queue
    until(lambda: queue._permits)

    def come_and_go() -> None:
        until(lambda: queue.threads.called is None)
        until(lambda: queue._permits)

    with before_lines({"run = Run(self, options": come_and_go}):
        run = Alone.perform_async()

    assert run.wait(WAIT)


def test_a_worker_that_was_sent_home_before_the_run_is_in_is_called_again():
    """A whole shutdown and a restart come in between, and no thread has been there to take what was ready."""
    Alone.perform_async().wait(WAIT)
    shutdown(WAIT)
    restart()

    with before_lines({"run = Run(self, options": lambda: (shutdown(0), restart())}):
        run = Alone.perform_async()

    assert run.wait(WAIT)


def test_two_producers_may_call_the_same_worker():
    """The second takes the permit that the first has seen; the worker performs the runs of both."""
    Alone.perform_async().wait(WAIT)
    until(lambda: Alone.__job__.queue._permits)
    runs: list[Run] = []

    with before_lines({"self._hand_over()": lambda: runs.append(Alone.perform_async())}):
        runs.append(Alone.perform_async())

    for run in runs:
        assert run.wait(WAIT)


def test_a_permit_that_is_gone_for_a_moment_is_seen_when_it_is_back():
    """Another producer has taken it, and its worker has come and gone before this run is in."""
    Alone.perform_async().wait(WAIT)
    permits, taken = Alone.__job__.queue._permits, []
    until(lambda: permits)
    acts = {
        "self._hand_over()": lambda: taken.append(permits.pop()),
        "run = Run(self, options": lambda: permits.append(taken.pop()),
    }

    with before_lines(acts):
        run = Alone.perform_async()

    assert run.wait(WAIT)


def test_a_permit_that_comes_home_while_a_run_is_let_in_is_seen():
    """Its worker has looked just before, and goes."""
    Alone.perform_async().wait(WAIT)
    permits = Alone.__job__.queue._permits
    until(lambda: permits)
    taken = [permits.pop()]

    with before_lines({"waiting.append(run)": lambda: permits.append(taken.pop())}):
        run = Alone.perform_async()

    assert run.wait(WAIT)


def test_a_run_that_comes_back_while_another_is_made_is_not_kept_waiting():
    """The permit is on the ready list and no thread has been asked for yet, as a signal handler waits for the run."""
    Alone.perform_async().wait(WAIT)
    shutdown(WAIT)
    restart()
    later = Alone.perform_in(0.05)
    waited: list[bool] = []

    with before_lines({"run = Run(self, options": lambda: waited.append(later.wait(WAIT))}):
        run = Alone.perform_async()

    assert waited == [True]
    assert run.wait(WAIT)


def test_a_job_that_is_interrupted_while_it_enqueues_sees_why():
    """The error is raised in its thread at any bytecode, also before there is a run that could be refused."""

    def interrupt() -> None:
        raise ShutdownError("raised in the thread", job="job")

    Alone.perform_async().wait(WAIT)

    with before_lines({"run = Run(self, options": interrupt}), pytest.raises(ShutdownError, match="raised in the thr"):
        Alone.perform_async()

    assert Alone.perform_async().wait(WAIT)


def test_an_enqueue_calls_one_worker():
    """Of those that are idle; a second one would find nothing."""
    Raced.perform_async().wait(WAIT)
    queue = Raced.__job__.queue
    hand_over, calls = queue._hand_over, itertools.count(1)

    def counted() -> None:
        hand_over()
        next(calls)

    queue._hand_over = counted
    try:
        for _ in range(100):
            until(lambda: len(queue._permits) == 2)
            Raced.perform_async().wait(WAIT)
    finally:
        queue._hand_over = hand_over

    assert next(calls) < 150


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
@pytest.mark.parametrize("then", ["Mail.perform_async().wait(10)", "drain(10)"])
@pytest.mark.parametrize("line", ["run = Run(self, options", "if threads.called is not call", "threads.look()"])
def test_a_worker_that_was_called_in_vain_keeps_no_run_waiting(line: str, then: str, python):
    """An error strikes just after, and there is no thread yet that would come: the next enqueue or drain asks for one."""
    done = python(
        f"""
import linecache, sys
from inproc_jobs import Job, drain

class Mail(Job, workers=1):
    def perform(self):
        pass

def strike(code, number):
    if linecache.getline(code.co_filename, number).strip().startswith({line!r}):
        sys.monitoring.set_events(4, 0)
        raise KeyboardInterrupt

sys.monitoring.use_tool_id(4, "strike")
sys.monitoring.register_callback(4, sys.monitoring.events.LINE, strike)
sys.monitoring.set_events(4, sys.monitoring.events.LINE)
try:
    Mail.perform_async()
except KeyboardInterrupt:
    print("struck")
print({then})
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "struck\nTrue\n", "")


def test_an_enqueue_that_a_whole_shutdown_overtakes_is_refused():
    """The shutdown has looked at the queue before the run was in: whoever enqueues it is told."""
    before = Raced.performed

    with before_lines({"waiting.append(run)": lambda: shutdown(0)}), pytest.raises(ShutdownError):
        Raced.perform_async()

    seen = stats()[Raced.__job__.name]
    assert (seen.queued, seen.rejected, seen.discarded) == (0, 1, 0)
    assert Raced.performed == before


def test_an_enqueue_that_a_whole_shutdown_overtakes_is_discarded_if_a_worker_was_faster():
    """It is accepted then, and named like all that could not be finished."""
    acts = {
        "waiting.append(run)": lambda: shutdown(0),
        "self._recheck(run)": lambda: Raced.__job__.queue.get_nowait(),
    }

    with before_lines(acts):
        run = Raced.perform_async()

    assert (run.state, run.reason, run.done()) == (RunState.DISCARDED, "shutdown", True)
    assert stats()[Raced.__job__.name].queued == 0


@pytest.mark.parametrize("line", ["self._hold(run, due)", "self.timer.insert(when, readmit, run)"])
def test_a_delay_that_a_whole_shutdown_overtakes_is_discarded_by_name(line: str):
    """The shutdown has looked at what is scheduled before the run was there, or before it was with the timer."""
    Raced.perform_async().wait(WAIT)
    reports = []

    with before_lines({line: lambda: reports.append(shutdown(0))}):
        run = Raced.perform_in(1000)

    seen = stats()[Raced.__job__.name]
    assert (run.state, run.reason, run.done()) == (RunState.DISCARDED, "shutdown", True)
    assert reports[0].discarded == [run]
    assert (seen.scheduled, seen.rejected, seen.discarded) == (0, 0, 1)
    assert Raced.__job__.queue.timer.size() == 0


@pytest.mark.parametrize("line", ["held = True", "if self.swept or not hasattr"])
def test_an_announced_delay_that_a_whole_shutdown_overtakes_is_discarded_by_name(line: str):
    """Its receivers have been called, and it is with the timer already, of which the shutdown takes it."""
    Raced.perform_async().wait(WAIT)
    reports = []

    with signals.job_enqueued.connected_to(int), before_lines({line: lambda: reports.append(shutdown(0))}):
        run = Raced.perform_in(1000)

    assert (run.state, run.reason, run.done()) == (RunState.DISCARDED, "shutdown", True)
    assert reports[0].discarded == [run]
    assert stats()[Raced.__job__.name].scheduled == 0


def test_a_drain_does_not_take_a_delay_that_is_still_being_enqueued_for_one_that_is_left():
    """It is not accepted yet, so that all that was has settled."""
    Raced.perform_async()
    assert drain(WAIT)
    answers = []

    with before_lines({"self.timer.insert(when, readmit, run)": lambda: answers.append(drain(0))}):
        run = Raced.perform_in(1000)

    assert answers == [True]
    assert not drain(0)
    assert run.cancel()
    assert drain(0)


def test_a_cancel_that_is_interrupted_leaves_nothing_with_the_timer():
    """Or a drain would wait until the run would have been due, and say that it is still to come."""

    def interrupt():
        raise KeyboardInterrupt

    run = Raced.perform_in(1000)

    with before_lines({"self.timer.withdraw(run)": interrupt}), pytest.raises(KeyboardInterrupt):
        run.cancel()

    assert run.state is RunState.CANCELLED
    assert Raced.__job__.queue.timer.next_due(readmit) is None
    assert drain(WAIT)


def test_a_delay_that_a_shutdown_and_a_restart_overtake_leaves_nothing_with_the_timer():
    """It has been discarded, so that a drain need not wait until it would have been due."""
    Raced.perform_async().wait(WAIT)

    with before_lines({"self.timer.insert(when, readmit, run)": lambda: (shutdown(0), restart())}):
        run = Raced.perform_in(1000)

    assert (run.state, run.reason, run.done()) == (RunState.DISCARDED, "shutdown", True)
    assert Raced.__job__.queue.timer.next_due(readmit) is None


def test_an_enqueue_that_a_closing_overtakes_is_finished_with_the_rest():
    """What is in before the last look counts as accepted."""
    Raced.perform_async().wait(WAIT)

    with before_lines({"waiting.append(run)": lambda: Raced.__job__.queue.close()}):
        run = Raced.perform_async()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED


@pytest.mark.parametrize(("line", "priority"), [("self.take()", 0), ("move()", 1)])
def test_a_worker_that_finds_the_run_gone_goes_on(line: str, priority: int, caplog):
    """Two workers may come for the same run: one of them has it, and the other looks again."""
    Alone.using(priority=priority).perform_async().wait(WAIT)
    jobs = Alone.__job__.queue
    taken: list[Run] = []

    def come_first() -> None:
        until(jobs.qsize)  # the worker is called before the run is in
        taken.append(jobs.get_nowait())

    with before_lines({line: come_first}):
        run = Alone.perform_async()
        assert drain(WAIT)

    assert taken == [run]
    assert run.state is RunState.QUEUED
    jobs.put(run)
    assert run.wait(WAIT)
    shutdown(WAIT)
    assert not caplog.records  # no worker has died of it


def test_a_delayed_run_whose_time_comes_after_the_last_look_is_discarded():
    """A shutdown has looked at the queue, and not yet at what waits for its time."""
    Raced.perform_async().wait(WAIT)
    discarded: list[Run] = []

    with before_lines({"waiting = self.scheduled": lambda: Raced.__job__.queue.sweep(0, discarded)}):
        run = Raced.perform_in(0.01)
        assert run.wait(WAIT)

    assert (run.state, run.reason) == (RunState.DISCARDED, "shutdown")
    until(lambda: discarded == [run])  # noted once it has ended; a shutdown waits for the thread that does
    assert stats()[Raced.__job__.name].queued == 0


def test_a_run_whose_worker_dies_after_the_last_look_is_discarded(struck):
    """It was in nobody's hands as the shutdown looked, and is named all the same."""
    Raced.perform_async().wait(WAIT)
    before = Raced.performed
    discarded: list[Run] = []

    look = before_lines({"if run.state is not QUEUED": lambda: Raced.__job__.queue.sweep(0, discarded)})
    with look, struck("Worker.perform") as strikes:
        run = Raced.perform_async()
        assert run.wait(WAIT)

    assert strikes
    assert (run.state, run.reason) == (RunState.DISCARDED, "shutdown")
    until(lambda: discarded == [run])
    assert Raced.performed == before


# Workers that die.


@pytest.mark.parametrize("function", ["Tally.time", "Worker._conclude_failed"])
def test_a_run_on_which_its_worker_has_died_has_failed(struck, record, caplog, function):
    """What strikes the worker between the job and its end, a MemoryError, is the run's failure; the queue goes on."""

    class Mail(Job, workers=1):
        def perform(self, *, fails):
            if fails:
                raise OSError("the mail")

    with struck(function) as strikes:
        bad = Mail.perform_async(fails=function != "Tally.time")
        good = Mail.perform_async(fails=False)
        assert good.result(WAIT) is None

    assert strikes
    assert bad.wait(WAIT)
    assert (bad.state, type(bad.error)) == (RunState.FAILED, MemoryError)
    assert bad.error.__traceback__ is None
    assert bad.error.__context__ is None or bad.error.__context__.__traceback__ is None
    assert record.names(bad)[-1] == "job_failed"
    until(lambda: "a worker's thread died and is replaced" in caplog.messages)  # it says so at its very end
    assert caplog.messages.count("a worker's thread died and is replaced") == 1
    seen = stats()[Mail.__job__.name]
    assert (seen.succeeded, seen.failed) == (1, 1)


def test_a_run_whose_retry_cannot_be_noted_has_failed(gate, struck):
    """A MemoryError as it would begin to wait for its next attempt is its end; nothing is left to wait for."""

    class Mail(Job, workers=1, retry=lambda attempt, error: 1000.0):
        def perform(self):
            gate()
            raise OSError("the mail")

    run = Mail.perform_async()
    gate.entered()

    with struck("Timer.insert") as strikes:
        gate.open()
        assert run.wait(WAIT)

    assert strikes
    assert (run.state, type(run.error)) == (RunState.FAILED, MemoryError)
    assert stats()[Mail.__job__.name].retrying == 0
    assert drain(WAIT)


def test_a_thread_that_dies_before_it_is_a_worker_gives_back_what_it_came_for(struck):
    """Another thread comes for the queue, with the same permit."""

    class Mail(Job, workers=1):
        def perform(self):
            return "sent"

    with struck("JobQueue.employ") as strikes:
        runs = [Mail.perform_async() for _ in range(3)]
        assert [run.result(WAIT) for run in runs] == ["sent"] * 3

    assert strikes


def test_a_run_that_its_worker_had_not_started_is_performed_by_another(struck, caplog):
    """A worker that dies on its way to perform gives the run back, to the front."""
    order: list[int] = []

    class Mail(Job, workers=1):
        def perform(self, number):
            order.append(number)

    with struck("Worker.perform") as strikes:
        runs = [Mail.perform_async(number) for number in range(3)]
        assert all(run.wait(WAIT) for run in runs)

    assert strikes
    assert order == [0, 1, 2]
    assert [run.attempt for run in runs] == [1, 1, 1]
    assert stats()[Mail.__job__.name].succeeded == 3


@pytest.mark.parametrize("announced", [False, True], ids=["unheard", "announced"])
@pytest.mark.parametrize("function", ["Timer.insert", "JobQueue._put_announced"])
def test_an_enqueue_that_runs_out_of_memory_was_not_accepted_or_is_performed(struck, record, announced, function):
    """A MemoryError that comes out of an enqueue leaves nothing behind that counts, and nothing that is lost."""
    if not announced:
        record.disconnect()

    class Mail(Job):
        def perform(self):
            pass

    with struck(function) as strikes, suppress(MemoryError):
        if function == "Timer.insert":
            Mail.perform_in(0.01)
        else:
            Mail.perform_async()

    assert bool(strikes) is (function == "Timer.insert" or announced)
    record.connect()
    assert Mail.perform_async().wait(WAIT)
    assert drain(WAIT)
    seen = stats()[Mail.__job__.name]
    assert (seen.queued, seen.scheduled, seen.failed) == (0, 0, 0)


def test_a_delayed_run_whose_announcement_fails_was_not_accepted(struck, record):
    """What comes out of the enqueue is all there is: nothing waits, and a drain has nothing to wait for."""

    class Mail(Job):
        def perform(self):
            pass

    with struck("JobQueue.announce") as strikes, pytest.raises(MemoryError):
        Mail.perform_in(1000)

    assert strikes
    assert stats()[Mail.__job__.name].scheduled == 0
    assert not Mail.__job__.queue._unheld
    assert drain(WAIT)


def test_the_oldest_ends_although_an_error_strikes_its_end(struck, gate):
    """It has been taken out already, so that nobody else would."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest,) = fill(Mail, gate, waiting=1)

    with struck("Run._close") as strikes, pytest.raises(MemoryError):
        Mail.perform_async(gate)

    assert strikes
    assert (oldest.state, oldest.reason, oldest.done()) == (RunState.DISCARDED, "queue_full", True)


def test_retries_fill_the_schedule_and_then_new_runs_are_refused():
    """A retry is never refused; what it takes of max_scheduled, new runs of its class do not get."""
    configure(max_scheduled=1)

    class Mail(Job, retry=lambda attempt, error: 1000.0):
        def perform(self, fails=True):
            if fails:
                raise OSError

    retried = Mail.perform_async()
    until(lambda: retried.state is RunState.RETRYING)
    with pytest.raises(ScheduleFullError, match="max_scheduled") as caught:
        Mail.perform_async(False)
    assert (caught.value.job, caught.value.limit) == (retried.job_name, 1)
    assert retried.cancel()
    assert Mail.perform_async(False).wait(WAIT)


def test_a_producer_that_waits_for_room_sees_that_a_worker_comes(gate, struck, monkeypatch):
    """A worker may have died of an error before it could call another one for what it has left behind."""
    monkeypatch.setattr(_worker, "FAIR_SHARE", -1.0)  # it gives way after each run if others wait
    configure(max_threads=1)

    class Mail(Job, workers=1, max_queue=1, when_full="block", block_timeout=2.0):
        def perform(self, gate=None):
            if gate is not None:
                gate()

    class Other(Job):
        def perform(self):
            pass

    Mail.perform_async(gate)
    gate.entered()
    left = Mail.perform_async()
    other = Other.perform_async()
    with struck("JobQueue.nudge") as strikes:
        gate.open()
        assert other.wait(WAIT)

    assert strikes
    assert Mail.perform_async().wait(WAIT)
    assert left.state is RunState.SUCCEEDED


def test_only_runs_count_as_scheduled(gate):
    """A timeout that is watched takes nothing of max_scheduled, nor does one whose attempt is over."""
    configure(max_scheduled=2)

    class Report(Job, timeout=1000):
        def perform(self, gate=None):
            if gate is not None:
                gate()

    Report.perform_async().result(WAIT)
    Report.perform_async(gate)
    gate.entered()

    later = [Report.perform_in(1000) for _ in range(2)]
    with pytest.raises(ScheduleFullError):
        Report.perform_in(1000)
    assert later[0].cancel()
    assert Report.perform_in(1000).state is RunState.SCHEDULED


def test_a_run_whose_retry_a_shutdown_overtakes_has_failed(record):
    """A receiver of job_retried may shut down; there is no other attempt then, and the error is the run's."""

    class Mail(Job, retry=lambda attempt, error: 0.0):
        def perform(self):
            raise OSError("the mail")

    def stop(sender, run, **extra):
        shutdown(timeout=0)

    with signals.job_retried.connected_to(stop):
        run = Mail.perform_async()
        assert run.wait(WAIT)

    assert (run.state, type(run.error)) == (RunState.FAILED, OSError)
    assert record.names(run)[-1] == "job_failed"


def test_a_run_that_is_cancelled_as_its_retry_is_announced_has_no_other_attempt(record):
    """A receiver of job_retried may have seen enough."""

    class Mail(Job, retry=lambda attempt, error: 0.0):
        def perform(self):
            raise OSError("the mail")

    def cancel(sender, run, **extra):
        run.cancel()

    with signals.job_retried.connected_to(cancel):
        run = Mail.perform_async()
        assert run.wait(WAIT)

    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)
    assert record.names(run)[-1] == "job_cancelled"


def test_a_run_that_is_shut_down_while_it_is_announced_is_not_performed_now(record):
    """It has a thread already, and is discarded there."""

    class Mail(Job):
        def perform(self):
            pytest.fail("it was performed")

    def stop(sender, run, **extra):
        other = threading.Thread(target=shutdown, args=(0,))
        other.start()
        other.join(WAIT)

    with signals.job_enqueued.connected_to(stop), pytest.raises(RunDiscardedError, match="shutdown"):
        Mail.perform_now()

    assert sorted(name for name, _, data in record.sent if "run" in data) == ["job_discarded", "job_enqueued"]


def test_a_shutdown_by_who_hears_of_the_oldest_names_the_run_in_its_place(gate):
    """The new run has been accepted by then."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest,) = fill(Mail, gate, waiting=1)
    reports = []

    def stop(sender, run, **extra):
        signals.job_discarded.disconnect(stop)
        reports.append(shutdown(timeout=0))

    with signals.job_discarded.connected_to(stop):
        new = Mail.perform_async(gate)

    assert (oldest.state, oldest.reason) == (RunState.DISCARDED, "queue_full")
    assert (new.state, new.reason) == (RunState.DISCARDED, "shutdown")
    assert new in reports[0].discarded
    gate.open()


def test_nothing_is_discarded_for_a_run_that_a_shutdown_refuses(gate, monkeypatch):
    """when_full="discard_oldest": where the process has shut down meanwhile, the enqueue is refused as any other."""

    class Mail(Job, workers=1, max_queue=1, when_full="discard_oldest"):
        def perform(self, gate):
            gate()

    _, (oldest,) = fill(Mail, gate, waiting=1)
    put_instead = JobQueue.put_instead

    def stopped_meanwhile(self, run):
        shutdown(timeout=0)
        put_instead(self, run)

    monkeypatch.setattr(JobQueue, "put_instead", stopped_meanwhile)
    with pytest.raises(ShutdownError):
        Mail.perform_async(gate)

    assert (oldest.state, oldest.reason) == (RunState.DISCARDED, "shutdown")
    gate.open()


def test_a_queue_can_be_read_as_the_standard_librarys(gate):
    """It is a queue.Queue: what waits can be taken out of it, the highest priority first."""

    class Mail(Job, workers=1):
        def perform(self, gate=None):
            if gate:
                gate()

    Mail.perform_async(gate)
    gate.entered()
    low, high = Mail.perform_async(), Mail.using(priority=5).perform_async()
    waiting = Mail.__job__.queue

    assert isinstance(waiting, queue.Queue)
    assert [waiting.get_nowait(), waiting.get_nowait()] == [high, low]
    with pytest.raises(queue.Empty):
        waiting.get_nowait()
    for run in (low, high):
        run.cancel()
