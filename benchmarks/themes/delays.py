"""Delayed runs: what one costs to insert and to keep, what 100,000 cost, and how late a due one starts.

Lateness is held against ``threading.Timer``, which needs a thread for each.
"""

from __future__ import annotations

import gc
import logging
import threading
import tracemalloc
from collections.abc import Callable
from statistics import median
from time import perf_counter

import inproc_jobs

from .. import jobs, measures
from ..contenders import Contender, bare, inproc
from ..rows import Pair, Row, interleaved, ratio, value

MANY = 100_000
SOME = 2000
FAR = 3600.0  # seconds
SOON = 0.005  # seconds
BUDGET = 3.0 / 5.5  # of submit: the budget's microseconds, by what submit takes on the machine that it was set on

_breath = threading.Event()  # never set


def measure(*, quick: bool) -> list[Row]:
    logging.disable()  # at the end every run that is not due is named in a warning
    ours = inproc.start()
    measures.warm(ours)
    other = bare.start()
    inserts = interleaved(3 if quick else 15, _insert_some, lambda: measures.call(other, SOME))
    lateness = _latenesses(4 if quick else 20)
    waiting = measures.waiting_bytes(ours, 5000)
    kept = _kept_bytes(5000)
    _forget()
    measures.warm(ours)
    threads_before = _settled_threads() - _timers()
    scattered, seconds = _insert_many(other)
    threads = _settled_threads() - threads_before
    late_behind_many = [_lateness(_ours, 50) for _ in range(2 if quick else 8)]
    ours.close()
    return [
        ratio("perform_in, p50, us (other: submit)", inserts),
        ratio(
            "perform_in, p50 of 100,000 at scattered times, us (other: submit)",
            scattered,
            BUDGET,
            note="3 us where submit takes 5.5, as in the table Cost of FACTS",
        ),
        value("perform_in, 100,000 of them, seconds", [seconds]),
        value("a delayed run, beyond a waiting one, bytes", [kept - waiting], 300.0),
        value("a delayed run in total, bytes", [kept]),
        value("threads for 100,000 delayed runs", [threads], 1.0),
        ratio("idle lag, due to started, p50, ms (other: threading.Timer)", lateness),
        value("idle lag, due to started, p50, ms", [ours for ours, _ in lateness], 1.0),
        value("idle lag with 100,000 pending, p50, ms", late_behind_many, 1.0),
    ]


def _settled_threads() -> int:
    _breath.wait(0.3)  # until those that are about to start or to end have
    return threading.active_count()


def _timers() -> int:
    return sum("timer" in thread.name for thread in threading.enumerate())


def _insert_some() -> float:
    """Return the median microseconds of a call, few being pending."""
    duration, _ = _insert(_scattered(SOME))
    _forget()
    return duration


def _insert_many(other: Contender) -> tuple[list[Pair], float]:
    """Return what ``_insert`` does for each tenth of many calls, beside submit's, and the seconds of all together."""
    delays = _scattered(MANY)
    pairs, seconds = [], 0.0
    for start in range(0, MANY, MANY // 10):
        duration, passed = _insert(delays[start : start + MANY // 10])
        pairs.append((duration, measures.call(other, SOME)))
        seconds += passed
    return pairs, seconds


def _scattered(count: int) -> list[float]:
    """Return delays that meet every place of the heap, in an order that is the same each time."""
    return [FAR + number * 7919 % count / 100 for number in range(count)]


def _insert(delays: list[float]) -> tuple[float, float]:
    """Return the median microseconds of a call, and the seconds of all together."""
    perform_in = inproc.Act.perform_in
    durations = [0.0] * len(delays)
    gc.collect()
    began = perf_counter()
    for index, delay in enumerate(delays):
        started = perf_counter()
        perform_in(delay)
        durations[index] = perf_counter() - started
    seconds = perf_counter() - began
    return (median(durations) - measures.clock_cost()) * 1e6, seconds


def _kept_bytes(count: int) -> float:
    """Return the bytes that a delayed run with two small arguments keeps, as ``measures.waiting_bytes`` does."""
    numbers = list(range(10_000, 10_000 + count))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in numbers:
        inproc.Act.perform_in(FAR, "", number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count


def _forget() -> None:
    inproc_jobs.shutdown(0)
    inproc_jobs.restart()


def _latenesses(rounds: int) -> list[tuple[float, float]]:
    return [(_lateness(_ours, 25), _lateness(_timer, 25)) for _ in range(rounds)]


def _lateness(later: Callable[[], object], count: int) -> float:
    """Return the median milliseconds by which a single job starts after it is due, nothing else going on."""
    latenesses = []
    for _ in range(count):
        due = perf_counter() + SOON
        later()
        latenesses.append((jobs.marked() - due) * 1000)
        _breath.wait(0.001)
    return median(latenesses)


def _ours() -> None:
    inproc.Act.perform_in(SOON, "mark")


def _timer() -> None:
    threading.Timer(SOON, jobs.mark).start()
