"""The threads of the process: how many, for whom, fairly, and again after an end."""

from __future__ import annotations

import _thread
import threading
import time

import pytest
from gates import until

from inproc_jobs import (
    Job,
    RunState,
    ShutdownReport,
    _threads,
    _worker,
    configure,
    drain,
    restart,
    shutdown,
    signals,
    stats,
)
from inproc_jobs._threads import Threads
from inproc_jobs._timer import Timer

WAIT = 10.0  # seconds


@pytest.fixture
def max_threads():
    """Set the most threads of the process, for this test."""
    return lambda number: configure(max_threads=number)


def workers_alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("inproc_jobs-worker")]


def test_nothing_starts_before_the_first_enqueue():
    """Defining a job class, asking for stats and draining start no thread."""
    before = set(threading.enumerate())

    class Mail(Job):
        def perform(self):
            pass

    stats()
    assert drain(1)

    assert set(threading.enumerate()) == before


def test_threads_are_daemons_with_a_name():
    """A worker's thread can be told by its name and holds up no exit."""

    class Mail(Job):
        def perform(self):
            thread = threading.current_thread()
            return thread.name, thread.daemon

    name, daemon = Mail.perform_async().result(WAIT)

    assert name.startswith("inproc_jobs-worker")
    assert daemon


def test_all_classes_together_keep_to_max_threads(max_threads, gate):
    """max_threads bounds the threads at work in the process, whatever the number of job classes."""
    max_threads(3)
    lock = threading.Lock()
    seen: list[int] = []
    now = 0

    def make(number):
        class One(Job, workers=2, name=f"class {number}"):
            def perform(self):
                nonlocal now
                with lock:
                    now += 1
                    seen.append(now)
                threading.Event().wait(0.002)
                with lock:
                    now -= 1

        return One

    classes = [make(number) for number in range(5)]
    for _ in range(20):
        for one in classes:
            one.perform_async()

    assert drain(WAIT)
    assert len(seen) == 100
    assert max(seen) <= 3
    assert len(workers_alive()) <= 3


def test_one_thread_serves_all_classes_fairly(max_threads, gate):
    """With max_threads=1 a class with few runs does not wait for the whole backlog of another."""
    max_threads(1)
    order: list[str] = []

    class Busy(Job, workers=1):
        def perform(self, first=None):
            if first:
                first()
            threading.Event().wait(0.001)
            order.append("busy")

    class Rare(Job, workers=1):
        def perform(self):
            order.append("rare")

    Busy.perform_async(gate)
    gate.entered()
    for _ in range(300):
        Busy.perform_async()
    Rare.perform_async()
    gate.open()

    assert drain(WAIT)
    assert order.index("rare") < 150


def test_a_worker_gives_way_when_its_share_is_over_and_not_before(max_threads, gate, monkeypatch):
    """To go from queue to queue costs time, so that it does not do so after each run."""
    monkeypatch.setattr(_worker, "FAIR_SHARE", 60.0)
    max_threads(1)
    order: list[str] = []

    class Busy(Job, workers=1):
        def perform(self, what=int):
            what()
            order.append("busy")

    class Rare(Job, workers=1):
        def perform(self):
            order.append("rare")

    Busy.perform_async(gate)
    gate.entered()
    for _ in range(20):
        Busy.perform_async()
    Rare.perform_async()
    gate.open()

    assert drain(WAIT)
    assert order == ["busy"] * 21 + ["rare"]


def test_a_flood_of_one_class_does_not_starve_another(max_threads, gate):
    """A class whose queue never gets empty gives way again and again."""
    max_threads(1)

    class Flood(Job, workers=1):
        def perform(self):
            threading.Event().wait(0.001)
            if not ended.is_set():
                Flood.perform_async()

    class Rare(Job, workers=1):
        def perform(self):
            pass

    ended = threading.Event()
    Flood.perform_async()
    try:
        for _ in range(5):
            assert Rare.perform_async().wait(WAIT)
    finally:
        ended.set()

    assert drain(WAIT)


