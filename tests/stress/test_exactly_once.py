"""Every accepted run ends exactly once and is counted exactly once, whatever races with it."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

import inproc_jobs
from inproc_jobs import Job, Run, RunState, signals

LONG = os.environ.get("INPROC_JOBS_STRESS") == "long"
SCALE = 5 if LONG else 1
TIMEOUT = 60.0  # seconds a test waits for what must happen

CLOSING = (signals.job_succeeded, signals.job_failed, signals.job_discarded, signals.job_cancelled)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(count: int, function: Callable[[int], object]) -> None:
    """Call *function* with 0 to *count* - 1, at once, each in a thread, and wait for all of them."""
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def call(number: int) -> None:
        try:
            start.wait(TIMEOUT)
            function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "a producer is stuck"
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("hasty")
def test_eight_producers_four_workers():
    """50,000 runs from eight threads on four workers are each performed once, and the counts say so."""
    each = 6_250 * SCALE
    performed: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Count(Job, workers=4, max_queue=1_000_000, name="count-once"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def produce(producer: int) -> None:
        for number in range(each):
            Count.perform_async(producer * each + number)

    in_threads(8, produce)
    settled = inproc_jobs.drain(TIMEOUT)

    stats = inproc_jobs.stats()["count-once"]
    assert settled
    assert sorted(drained(performed)) == list(range(8 * each))
    assert (stats.succeeded, stats.run.count, stats.wait.count) == (8 * each,) * 3
    assert (stats.queued, stats.busy, stats.failed, stats.rejected) == (0, 0, 0, 0)


def drained(numbers: queue.SimpleQueue[int]) -> list[int]:
    return [numbers.get_nowait() for _ in range(numbers.qsize())]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Stillborn(Exception):
    def __init__(self) -> None:
        raise KeyError("cannot be made")


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to let go of its frames."""

    why: str = "refused"


