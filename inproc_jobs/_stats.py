"""What is counted of a job class, and the frozen snapshot a user sees of it."""

from __future__ import annotations

from collections import deque
from dataclasses import MISSING, FrozenInstanceError, dataclass
from typing import Any, ClassVar

SAMPLES = 512  # runs the quantiles look back on


class Snapshot:
    """The base of the dataclasses that users are handed, all of them frozen.

    What is here ``dataclass`` would write for each of them: to compile that took an eighth of this package's import.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__dataclass_fields__
        by_name = dict(zip(fields, values, strict=False)) | named
        for name, field in fields.items():
            object.__setattr__(self, name, by_name.get(name, field.default))
        if len(values) + len(named) > len(by_name) or by_name.keys() - fields.keys() or MISSING in self._values():
            raise TypeError(f"{type(self).__qualname__} takes each of these once: {', '.join(fields)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
        return f"{type(self).__qualname__}({fields})"

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(slots=True, init=False, repr=False, eq=False)
class Times(Snapshot):
    """A distribution of durations, in seconds.

    Attributes:
        count: attempts measured since the start of the process.
        mean: over all of them.
        p50: median of the last 512.
        p95: 95 % quantile of the last 512.
        max: the longest of all.
    """

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    max: float = 0.0


@dataclass(slots=True, init=False, repr=False, eq=False)
class Stats(Snapshot):
    """A snapshot of one job class in this process.

    Attributes:
        workers: threads at work on the job class now; ``busy + idle``.
        busy: those that perform a run.
        idle: those between two runs.
        queued: runs that wait for a worker.
        scheduled: runs of ``perform_in`` and ``perform_at`` that are not due yet.
        retrying: runs that wait for their next attempt.
        succeeded, failed, discarded, cancelled: runs that ended so, since the start of the process.
        retried: attempts that were followed by another.
        rejected: enqueues that were refused with an exception.
        wait: from the enqueue, or the due time, to the start of the attempt.
        run: from the start of the attempt to its end.
    """

    workers: int
    busy: int
    idle: int
    queued: int
    scheduled: int
    retrying: int
    succeeded: int
    failed: int
    retried: int
    discarded: int
    cancelled: int
    rejected: int
    wait: Times
    run: Times


NO_STATS = Stats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, Times(), Times())


class Tally:
    """The counts of one worker, written by its thread alone, so that counting takes no lock and loses nothing.

    A worker's tally is added to its queue's when the worker leaves; a snapshot is their sum.
    """

    __slots__ = (
        "attempts",
        "cancelled",
        "discarded",
        "failed",
        "rejected",
        "retried",
        "run_max",
        "run_total",
        "runs",
        "succeeded",
        "wait_max",
        "wait_total",
        "waits",
    )

    def __init__(self, waits: deque[float], runs: deque[float]) -> None:
        self.waits: deque[float] = waits  # seconds; the queue's, shared by all its tallies
        self.runs: deque[float] = runs  # seconds; likewise
        self.succeeded: int = 0
        self.failed: int = 0
        self.discarded: int = 0
        self.cancelled: int = 0
        self.retried: int = 0
        self.rejected: int = 0
        self.attempts: int = 0
        self.wait_total: float = 0.0
        self.wait_max: float = 0.0
        self.run_total: float = 0.0
        self.run_max: float = 0.0

    def count(self, outcome: str) -> None:
        """Count one run that ended as *outcome*: succeeded, failed, discarded or cancelled."""
        if outcome == "succeeded":
            self.succeeded += 1
        elif outcome == "failed":
            self.failed += 1
        elif outcome == "discarded":
            self.discarded += 1
        else:
            self.cancelled += 1

    def add(self, other: Tally) -> None:
        """Add the counts of *other*; the caller holds the lock that guards this tally."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.discarded += other.discarded
        self.cancelled += other.cancelled
        self.retried += other.retried
        self.rejected += other.rejected
        self.attempts += other.attempts
        self.wait_total += other.wait_total
        self.run_total += other.run_total
        self.wait_max = max(self.wait_max, other.wait_max)
        self.run_max = max(self.run_max, other.run_max)

    def time(self, wait: float, run: float) -> None:
        """Count one attempt: how long it waited and how long it ran, in seconds."""
        self.attempts += 1
        self.wait_total += wait
        self.run_total += run
        if wait > self.wait_max:
            self.wait_max = wait
        if run > self.run_max:
            self.run_max = run
        self.waits.append(wait)
        self.runs.append(run)


def times(count: int, total: float, longest: float, samples: deque[float]) -> Times:
    """Return the distribution of *samples*, the last of *count* durations that sum up to *total*."""
    if not count:
        return Times()
    recent = sorted(samples.copy()) or [longest]
    return Times(
        count=count,
        mean=total / count,
        p50=recent[len(recent) // 2],
        p95=recent[min(len(recent) - 1, int(len(recent) * 0.95))],
        max=longest,
    )
