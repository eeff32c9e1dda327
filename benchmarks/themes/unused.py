"""What is not used: signals without receivers, options that are set and never needed.

Each is a run of bursts against the plain job class. The first row holds the plain class against itself: what lies in
its quartiles is not measurable. The guard of a signal cannot be taken out to compare, so it is timed by itself.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter

from inproc_jobs import Retry, signals

from .. import measures
from ..contenders import Contender, inproc
from ..rows import Row, interleaved, ratio

BURST = 10_000
LOOP = 100_000
GUARDS = 3  # signals on the way of a run that succeeds: enqueued, started, succeeded
MEASURABLE = 1.05  # of a plain run's time; below, it drowns in the noise of an A/A run


class Same(inproc.Act):
    pass


class Spelt(inproc.Act, timeout=None, retry=None, expires_in=None, priority=0, when_full="raise", interruptible=False):
    pass


class Retried(inproc.Act, retry=Retry(attempts=5, on=(OSError,))):
    pass


class TimedOut(inproc.Act, timeout=3600):
    pass


def measure(*, quick: bool) -> list[Row]:
    rounds = 4 if quick else 21
    plain = inproc.contender(inproc.Act)

    def against_plain(other: Contender) -> list[tuple[float, float]]:
        measured = partial(measures.burst, count=BURST)
        return interleaved(rounds, partial(measured, other), partial(measured, plain))

    same = against_plain(inproc.contender(Same))
    noise = ratio(
        "A/A: plain against plain, us a run", same, note="the noise of the next rows; other: a plain job class"
    )
    budget = max(MEASURABLE, noise.high or 0.0)
    rows = [
        noise,
        ratio("options set to their defaults, us a run", against_plain(inproc.contender(Spelt)), budget),
        ratio("retry= that is never needed, us a run", against_plain(inproc.contender(Retried)), budget),
    ]
    run = median(plain for _, plain in same)
    guards = [(GUARDS * _guard(), run) for _ in range(rounds)]
    rows.append(
        ratio(
            "3 guards of signals without receivers, us",
            guards,
            MEASURABLE - 1,
            note="other: a plain run's whole time; the guards are part of it",
        )
    )
    used = "for comparison, what is used may cost"
    rows.append(ratio("timeout=, in use, us a run", against_plain(inproc.contender(TimedOut)), note=used))
    heard = interleaved(rounds, lambda: _heard_burst(plain), lambda: measures.burst(plain, BURST))
    rows.append(ratio("one receiver, in use, us a run", heard, note=used))
    return rows


def _heard_burst(contender: Contender) -> float:
    with signals.job_succeeded.connected_to(_receive):
        return measures.burst(contender, BURST)


def _receive(sender: object, **extra: object) -> None:
    """Do nothing."""


def _guard() -> float:
    """Return the microseconds of one guard: a loop with it, less the same loop without."""
    started = perf_counter()
    for _ in range(LOOP):
        if signals.job_started.receivers:
            raise AssertionError
    with_guard = perf_counter() - started
    started = perf_counter()
    for _ in range(LOOP):
        pass
    without = perf_counter() - started
    return (with_guard - without) * 1e6 / LOOP
