"""What happens later: one heap, one condition, one thread, whatever the number of delays.

Delays are counted on the monotonic clock; only ``perform_at`` follows the wall clock and has a heap of its own, because
the wall clock can be set. The thread is a daemon, started by the first entry and gone some seconds after the last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import compress
from operator import itemgetter, not_
from typing import Any

from . import _clock, _lifecycle, _report
from ._clock import Moment
from ._spawn import gravity, join, spawn

LINGER = 10.0  # seconds the thread stays without an entry
AGAIN = 1.0  # seconds until a call that has raised is made once more
ARRIVAL = 1.0  # seconds within which a thread that was started is expected
WALL_CHECK = 1.0  # seconds between two looks at the wall clock, of which nothing announces that it was set
MAX_WAIT = 3600.0  # seconds; a lock cannot wait for centuries

Entry = tuple[float, int, Callable[[Any], object], Any]  # due, order of insertion, call, its argument

_logger = logging.getLogger(__name__)


class Timer:
    """Makes calls when they are due.

    Guarantees: a call is made, never early, on the timer's thread, without any lock held; what it raises is logged, and
    it is made once more. A call must not block, and must do no harm if it is made twice.
    ``insert`` never blocks on a thread's start and may be called from a signal handler or a ``__del__`` that
    interrupted another ``insert``.

    Its ``lock`` is that of the queues, the threads and the runtime, too. Of two locks one would be taken inside of the
    other, and a finalizer that the collector calls under the inner one, and that enqueues, would want the outer one:
    then this thread and the one that has the outer stand for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.lock: Any = threading.RLock()  # guards all below; reentrant: see above
        self._changed = threading.Condition(self.lock)
        self._inserted = 0  # calls asked for so far
        self.after_call: Callable[[], object] = int  # called after each call
        self.counted: Callable[[], int] = self.size  # how many of the pending calls the limit is for
        self._calling: Entry | None = None
        self._delays: list[Entry] = []  # a heap by monotonic seconds
        self._moments: list[Entry] = []  # a heap by wall-clock seconds
        self._void: set[Any] = set()  # arguments of calls that are not to be made
        self._alive = False
        self._stopped = False
        self._started = 0.0  # monotonic seconds
        self._thread: threading.Thread | None = None

    def insert(self, when: float, function: Callable[[Any], object], argument: Any) -> None:
        """Have ``function(argument)`` called at *when*, in monotonic seconds or a Moment of the wall clock."""
        heap = self._moments if type(when) is Moment else self._delays
        with self.lock:
            if self._stopped:
                return
            self._inserted = number = self._inserted + 1
            entry = (when, number, function, argument)
            heappush(heap, entry)
            if not heap:  # a signal's handler has stopped the timer meanwhile
                return
            if heap[0] is entry:
                self._changed.notify()
            if not self._alive or (self._thread is None and self._is_lost()):
                self._start()

    def revive(self) -> bool:
        """See that the thread lives if a call is pending; return False if none is to be had."""
        with self.lock:
            if not (self._delays or self._moments):
                return True
            if not self._alive or (self._thread is None and self._is_lost()):
                self._start()
            return self._alive

    def call_here(self) -> None:
        """Make the calls that are due in this thread, because no other can be had."""
        while (entry := self._due()) is not None:
            self._call(entry)

    def size(self) -> int:
        """Return how many calls are pending, those included that have been withdrawn and not cleared out yet."""
        return len(self._delays) + len(self._moments)

    def full(self) -> bool:
        """Return whether as many calls are pending as should be; ``insert`` takes more all the same."""
        return self.size() >= self.limit and self.counted() >= self.limit

    def has_room(self, margin: int) -> bool:
        """Return whether that is more than *margin* calls away."""
        return len(self._delays) + len(self._moments) < self.limit - margin

    def call_soon(self, function: Callable[[Any], object], argument: Any = None) -> None:
        """Have ``function(argument)`` called as soon as the thread comes to it."""
        self.insert(_clock.now(), function, argument)

    def withdraw(self, argument: Any) -> None:
        """Have the call with *argument* not made; the heap is cleared out once half of it is void."""
        with self.lock:
            self._void.add(argument)
            self._clear_out()

    def _clear_out(self) -> None:
        if len(self._void) * 2 > self.size():
            void = self._void.copy()  # a signal's handler may add to it
            for heap in (self._delays, self._moments):
                _drop(heap, 3, void)
            self._void -= void

    def take(self, function: Callable[[Any], object]) -> list[Any]:
        """Take out every call of *function* and return the arguments, the earliest first."""
        with self.lock:
            taken = []
            for heap in (self._delays, self._moments):
                earliest = sorted(entry for entry in heap.copy() if entry[2] is function)
                _drop(heap, 1, {entry[1] for entry in earliest})
                taken += earliest
            return [entry[3] for entry in taken]

    def pending(self, function: Callable[[Any], object], deadline: float) -> bool:
        """Return whether *function* is being called, or will be until *deadline* (monotonic)."""
        with self.lock:
            if self._calling is not None and self._calling[2] is function:
                return True
            shift = _clock.wall() - _clock.now()
            return any(
                entry[2] is function and entry[3] not in self._void
                for heap, limit in ((self._delays, deadline), (self._moments, deadline + shift))
                for entry in _until(heap, limit)
            )

    def next_due(self, function: Callable[[Any], object]) -> float | None:
        """Return the seconds until *function* is called next, or None if it is not to be."""
        with self.lock:
            waits = (
                max(0.0, entry[0] - now)
                for heap, now in ((self._delays, _clock.now()), (self._moments, _clock.wall()))
                for entry in heap
                if entry[2] is function and entry[3] not in self._void
            )
            return min(waits, default=None)

    def advance(self, seconds: float) -> None:
        """Bring every pending call forward by *seconds*, as if so much time had passed; for tests."""
        with self.lock:
            for heap in (self._delays, self._moments):
                heap[:] = [(when - seconds, *rest) for when, *rest in heap]  # still a heap
            self._changed.notify()

    def stop(self, deadline: float) -> None:
        """Forget what is pending, and what is inserted until ``resume``, and have the thread end.

        Waits for it until *deadline* (monotonic).
        """
        with self.lock:
            for heap in (self._delays, self._moments):
                heap.clear()
            self._void.clear()
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            join(thread, deadline - _clock.now())

    def resume(self) -> None:
        """Take calls again after a stop."""
        self._stopped = False

    def _is_lost(self) -> bool:
        """Return whether a thread that was started should have come by now; it may have died of a MemoryError."""
        return _clock.now() > self._started + ARRIVAL

    def _start(self) -> None:
        # From the first thing that there is to finish on; and here, not in the thread, which a shutdown may overtake.
        _lifecycle.listen()
        self._started = _clock.now()
        alive = False
        try:
            self._alive = True  # for an entry that a signal handler inserts meanwhile
            spawn(self._main, "inproc_jobs-timer")
            alive = True
        except RuntimeError as error:
            _report.log(_logger, gravity(error), "no thread for the timer: %s", _report.describe(error))
        finally:
            self._alive = alive  # if not, the next entry tries again

    def _main(self) -> None:
        try:
            try:
                self._serve()
            finally:
                self._end()
        finally:
            self._end()  # once more, for an error may have struck the first

    def _serve(self) -> None:
        with self.lock:
            if self._thread is not None:  # started twice, because it was taken for lost
                return
            self._thread = threading.current_thread()
            self._alive = True
        while (entry := self._next()) is not None:
            self._call(entry)
            del entry

    def _end(self) -> None:
        with self.lock:
            if self._alive and self._thread in (None, threading.current_thread()):
                if self._calling is not None:  # it died of a MemoryError
                    self._again((_clock.now(), *self._calling[1:]))  # its own time may be the wall clock's
                self._calling = self._thread = None
                self._alive = False  # last, or an error above would leave the dead thread in the next one's place
                if self._delays or self._moments:
                    self._start()

    def _call(self, entry: Entry) -> None:
        _, number, function, argument = entry
        done: list[object] = []
        _report.shielded(_logger, lambda: "the timer's call", lambda: done.append(function(argument)))
        if not done and number > 0:  # a MemoryError, most likely: once more, which its number shows
            self._again((_clock.now() + AGAIN, -number, function, argument))
        self._calling = None
        self.after_call()

    def _again(self, entry: Entry) -> None:
        with self.lock:
            heappush(self._delays, entry)

    def _next(self) -> Entry | None:
        """Wait for the next call and take it out; None after some idle seconds, or when told to stop."""
        with self.lock:
            idle_deadline = _clock.now() + LINGER
            while True:
                entry = self._due()
                if entry is not None:
                    return entry
                self._clear_out()  # of those that are left more may be void now than not
                if self._delays or self._moments:
                    idle_deadline = _clock.now() + LINGER
                elif self._stopped or _clock.now() >= idle_deadline:
                    return None
                self._changed.wait(self._until_next(idle_deadline))

    def _due(self) -> Entry | None:
        """Take out the next call that is due."""
        with self.lock:
            return self._pop_due(self._delays, _clock.now()) or self._pop_due(self._moments, _clock.wall())

    def _pop_due(self, heap: list[Entry], now: float) -> Entry | None:
        while heap and heap[0][0] <= now:
            if heap[0][3] not in self._void:
                self._calling = heap[0]  # first, so that it is always in one of the two
                return heappop(heap)
            self._void.discard(heappop(heap)[3])
        return None

    def _until_next(self, idle_deadline: float) -> float:
        """Return the seconds until there is something to look at; none is due now."""
        waits = [MAX_WAIT]
        if self._delays:
            waits.append(self._delays[0][0] - _clock.now())
        if self._moments:
            waits += (self._moments[0][0] - _clock.wall(), WALL_CHECK)
        if len(waits) == 1:
            waits.append(idle_deadline - _clock.now())
        return min(waits)


def _drop(heap: list[Entry], place: int, values: set[Any]) -> None:
    """Take those out of *heap* that have one of *values* at *place*.

    C code goes through the heap: a signal's handler, or a ``__del__``, inserts nothing meanwhile, which would be lost.
    """
    unwanted = map(values.__contains__, map(itemgetter(place), heap))
    heap[:] = compress(heap, map(not_, unwanted))
    heapify(heap)


def _until(heap: list[Entry], limit: float) -> Iterator[Entry]:
    """Give the part of *heap* that is due by *limit*, in no order, and look no further."""
    places = [0]
    while places:
        place = places.pop()
        for entry in heap[place : place + 1]:  # none past the end, which a signal's handler may have moved
            if entry[0] <= limit:
                yield entry
                places += (2 * place + 1, 2 * place + 2)
