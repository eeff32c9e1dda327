"""What happens later: delays, moments, many of them, and their end."""

from __future__ import annotations

import _thread
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from heapq import heappush

import pytest
from gates import until

from inproc_jobs import Job, RunState, _clock, _timer, drain, restart, shutdown, stats
from inproc_jobs._clock import Moment

WAIT = 10.0  # seconds

# When something is due in so many seconds, on either clock.
CLOCKS = pytest.mark.parametrize(
    "clock",
    [lambda seconds: time.monotonic() + seconds, lambda seconds: Moment(time.time() + seconds)],
    ids=["monotonic", "wall"],
)


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
    now = datetime.now(UTC)

    for what, delay in (("c", 0.54), ("a", 0.5), ("b", 0.52)):
        Later.perform_at(now + timedelta(seconds=delay), lambda what=what: order.append(what))

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


# The timer by itself.


class Calls:
    """What a timer is to call: notes the arguments and the threads, and whoever wants can wait for them."""

    def __init__(self, act: Callable[[], object] = int) -> None:
        self.arguments: list[object] = []
        self.threads: list[threading.Thread] = []
        self._act = act
        self._came = threading.Semaphore(0)

    def __call__(self, argument: object = None) -> None:
        self.arguments.append(argument)
        self.threads.append(threading.current_thread())
        self._came.release()
        self._act()

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._came.acquire(timeout=WAIT), "it was not called"


@pytest.fixture
def timer() -> Iterator[_timer.Timer]:
    timer = _timer.Timer(limit=10)
    yield timer
    timer.stop(time.monotonic() + WAIT)


def timer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "inproc_jobs-timer"]


def test_calls_of_the_same_time_are_made_in_the_order_of_their_insertion(timer):
    """Two entries of one time are never compared by what they call, and none overtakes another."""
    calls = Calls()
    when = time.monotonic() + 0.05

    for number in range(9):
        timer.insert(when, calls, number)

    calls.wait(9)
    assert calls.arguments == list(range(9))


def test_calls_are_made_on_one_daemon_thread_that_is_told_after_each(timer):
    """The thread has a name, holds up no exit, and says when it has called."""
    told = Calls()
    timer.after_call = told
    calls = Calls()

    timer.call_soon(calls)
    timer.call_soon(calls, "once more")

    told.wait(2)
    assert calls.arguments == [None, "once more"]
    assert set(calls.threads) == set(told.threads) == set(timer_threads())
    assert all(thread.daemon for thread in calls.threads)


def test_a_call_that_raises_is_logged_and_made_once_more_after_a_while(timer, monkeypatch, caplog):
    """A call that fails again is given up, and those after it are made all the same."""
    monkeypatch.setattr(_timer, "AGAIN", 0.05)
    told, others = Calls(), Calls()
    timer.after_call = told
    moments: list[float] = []

    def fail(argument: object) -> None:
        moments.append(time.monotonic())
        raise ZeroDivisionError(argument)

    timer.call_soon(fail, "zero")
    timer.call_soon(others)

    told.wait(3)
    others.wait()
    assert timer.next_due(fail) is None
    assert len(moments) == 2
    assert 0.05 <= moments[1] - moments[0] < 1
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [("inproc_jobs._timer", "ERROR", "the timer's call raised ZeroDivisionError: zero")] * 2


def test_the_earliest_comes_first_in_what_is_taken_out(timer):
    """take() gives the arguments of one function in the order of their times, and leaves the calls of others."""
    calls, others = Calls(), Calls()
    now = time.monotonic()
    for delay in (400, 100, 300, 200):
        timer.insert(now + delay, calls, delay)
    timer.insert(Moment(time.time() + 50), calls, "wall")
    timer.insert(now + 0.1, others, None)

    assert timer.take(calls) == [100, 200, 300, 400, "wall"]

    assert timer.take(calls) == []
    assert timer.next_due(calls) is None
    others.wait()


def test_a_call_is_pending_until_it_is_over(timer, gate):
    """Whoever asks until when sees a call that is due by then, wherever in the heap, and the one being made."""
    calls, others = Calls(gate), Calls()
    now = time.monotonic()
    for delay in (100, 110, 120, 130):
        timer.insert(now + delay, others, None)
    for delay in (200, 300):
        timer.insert(now + delay, calls, None)

    assert [timer.pending(calls, now + delay) for delay in (150, 199, 200, 1000)] == [False, False, True, True]
    assert [timer.pending(others, now + delay) for delay in (99, 100)] == [False, True]

    timer.take(calls)
    assert not timer.pending(calls, now + 1000)
    timer.call_soon(calls)
    gate.entered()
    assert timer.pending(calls, now - 1000)
    assert not timer.pending(others, now - 1000)


