"""The four measurements that are made of every contender."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter

from . import jobs
from .contenders import WORKERS, Contender

WARM_UP = 100  # enqueues before memory is counted: caches and first-time imports are nobody's waiting run

_breath = threading.Event()  # never set


@contextmanager
def all_workers_held(contender: Contender) -> Iterator[None]:
    """Keep both workers busy in here; wait afterwards until all that was enqueued is done."""
    jobs.close_gate()
    with contender.scope():
        for _ in range(WORKERS):
            contender.enqueue("hold")
    jobs.held(WORKERS)
    try:
        yield
    finally:
        jobs.release()
        finish(contender)


def finish(contender: Contender) -> float:
    """Return when all that was enqueued is done, give or take one no-op: a last job, behind all the others, tells."""
    with contender.scope():
        contender.enqueue("mark")
    jobs.marked()
    return perf_counter()


def call(contender: Contender, count: int) -> float:
    """Return the median microseconds of a call that enqueues a no-op while both workers are busy.

    Busy with something that leaves the processor alone, as a job that waits for a mail server does. Each call is timed
    by itself; what the two readings of the clock cost is subtracted.
    """
    enqueue = contender.enqueue
    durations = [0.0] * count
    gc.collect()
    with all_workers_held(contender), contender.scope():
        for index in range(count):
            started = perf_counter()
            enqueue()
            durations[index] = perf_counter() - started
    return (median(durations) - clock_cost()) * 1e6


def clock_cost() -> float:
    """Return the seconds that two readings of the clock cost, which are in every call that is timed by itself."""
    durations = []
    for _ in range(1000):
        started = perf_counter()
        durations.append(perf_counter() - started)
    return median(durations)


def burst(contender: Contender, count: int, producers: int = 1) -> float:
    """Return the microseconds per job from the first enqueue of a burst to the end of its last job.

    The producers start together; the workers idle at the start, as they do in a web process.
    """
    gc.collect()
    if producers == 1:
        started = perf_counter()
        _produce(contender, count)
    else:
        started = _produce_together(contender, count, producers)
    return (finish(contender) - started) * 1e6 / count


def _produce(contender: Contender, count: int) -> None:
    enqueue = contender.enqueue
    with contender.scope():
        for _ in range(count):
            enqueue()


def _produce_together(contender: Contender, count: int, producers: int) -> float:
    line = threading.Barrier(producers + 1)

    def produce() -> None:
        line.wait(jobs.PATIENCE)
        _produce(contender, count // producers)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    line.wait(jobs.PATIENCE)
    started = perf_counter()
    for thread in threads:
        thread.join()
    return started


def busy_burst(contender: Contender, count: int) -> float:
    """Return as ``burst`` does, with the workers awake at the start: some peers poll, and would sleep into it."""
    gc.collect()
    jobs.close_gate()
    with contender.scope():
        for _ in range(WORKERS):
            contender.enqueue("hold")
    jobs.held(WORKERS)
    jobs.release()
    started = perf_counter()
    _produce(contender, count)
    return (finish(contender) - started) * 1e6 / count


def warm(contender: Contender) -> None:
    """Have both threads started."""
    with all_workers_held(contender):
        pass


def idle_starts(contenders: Sequence[Contender], count: int, pause: float = 0.001) -> list[list[float]]:
    """Return for each contender the microseconds from the call to the start of its job, on idle workers.

    One call at a time, the contenders taking turns, with a pause between in which all threads fall asleep. The caller
    then waits and so leaves the interpreter to the worker.
    """
    latencies: list[list[float]] = [[] for _ in contenders]
    sides = list(zip(contenders, latencies, strict=True))
    for number in range(count):
        for contender, collected in sides if number % 2 else reversed(sides):
            _breath.wait(pause)
            with contender.scope():
                started = perf_counter()
                contender.enqueue("mark")
                collected.append((jobs.marked() - started) * 1e6)
    return latencies


def waiting_bytes(contender: Contender, count: int) -> float:
    """Return the bytes that a waiting job with two small arguments keeps alive, beyond the arguments themselves.

    By tracemalloc, both workers busy. Each job is enqueued in a scope of its own, so that a request it keeps alive
    is seen.
    """
    with all_workers_held(contender):
        _enqueue_pairs(contender, WARM_UP)
        gc.collect()
        tracemalloc.start()
        numbers = list(range(10_000, 10_000 + count))
        before, _ = tracemalloc.get_traced_memory()
        for number in numbers:
            with contender.scope():
                contender.enqueue("", number)
        _breath.wait(0.2)  # some have a thread that moves what was enqueued on
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return (after - before) / count


def _enqueue_pairs(contender: Contender, count: int) -> None:
    for number in range(count):
        with contender.scope():
            contender.enqueue("", number)