def test_a_raised_limit_holds_for_what_waits_already(max_threads, make_gate):
    """configure(max_threads=...) takes effect for the work there is."""
    max_threads(1)
    first, second = make_gate(), make_gate()

    class Mail(Job, workers=2):
        def perform(self, gate):
            gate()

    runs = [Mail.perform_async(first), Mail.perform_async(second)]
    first.entered()
    max_threads(2)

    second.entered()
    first.open()
    second.open()
    assert drain(WAIT)
    assert {run.state for run in runs} == {RunState.SUCCEEDED}


def test_threads_of_an_idle_process_end_with_the_shutdown():
    """An idle shutdown leaves no thread and takes less than 50 ms."""

    class Mail(Job):
        def perform(self):
            pass

    for _ in range(10):
        Mail.perform_async()
    assert drain(WAIT)
    elapsed = []
    for _ in range(3):
        started = time.monotonic()
        shutdown()
        elapsed.append(time.monotonic() - started)
        restart()
        Mail.perform_async().wait(WAIT)

    assert min(elapsed) < 0.05


def test_a_shutdown_during_anothers_waits_for_it(gate):
    """Whoever asks second comes back when all is done, with the same report."""

    class Mail(Job):
        def perform(self):
            gate()

    started = threading.Event()
    reports: list[ShutdownReport] = []
    askers = [threading.Thread(target=lambda: reports.append(shutdown(timeout=WAIT))) for _ in range(2)]
    run = Mail.perform_async()
    gate.entered()

    def note(sender, **extra):
        started.set()

    with signals.shutdown_started.connected_to(note):
        askers[0].start()
        assert started.wait(WAIT)
        askers[1].start()
        askers[1].join(0.2)  # until it waits, which nobody announces
        assert not reports
        gate.open()
        for asker in askers:
            asker.join(WAIT)

    assert reports[0] is reports[1]
    assert (reports[0].finished, run.state) == (1, RunState.SUCCEEDED)


def test_a_restart_after_a_hung_run_starts_threads_again():
    """After a shutdown that a run did not heed, restart() gives a runtime that performs jobs, each time."""

    class Hung(Job, workers=2):
        def perform(self, inside, out):
            inside.set()
            out.wait(WAIT)

    class Mail(Job):
        def perform(self):
            pass

    for _ in range(40):
        inside, out = threading.Event(), threading.Event()
        Hung.perform_async(inside, out)
        assert inside.wait(WAIT)
        assert Mail.perform_async().wait(WAIT)

        shutdown(timeout=0.001)
        out.set()
        restart()

        assert Mail.perform_async().wait(5), "no thread was started after the restart"


def test_a_queue_that_waited_for_a_thread_at_the_shutdown_works_after_the_restart(max_threads, gate):
    """No thread has come for it, and none is missing afterwards."""
    max_threads(1)

    class Hung(Job, workers=1):
        def perform(self):
            gate()

    class Mail(Job, workers=1):
        def perform(self):
            pass

    Hung.perform_async()
    gate.entered()
    waiting = Mail.perform_async()
    shutdown(timeout=0.05)
    assert waiting.state is RunState.DISCARDED
    gate.open()
    restart()

    assert Mail.perform_async().wait(WAIT)


def test_a_restart_while_a_hung_run_goes_on_serves_the_others(gate):
    """A run that hangs across a shutdown keeps its thread and no other."""

    class Hung(Job, workers=1):
        def perform(self):
            gate()

    class Mail(Job):
        def perform(self):
            pass

    Hung.perform_async()
    gate.entered()
    shutdown(timeout=0.01)
    restart()

    for _ in range(20):
        assert Mail.perform_async().wait(WAIT)


def test_enqueues_that_race_a_shutdown_and_restart_wedge_nothing(interleaved):
    """Whatever an enqueue meets around a shutdown, after the restart jobs are performed again."""

    class Mail(Job, workers=2):
        def perform(self):
            pass

    ended = threading.Event()

    def produce():
        while not ended.is_set():
            try:
                Mail.perform_async().wait(0.001)
            except RuntimeError:
                pass

    producers = [threading.Thread(target=produce) for _ in range(3)]
    for producer in producers:
        producer.start()
    try:
        for _ in range(50):
            shutdown(timeout=0.5)
            restart()
    finally:
        ended.set()
        for producer in producers:
            producer.join(WAIT)

    assert Mail.perform_async().wait(WAIT)