@pytest.mark.parametrize("place", range(10))
def test_a_call_is_pending_wherever_in_the_heap(timer, place):
    """The part of the heap that is due is gone through to its last entry."""
    calls, others = Calls(), Calls()
    now = time.monotonic()

    for number in range(10):
        timer.insert(now + 100 + number, calls if number == place else others, None)

    assert timer.pending(calls, now + 100 + place)
    assert not timer.pending(calls, now + 99 + place)


def test_a_call_of_the_wall_clock_is_pending_on_the_monotonic_one(timer):
    """The deadline of a drain is monotonic; what the wall clock brings by then is waited for, too."""
    calls = Calls()
    timer.insert(Moment(time.time() + 100), calls, None)

    assert not timer.pending(calls, time.monotonic() + 90)
    assert timer.pending(calls, time.monotonic() + 110)


def test_what_is_due_next(timer, gate):
    """next_due() says in how many seconds, of whichever clock, zero if it should have been, None if never."""
    calls, blocking = Calls(), Calls(gate)
    timer.call_soon(blocking)
    gate.entered()
    assert timer.next_due(calls) is None

    timer.insert(Moment(time.time() + 100), calls, None)
    assert 99 < timer.next_due(calls) <= 100
    timer.insert(time.monotonic() + 50, calls, None)
    assert 49 < timer.next_due(calls) <= 50
    timer.insert(time.monotonic() - 10, calls, None)
    assert timer.next_due(calls) == 0.0


@CLOCKS
def test_time_that_is_said_to_have_passed_wakes_the_timer(timer, monkeypatch, clock):
    """advance() brings what is pending on either clock forward, by as much, and what becomes due is called."""
    calls = Calls()
    monkeypatch.setattr(_timer, "WALL_CHECK", 60.0)
    timer.insert(clock(2000), calls, "later")
    timer.insert(clock(1000), calls, "sooner")
    threading.Event().wait(0.2)  # until it sleeps, which nobody announces

    timer.advance(1000)

    calls.wait()
    assert calls.arguments == ["sooner"]
    assert 990 < timer.next_due(calls) <= 1000


def test_the_timer_is_full_at_its_limit_and_takes_more_all_the_same(timer):
    """Calls of both clocks count."""
    calls = Calls()
    for number in range(9):
        timer.insert(time.monotonic() + 1000, calls, number)
    assert not timer.full()

    timer.insert(Moment(time.time() + 1000), calls, 9)
    assert timer.full()
    timer.insert(time.monotonic() + 1000, calls, 10)
    assert timer.full()

    assert sorted(timer.take(calls)) == list(range(11))
    assert not timer.full()


def test_a_timer_has_room_until_the_margin_is_reached(timer):
    """So many calls below the limit, of whichever clock, whoever inserts should look closer."""
    left = []
    for number in range(10):
        left.append(timer.has_room(3))
        timer.insert(Moment(time.time() + 1000) if number % 2 else time.monotonic() + 1000, int, number)

    assert left == [True] * 7 + [False] * 3


def test_the_limit_is_for_those_calls_that_count(timer):
    """Whoever counts them is not asked before there are as many of any kind."""
    asked = []
    timer.counted = lambda: asked.append(timer.size()) or len(asked)
    for number in range(12):
        timer.insert(time.monotonic() + 1000, int, number)
        timer.full()

    assert asked == [10, 11, 12]
    assert [timer.full() for _ in range(8)] == [False] * 6 + [True] * 2


class Argument:
    pass


def test_withdrawn_calls_are_let_go_of_once_they_are_the_half(timer):
    """The heap is not gone through for each, but never holds more void entries than others."""
    calls = Calls()
    arguments = [Argument() for _ in range(10)]
    kept = [weakref.ref(argument) for argument in arguments]
    for number in range(5):
        timer.insert(time.monotonic() + 1000, calls, arguments[number])
        timer.insert(Moment(time.time() + 1000), calls, arguments[5 + number])

    while len(arguments) > 4:
        assert None not in [reference() for reference in kept]
        timer.withdraw(arguments.pop(0))

    assert [reference() is None for reference in kept] == [True] * 6 + [False] * 4
    assert timer.size() == 4
    assert timer.take(calls) == arguments