class Secretive(Exception):
    """Refuses to be asked for anything."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class FalseError(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


def _raise_stillborn() -> None:
    raise Stillborn


def _raise_looped() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    raise one


FAILURES: list[Callable[[], object]] = [
    lambda: int("x"),
    lambda: sys.exit(4),
    lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    lambda: (_ for _ in ()).throw(MemoryError),
    lambda: (_ for _ in ()).throw(GeneratorExit),
    lambda: (_ for _ in ()).throw(Mute),
    _raise_stillborn,
    lambda: (_ for _ in ()).throw(Frozen()),
    lambda: (_ for _ in ()).throw(Secretive),
    lambda: (_ for _ in ()).throw(FalseError),
    lambda: (_ for _ in ()).throw(BaseExceptionGroup("many", [SystemExit(1), ValueError()])),
    _raise_looped,
]


@pytest.mark.usefixtures("hasty")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failures_of_every_kind_beside_broken_receivers(caplog: pytest.LogCaptureFixture):
    """One run in five fails, in every way there is, and every receiver raises: each good run is performed once."""
    caplog.set_level("CRITICAL")
    total = 20_000 * SCALE
    good: queue.SimpleQueue[int] = queue.SimpleQueue()
    heard: Counter[str] = Counter()

    class Mixed(Job, workers=4, max_queue=1_000_000, name="mixed"):
        def perform(self, number: int) -> None:
            if number % 5 == 0:
                FAILURES[number // 5 % len(FAILURES)]()
            good.put(number)

    def broken(sender: object, **extra: object) -> None:
        raise (SystemExit, ValueError, MemoryError, KeyboardInterrupt)[next(numbers) % 4]

    numbers = iter(range(10**9))
    everything = [getattr(signals, name) for name in signals.__all__]
    counts = threading.Lock()

    def count(name: str) -> Callable[..., None]:
        def receive(sender: object, **extra: object) -> None:
            with counts:
                heard[name] += 1

        return receive

    counters = [(signal, count(signal.name)) for signal in everything]
    for signal, receiver in counters:
        signal.connect(broken)
        signal.connect(receiver)
    try:
        in_threads(4, lambda producer: [Mixed.perform_async(number) for number in range(producer, total, 4)])
        settled = inproc_jobs.drain(TIMEOUT)
    finally:
        for signal, receiver in counters:
            signal.disconnect(broken)
            signal.disconnect(receiver)

    stats = inproc_jobs.stats()["mixed"]
    assert settled
    assert sorted(drained(good)) == [number for number in range(total) if number % 5]
    assert (stats.succeeded, stats.failed, stats.run.count) == (total * 4 // 5, total // 5, total)
    assert heard == {
        "job-enqueued": total,
        "job-started": total,
        "job-succeeded": total * 4 // 5,
        "job-failed": total // 5,
    }


@pytest.mark.usefixtures("hasty")
def test_producers_racing_a_shutdown(caplog: pytest.LogCaptureFixture):
    """Four producers race a shutdown, 200 times: what was accepted is finished or reported, what was not has raised."""
    caplog.set_level("CRITICAL")
    performed: queue.SimpleQueue[Run[None]] = queue.SimpleQueue()

    class Racing(Job, workers=2, max_queue=100_000, name="racing"):
        def perform(self) -> None:
            performed.put(self.run)

    all_discarded: set[Run[None]] = set()
    for round_ in range(200 * SCALE):
        before = inproc_jobs.stats()["racing"]
        accepted: list[list[Run[None]]] = [[], [], [], []]
        refused = [0] * 4
        reports: list[inproc_jobs.ShutdownReport] = []
        started = threading.Semaphore(0)

        def race(number: int) -> None:
            if number == 4:
                for _ in range(round_ % 4 + 1):
                    started.acquire(timeout=TIMEOUT)
                reports.append(inproc_jobs.shutdown(timeout=(0.0, 0.001, 0.02)[round_ % 3]))
                return
            for attempt in range(1_000_000):
                try:
                    accepted[number].append(Racing.perform_async())
                except inproc_jobs.errors.ShutdownError:
                    refused[number] += 1
                    if refused[number] == 3:
                        return
                if attempt == 10:
                    started.release()
            raise AssertionError("the shutdown never came")

        in_threads(5, race)

        runs = [run for each in accepted for run in each]
        # One whose job is over may still be about to say so.
        assert all(run.wait(TIMEOUT) for run in runs), f"round {round_}"
        ended = {run: run.state for run in runs}
        discarded = [run for run in runs if ended[run] is RunState.DISCARDED]
        after = inproc_jobs.stats()["racing"]
        # One that was at work at the deadline is discarded and may still come to its end, even in the next round.
        ran = [run for run in drained(performed) if run not in all_discarded]
        all_discarded.update(discarded)
        assert len(ran) == len(set(ran))
        assert {run for run in runs if ended[run] is RunState.SUCCEEDED} | set(discarded) == set(runs)
        assert {run for run in runs if ended[run] is RunState.SUCCEEDED} == set(ran) - set(discarded)
        assert set(ran) <= set(runs)
        assert sorted(map(id, discarded)) == sorted(map(id, reports[0].discarded))
        assert all(run.reason == "shutdown" for run in discarded)
        assert after.succeeded - before.succeeded + len(reports[0].discarded) == len(runs)
        assert after.rejected - before.rejected == sum(refused) == 12
        inproc_jobs.restart()
    inproc_jobs.drain(TIMEOUT)
    assert {run.state for run in all_discarded} <= {RunState.DISCARDED}


@pytest.mark.usefixtures("hasty")
def test_cancel_racing_the_start():
    """Each of 5,000 runs that are cancelled as they start has either run or was cancelled, and closes once."""
    total = 5_000 * SCALE
    performed: queue.SimpleQueue[int] = queue.SimpleQueue()
    closings: queue.SimpleQueue[tuple[Run[None], RunState]] = queue.SimpleQueue()

    class Cancelled(Job, workers=2, max_queue=100_000, name="cancelled"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def closed(sender: object, run: Run[None], **extra: object) -> None:
        closings.put((run, run.state))

    for signal in CLOSING:
        signal.connect(closed)
    try:
        runs: list[Run[None]] = []
        answers: list[bool] = []
        for number in range(total):
            run = Cancelled.perform_async(number)
            runs.append(run)
            if number % 3:
                answers.append(runs[number - number % 3].cancel())
            else:
                answers.append(run.cancel())
        settled = inproc_jobs.drain(TIMEOUT)
    finally:
        for signal in CLOSING:
            signal.disconnect(closed)

    stats = inproc_jobs.stats()["cancelled"]
    seen = [closings.get_nowait() for _ in range(closings.qsize())]
    ran = drained(performed)
    assert settled
    assert len(seen) == len({run for run, _ in seen}) == total
    assert all(run.state is state for run, state in seen)
    assert sorted(ran) == [number for number, run in enumerate(runs) if run.state is RunState.SUCCEEDED]
    assert all(run.state in (RunState.SUCCEEDED, RunState.CANCELLED) for run in runs)
    assert (stats.succeeded, stats.cancelled) == (len(ran), total - len(ran))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("announced", [False, True], ids=["no receiver", "a receiver"])
@pytest.mark.parametrize("priorities", [(0,), (0, 5, -5)], ids=["one priority", "three priorities"])
@pytest.mark.parametrize("max_queue", [1, 10, 300])
def test_the_bound_is_never_exceeded(max_queue: int, announced: bool, priorities: tuple[int, ...]):
    """With eight producers at a small queue, never do more runs wait than may; what was accepted is performed."""
    each = 1_000 * SCALE
    performed: queue.SimpleQueue[int] = queue.SimpleQueue()
    most = [0]
    over = threading.Event()

    class Bounded(Job, workers=2, max_queue=max_queue, name="bounded"):
        def perform(self, number: int) -> None:
            performed.put(number)

    def watch() -> None:
        while not over.is_set():
            most[0] = max(most[0], inproc_jobs.stats()["bounded"].queued)

    accepted: list[list[int]] = [[] for _ in range(8)]

    def produce(producer: int) -> None:
        for number in range(producer * each, (producer + 1) * each):
            try:
                Bounded.using(priority=priorities[number % len(priorities)]).perform_async(number)
            except inproc_jobs.errors.QueueFullError:
                continue
            accepted[producer].append(number)

    def heard(sender: object, **extra: object) -> None:
        pass

    watcher = threading.Thread(target=watch, daemon=True)
    if announced:
        signals.job_enqueued.connect(heard)
    watcher.start()
    try:
        in_threads(8, produce)
        settled = inproc_jobs.drain(TIMEOUT)
    finally:
        over.set()
        watcher.join(TIMEOUT)
        signals.job_enqueued.disconnect(heard)

    stats = inproc_jobs.stats()["bounded"]
    assert settled
    assert most[0] <= max_queue
    assert sorted(drained(performed)) == sorted(number for each in accepted for number in each)
    assert stats.rejected == 8 * each - stats.succeeded


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("when_full", ["block", "discard", "discard_oldest", "caller_runs"])
def test_every_policy_at_the_limit_closes_each_run_once(when_full: str, caplog: pytest.LogCaptureFixture):
    """Under every policy at a full queue, each accepted run is performed or discarded, once, and counted so."""
    caplog.set_level("CRITICAL")
    each = 500 * SCALE
    performed: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Full(Job, workers=2, max_queue=5, when_full=when_full, block_timeout=TIMEOUT, name="full"):  # type: ignore[arg-type]
        def perform(self, number: int) -> None:
            performed.put(number)

    runs: list[Run[None]] = []

    def produce(producer: int) -> None:
        for number in range(producer * each, (producer + 1) * each):
            runs.append(Full.perform_async(number))  # noqa: PERF401 - as they come, from every thread

    in_threads(8, produce)
    settled = inproc_jobs.drain(TIMEOUT)

    stats = inproc_jobs.stats()["full"]
    states = Counter(run.state for run in runs)
    assert settled
    assert len(runs) == 8 * each
    assert len(drained(performed)) == states[RunState.SUCCEEDED] == stats.succeeded
    assert states[RunState.DISCARDED] == stats.discarded == len(runs) - stats.succeeded
    assert stats.discarded == 0 or when_full.startswith("discard")


def test_three_hundred_job_classes_share_four_threads():
    """However many job classes there are, all of them are served, by no more threads than the process may have."""
    inproc_jobs.configure(max_threads=4)
    performed: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    threads: set[int] = set()
    crowd = [0]

    def make(number: int) -> type[Job]:
        class One(Job, workers=3, name=f"one-{number}"):
            def perform(self, turn: int) -> None:
                threads.add(threading.get_ident())
                crowd[0] = max(crowd[0], sum("inproc_jobs-worker" in thread.name for thread in threading.enumerate()))
                performed.put((number, turn))

        return One

    jobs = [make(number) for number in range(300)]
    in_threads(2, lambda producer: [one.perform_async(turn) for turn in range(10) for one in jobs[producer::2]])
    settled = inproc_jobs.drain(TIMEOUT)

    seen = [performed.get_nowait() for _ in range(performed.qsize())]
    assert settled
    assert sorted(seen) == [(number, turn) for number in range(300) for turn in range(10)]
    assert crowd[0] <= 4


def test_a_busy_class_does_not_starve_the_others():
    """A class that always has work gives way: another one's run is performed while the backlog lasts."""
    inproc_jobs.configure(max_threads=1)
    order: list[str] = []
    go = threading.Event()

    class Endless(Job, max_queue=1_000_000, name="endless"):
        def perform(self) -> None:
            go.wait(TIMEOUT)
            if not order:
                Endless.perform_async()

    class Other(Job, name="other"):
        def perform(self) -> None:
            order.append("other")

    try:
        Endless.perform_async()
        run = Other.perform_async()
        go.set()
        served = run.wait(TIMEOUT)
    finally:
        order.append("end")
        inproc_jobs.drain(TIMEOUT)

    assert served