def test_a_shutdown_starts_no_threads(python):
    """Stopping a process with idle workers starts none anew: the threads of twenty shutdowns are few."""
    done = python(
        """
        import threading
        from inproc_jobs import Job, restart, shutdown

        started = []
        start = threading.Thread.start
        threading.Thread.start = lambda self: (started.append(self), start(self))

        class Mail(Job):
            def perform(self):
                pass

        for _ in range(20):
            Mail.perform_async().wait(10)
            shutdown(10)
            restart()
        print(len(started))
        """
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) <= 20 * 5


def test_a_process_ends_right_after_its_last_run(python):
    """An exit while a worker is just done with the last run adds no wait."""
    elapsed = []
    for _ in range(8):
        started = time.monotonic()
        done = python(
            """
            from inproc_jobs import Job

            class Mail(Job):
                def perform(self):
                    pass

            Mail.perform_async().wait(10)
            """
        )
        elapsed.append(time.monotonic() - started)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    assert max(elapsed) < 5


def test_fewer_max_threads_hold_for_those_that_live(max_threads, gate):
    """Lowered, the limit is kept as soon as the threads beyond it are done with what they do."""

    class Mail(Job, workers=6):
        def perform(self, what):
            what()

    for _ in range(6):
        Mail.perform_async(gate)
    gate.entered(6)
    alive = workers_alive()

    max_threads(2)
    gate.open()
    assert drain(WAIT)
    for _ in range(100):
        Mail.perform_async(int)
    assert drain(WAIT)

    deadline = time.monotonic() + WAIT
    while len(left := [thread for thread in alive if thread.is_alive()]) > 2 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert len(left) <= 2
    assert len(workers_alive()) <= 2


def no_thread(*_: object) -> int:
    raise RuntimeError("can't start new thread")


def test_without_any_thread_a_drain_does_the_work_itself(monkeypatch, caplog):
    """Where no thread is to be had, what was accepted is performed by whoever waits for it."""

    class Mail(Job):
        def perform(self):
            return threading.current_thread()

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", no_thread)
        patch.setattr(threading.Thread, "start", no_thread)
        run, later = Mail.perform_async(), Mail.perform_in(0.05)

        assert drain(WAIT)

    assert run.result(0) is later.result(0) is threading.current_thread()
    assert "no thread for the timer: RuntimeError: can't start new thread" in caplog.messages
    assert Mail.perform_async().result(WAIT) is not threading.current_thread()


def test_without_threads_for_workers_the_timers_does_the_work(monkeypatch, caplog):
    """A thread that was started with the raw call serves itself, and those that wait for a thread."""

    class Mail(Job):
        def perform(self):
            return threading.get_ident()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        runs = [Mail.perform_async() for _ in range(3)]

        assert len({run.result(WAIT) for run in runs} - {threading.get_ident()}) == 1

    assert "no thread for a worker: RuntimeError: can't start new thread" in caplog.messages


def test_a_run_behind_the_first_door_gets_a_thread_that_nobody_joins(gate):
    """Interpreters wait at their exit for an executor's threads, and behind the door no more of them are started."""

    class Late(Job, workers=2):
        def perform(self, gate=None):
            if gate:
                gate()
            return threading.current_thread().name

    first = Late.perform_async(gate)
    gate.entered()
    Late.__job__.queue.threads.detach()

    assert Late.perform_async().result(WAIT) == "inproc_jobs-worker"
    gate.open()
    assert first.result(WAIT) == "inproc_jobs-worker_0"  # as an executor names them


def test_a_thread_that_does_not_come_is_asked_for_again(monkeypatch, gate):
    """An executor's thread may die before its first line; another one is started, by another executor."""
    monkeypatch.setattr(_threads, "ARRIVAL", 0.05)
    start = threading.Thread.start
    lost: list[threading.Thread] = []

    def lose_the_first(thread: threading.Thread) -> None:
        if thread.name.startswith("inproc_jobs-worker") and not lost:
            lost.append(thread)
            thread._target, thread._args = int, ()
        start(thread)

    class Mail(Job):
        def perform(self):
            return "sent"

    monkeypatch.setattr(threading.Thread, "start", lose_the_first)

    assert Mail.perform_async().result(WAIT) == "sent"
    assert len(lost) == 1