def test_withdrawn_calls_do_not_outlive_those_beside_them(timer):
    """What was withdrawn while others were pending is let go of when these have been made, not at its own time."""
    calls, argument = Calls(), Argument()
    kept = weakref.ref(argument)
    timer.insert(time.monotonic() + 0.05, calls, "first")
    timer.insert(time.monotonic() + 1000, calls, argument)
    timer.withdraw(argument)
    del argument

    calls.wait()
    for _ in range(1000):
        if kept() is None:
            break
        threading.Event().wait(0.01)

    assert kept() is None
    assert timer.size() == 0


def test_a_withdrawn_call_is_not_made_and_another_of_the_same_argument_is(timer):
    """Whether the heap has been cleared out meanwhile or the entry is met when it is due."""
    calls, others = Calls(), Calls()
    for number in range(5):
        timer.insert(time.monotonic() + 1000 + number, others, number)
    timer.insert(time.monotonic() + 0.05, calls, "void")
    timer.insert(time.monotonic() + 0.1, others, "after")

    timer.withdraw("void")

    others.wait()
    assert (calls.arguments, others.arguments) == ([], ["after"])
    timer.call_soon(calls, "void")
    calls.wait()


def test_withdrawing_leaves_the_others_in_order(timer):
    """What is left after the heap was cleared out is called at its time, the earliest first."""
    calls = Calls()
    now = time.monotonic()
    for number in (1, 4, 2, 8, 5, 3, 6, 7):
        timer.insert(now + 0.2 + number * 0.01, calls, number)

    for number in (1, 4, 2, 7, 6):
        timer.withdraw(number)

    calls.wait(3)
    assert calls.arguments == [3, 5, 8]


def test_taking_out_leaves_the_others_in_order(timer):
    """What is left after some were taken out is called at its time, the earliest first."""
    calls, others = Calls(), Calls()
    now = time.monotonic()
    for number in (1, 4, 2, 8, 5, 3, 6, 7):
        timer.insert(now + 0.2 + number * 0.01, others if number in (1, 4) else calls, number)

    assert timer.take(others) == [1, 4]

    calls.wait(6)
    assert calls.arguments == [2, 3, 5, 6, 7, 8]


def test_a_stop_forgets_what_is_pending_and_ends_the_thread(timer):
    """After a stop nothing is called but what is inserted after a resume, which may be what was withdrawn before."""
    calls, others = Calls(), Calls()
    timer.call_soon(others)
    others.wait()
    for number in range(5):
        timer.insert(time.monotonic() + 0.3, calls, number)
    timer.insert(Moment(time.time() + 0.3), calls, "wall")
    timer.withdraw(0)

    timer.stop(time.monotonic() + WAIT)

    until(lambda: not timer_threads())  # on a machine that stalls there is another, taken for lost before
    assert timer.next_due(calls) is None
    timer.call_soon(calls, 1)
    assert timer_threads() == []
    timer.resume()
    timer.call_soon(calls, 0)
    calls.wait()
    assert calls.arguments == [0]
    calls.threads[0].join(0.2)
    assert calls.threads[0].is_alive(), "it does not linger any more"


def test_a_stop_in_the_middle_of_an_insert_forgets_it(timer, monkeypatch):
    """A signal's handler that shuts down may come just after the call was put in: the insert ends, and starts nothing."""

    def push(heap, entry):
        heappush(heap, entry)
        timer.stop(0)

    monkeypatch.setattr(_timer, "heappush", push)

    timer.call_soon(Calls())

    assert timer.size() == 0
    assert timer_threads() == []


def test_a_stop_waits_for_a_call_no_longer_than_its_deadline(timer, gate):
    """A call that hangs does not hold up whoever stops the timer, and the timer ends after it."""
    timer.call_soon(Calls(gate))
    gate.entered()
    (thread,) = timer_threads()
    started = time.monotonic()

    timer.stop(time.monotonic() + 0.1)

    assert 0.1 <= time.monotonic() - started < 2
    gate.open()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_an_idle_timer_ends_its_thread_and_starts_another_when_it_is_needed(timer, monkeypatch):
    """A process that delays nothing any more has no thread for it; one that may again soon keeps it a while."""
    monkeypatch.setattr(_timer, "LINGER", 0.2)
    calls = Calls()
    timer.call_soon(calls, "first")
    calls.wait()
    timer.insert(time.monotonic() + 1000, calls, "far")
    calls.threads[0].join(0.4)
    timer.insert(time.monotonic() + 0.1, calls, "later")
    calls.wait()
    timer.withdraw("far")
    timer.call_soon(calls, "soon after")
    calls.wait()
    assert len(set(calls.threads)) == 1

    calls.threads[0].join(WAIT)
    until(lambda: not timer_threads())
    timer.call_soon(calls, "much later")
    calls.wait()

    assert calls.arguments == ["first", "later", "soon after", "much later"]