def test_memory_stays_flat():
    """100,000 runs leave no more memory behind than 10,000."""

    class Light(Job, workers=2, max_queue=1_000_000, name="light"):
        def perform(self, number: int, text: str) -> str:
            return text

    def burst(count: int) -> int:
        for _ in range(count // 10_000):
            for number in range(10_000):
                Light.perform_async(number, "some text")
            assert inproc_jobs.drain(TIMEOUT)
        return sys.getallocatedblocks()

    burst(20_000)
    before = burst(10_000)
    after = burst(100_000 * SCALE)

    assert after - before < 2_000


def test_stats_agree_while_work_goes_on():
    """A snapshot never counts a run twice: what has ended never exceeds what was accepted, and never goes down."""
    total = 20_000 * SCALE
    over = threading.Event()
    wrong: list[object] = []

    class Seen(Job, workers=4, max_queue=1_000_000, name="seen"):
        def perform(self) -> None:
            pass

    def watch() -> None:
        last = 0
        while not over.is_set():
            stats = inproc_jobs.stats()["seen"]
            if not last <= stats.succeeded <= total or stats.workers > 4 or stats.busy > stats.workers:
                wrong.append(stats)
            last = stats.succeeded

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        for _ in range(total):
            Seen.perform_async()
        settled = inproc_jobs.drain(TIMEOUT)
    finally:
        over.set()
        watcher.join(TIMEOUT)

    assert settled
    assert wrong == []
    assert inproc_jobs.stats()["seen"].succeeded == total


def test_a_wait_and_an_end_that_meet(hasty: None):
    """A thread that begins to wait at the moment when the run ends is woken, every time."""

    class Quick(Job, workers=2, name="quick"):
        def perform(self) -> float:
            return time.monotonic()

    for _ in range(5_000 * SCALE):
        assert Quick.perform_async().wait(TIMEOUT)