def test_a_thread_that_comes_too_late_leaves_again(monkeypatch):
    """Another one has come for it, and does the work once."""
    monkeypatch.setattr(_threads, "ARRIVAL", 0.05)
    start = threading.Thread.start
    late: list[threading.Thread] = []

    def hold_the_first(thread: threading.Thread) -> None:
        if thread.name.startswith("inproc_jobs-worker") and not late:
            late.append(thread)
        else:
            start(thread)

    class Mail(Job):
        performed = 0

        def perform(self):
            Mail.performed += 1

    monkeypatch.setattr(threading.Thread, "start", hold_the_first)
    assert Mail.perform_async().wait(WAIT)

    start(late[0])

    late[0].join(WAIT)
    assert not late[0].is_alive()
    assert Mail.perform_async().wait(WAIT)
    assert Mail.performed == 2


def test_what_waits_for_a_thread_goes_on_after_a_restart_within_a_shutdown(gate, max_threads):
    """The shutdown sends home what is ready; the restart has it called again."""
    max_threads(1)

    class Hold(Job):
        def perform(self):
            gate()

    class Alone(Job, workers=1):
        def perform(self):
            pass

    Hold.perform_async()
    gate.entered()
    run = Alone.perform_async()
    stop = threading.Thread(target=shutdown, args=(WAIT,))
    stop.start()
    until(lambda: Alone.__job__.queue.threads.watchers)
    restart()
    gate.open()

    assert run.wait(WAIT)
    assert run.state is RunState.SUCCEEDED
    stop.join(WAIT)


def test_whoever_calls_a_thread_leaves_word_until_it_has_been_asked_for(monkeypatch):
    """So that the next enqueue asks where an error has struck in between; and does not where nothing was called."""
    threads = Threads(Timer(10), 1)

    def strike() -> None:
        raise MemoryError

    monkeypatch.setattr(threads, "look", strike)
    with pytest.raises(MemoryError):
        threads.call(int)
    assert threads.called is not None

    threads.call([].pop)
    assert threads.called is None


def test_a_second_thread_that_is_not_to_be_had_leaves_its_work_to_the_first(monkeypatch, gate, caplog):
    """It is performed as soon as the first is done with what it does."""

    class Mail(Job, workers=2):
        def perform(self, what=int):
            what()
            return threading.get_ident()

    first = Mail.perform_async(gate)
    gate.entered()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        second = Mail.perform_async()
        until(lambda: "no thread for a worker: RuntimeError: can't start new thread" in caplog.messages)
        assert second.state is RunState.QUEUED
        gate.open()

        assert second.result(WAIT) == first.result(WAIT)


def test_a_thread_that_takes_its_leave_keeps_no_other_from_work(monkeypatch, gate, max_threads):
    """What is called at a thread's end may take long; meanwhile others work, up to max_threads of them."""
    monkeypatch.setattr(_threads, "_farewells", (gate,))
    max_threads(2)

    class Mail(Job, workers=2):
        def perform(self, what=None):
            if what is not None:
                what.wait(WAIT)

    together = threading.Barrier(2)
    for run in [Mail.perform_async(together) for _ in range(2)]:
        assert run.wait(WAIT)
    max_threads(1)
    gate.entered()
    try:
        assert all(Mail.perform_async().wait(WAIT) for _ in range(3))
    finally:
        gate.open()


def test_a_thread_does_not_wait_for_itself():
    """A timer that is stopped by what it calls returns at once."""
    stopped: list[float] = []
    timer = Timer(10)

    def stop(_: object) -> None:
        started = time.monotonic()
        timer.stop(started + WAIT)
        stopped.append(time.monotonic() - started)

    timer.call_soon(stop)

    until(lambda: stopped)
    assert stopped[0] < 1