def test_a_timer_whose_last_call_was_withdrawn_keeps_its_thread_a_while(timer):
    """It wakes up for nothing, and waits for what comes next, as after a call."""
    calls = Calls()
    timer.call_soon(calls)
    calls.wait()
    timer.insert(time.monotonic() + 0.4, calls, "withdrawn")
    calls.threads[0].join(0.2)

    timer.withdraw("withdrawn")

    calls.threads[0].join(0.5)
    assert calls.threads[0].is_alive()


def test_a_timer_of_the_far_future_goes_on(timer, caplog):
    """No wait is longer than a lock can: ten thousand years are no error."""
    calls = Calls()

    timer.insert(time.monotonic() + 3e11, calls, "far")
    timer.insert(time.monotonic() + 0.05, calls, "near")

    calls.wait()
    assert calls.arguments == ["near"]
    assert not caplog.records


@CLOCKS
def test_a_timer_sleeps_until_the_next_call(timer, monkeypatch, clock):
    """It wakes when the call is due, not at the next look at the wall clock, and does not poll meanwhile."""
    monkeypatch.setattr(_timer, "WALL_CHECK", 60.0)
    calls = Calls()
    timer.insert(clock(1), calls, None)
    started = time.process_time()

    calls.wait()

    assert time.process_time() - started < 0.05


def test_a_wall_clock_that_is_set_is_noticed(timer, monkeypatch):
    """Nothing announces that the clock was put forward an hour, so it is looked at, but no delay is moved by it."""
    monkeypatch.setattr(_timer, "WALL_CHECK", 0.05)
    calls = Calls()
    timer.insert(Moment(time.time() + 3600), calls, "moment")
    timer.insert(time.monotonic() + 3600, calls, "delay")

    monkeypatch.setattr(_clock, "wall", lambda: time.time() + 3600)

    calls.wait()
    assert calls.arguments == ["moment"]
    assert 3000 < timer.next_due(calls) <= 3600


# A timer without a thread.


def no_thread(*_: object) -> int:
    raise RuntimeError("can't start new thread")


def with_timers(act: Callable[..., object]) -> Callable[..., object]:
    """Return what to start threads by: *act* for a timer's, as always for others."""
    start = _thread.start_new_thread

    def start_or_act(main: Callable[..., object], arguments: tuple[object, ...]) -> object:
        return (act if arguments[-1] == "inproc_jobs-timer" else start)(main, arguments)

    return start_or_act


def test_without_a_thread_nothing_is_lost(timer, monkeypatch, caplog):
    """Where no thread is to be had, each attempt says so, and what is due can be called by whoever waits for it."""
    calls = Calls()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", no_thread)

        timer.insert(time.monotonic() - 1, calls, "due")
        timer.insert(time.monotonic() - 2, calls, "overdue")
        timer.insert(time.monotonic() + 1000, calls, "later")
        assert timer.revive() is False
        timer.call_here()

    assert calls.arguments == ["overdue", "due"]
    assert set(calls.threads) == {threading.current_thread()}
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [("ERROR", "no thread for the timer: RuntimeError: can't start new thread")] * 4
    timer.advance(1000)
    assert timer.revive() is True
    calls.wait(3)


def test_without_a_thread_at_the_end_of_the_interpreter_nothing_is_said(timer, monkeypatch, caplog):
    """Some Pythons start none once the main thread has ended, which is nobody's error."""

    def too_late(*_: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    caplog.set_level("DEBUG", "inproc_jobs")
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", too_late)
        timer.insert(time.monotonic() + 1000, Calls(), "later")

    assert {record.levelname for record in caplog.records} == {"DEBUG"}


def test_a_timer_with_nothing_to_call_needs_no_thread(timer):
    """revive() starts none without need."""
    before = timer_threads()

    assert timer.revive() is True

    assert timer_threads() == before


@pytest.mark.parametrize("by", ["another insert", "a look at it"])
def test_a_thread_that_never_came_is_replaced_after_a_while(timer, monkeypatch, by):
    """A thread may die before its first line, of a MemoryError; it is waited for a moment, and then another started."""
    starts = Calls()
    calls = Calls()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", with_timers(lambda *_: starts()))
        timer.call_soon(calls, 1)
        timer.call_soon(calls, 2)
        assert timer.revive() is True
        assert len(starts.arguments) == 1

    monkeypatch.setattr(_timer, "ARRIVAL", 0.0)
    if by == "another insert":
        timer.call_soon(calls, 3)
    else:
        assert timer.revive() is True

    calls.wait(2)
    assert calls.arguments[:2] == [1, 2]


def test_an_insert_in_the_middle_of_a_threads_start_starts_no_other(timer, monkeypatch):
    """A signal handler, or a ``__del__``, may insert at any moment."""
    calls, starts = Calls(), Calls()
    start = _thread.start_new_thread

    def interrupted(*given: object) -> object:
        starts()
        timer.call_soon(calls, "by a handler")
        return start(*given)

    monkeypatch.setattr(_thread, "start_new_thread", with_timers(interrupted))
    timer.insert(time.monotonic() - 1, calls, "interrupted")

    calls.wait(2)
    assert calls.arguments == ["interrupted", "by a handler"]
    assert len(starts.arguments) == 1


def test_a_thread_that_comes_after_it_was_replaced_leaves_at_once(timer, monkeypatch):
    """However late it comes, one thread makes each call, once, and no third one is started."""
    late: list[Callable[[], object]] = []
    calls, starts = Calls(), Calls()
    with monkeypatch.context() as patch:
        hold = with_timers(lambda main, arguments: late.append(partial(main, *arguments)))
        patch.setattr(_thread, "start_new_thread", hold)
        timer.call_soon(calls, 1)
    with monkeypatch.context() as patch:
        patch.setattr(_timer, "ARRIVAL", 0.0)
        timer.call_soon(calls, 2)
    calls.wait(2)

    before = threading.enumerate()
    late[0]()
    for thread in set(timer_threads()) - set(before):
        thread.join(WAIT)
    monkeypatch.setattr(_thread, "start_new_thread", with_timers(lambda *_: starts()))
    timer.call_soon(calls, 3)

    calls.wait()
    assert calls.arguments == [1, 2, 3]
    assert len(set(calls.threads)) == len(timer_threads()) == 1
    assert not starts.arguments


def test_a_thread_that_comes_although_its_start_has_failed_is_the_one(timer, monkeypatch, caplog):
    """An error may strike after the thread has begun; it serves, and the next entry starts no other."""
    calls, starts = Calls(), Calls()
    start = _thread.start_new_thread

    def start_and_fail(*given: object) -> object:
        starts()
        start(*given)
        raise RuntimeError("struck just afterwards")

    monkeypatch.setattr(_thread, "start_new_thread", with_timers(start_and_fail))
    for number in range(2):
        timer.call_soon(calls, number)
        calls.wait()

    assert len(starts.arguments) == 1
    assert caplog.messages == ["no thread for the timer: RuntimeError: struck just afterwards"]


def test_a_thread_that_waits_holds_no_argument(timer):
    """What was called is let go of before the thread waits for what comes next."""
    told, argument = Calls(), Argument()
    kept = weakref.ref(argument)
    timer.after_call = told

    timer.call_soon(int.__instancecheck__, argument)
    del argument

    told.wait()
    for _ in range(1000):
        if kept() is None:
            break
        threading.Event().wait(0.01)
    assert kept() is None
    assert timer_threads()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@CLOCKS
def test_a_call_on_which_the_thread_has_died_is_made_by_another(timer, struck, clock):
    """What was taken out of the heap and not called yet is not lost, of whichever clock."""
    calls = Calls()

    with struck("shielded") as strikes:
        timer.insert(clock(-1), calls, "struck")
        timer.insert(clock(0), calls, "next")
        calls.wait(2)

    assert strikes
    assert sorted(calls.arguments) == ["next", "struck"]
    assert timer.next_due(calls) is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_twice_is_replaced(timer, struck):
    """A second error, on its way out, does not keep it from saying that it is gone."""
    calls = Calls()

    def die() -> None:
        timer.after_call = int
        raise MemoryError

    timer.after_call = die
    with struck("Timer._end") as strikes:
        for number in range(3):
            timer.insert(time.monotonic() + 0.05, calls, number)
        calls.wait(3)

    assert strikes
    assert calls.arguments == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_replaced_if_calls_are_pending(timer):
    """What strikes the thread between two calls, a MemoryError, costs none of them."""
    calls = Calls()

    def strike() -> None:
        timer.after_call = int
        raise MemoryError

    timer.after_call = strike
    for number in range(3):
        timer.insert(time.monotonic() + 0.05, calls, number)

    calls.wait(3)
    assert calls.arguments == [0, 1, 2]
    assert calls.threads[0] is not calls.threads[1]
    assert calls.threads[1] is calls.threads[2]
