"""Real threads that run one at a time, in an order that a seed decides.

A switch may happen before each line of the modules that are watched, and wherever a thread blocks. What blocks is
replaced: the locks, conditions, queues and threads below give the turn away instead. The clock stands still while any thread
can run; when none can, it jumps to the next timeout. So a lost wake-up shows as time that passes for nothing, and a
deadlock as a moment when nobody can run.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf, log
from queue import Empty
from random import Random
from types import CodeType
from typing import Any, NamedTuple

TECHNIQUE = (
    "PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees of Finding"
    " Bugs, ASPLOS 2010) for two thirds of the schedules, half of them with its changes of priority at lines drawn from"
    " the source instead of at steps, so that a line that is rarely executed is as likely as others; random walks for"
    " the last third"
)
MOST_STEPS = 60_000  # lines of one schedule, a hundred times what it takes
REAL_TIME = 15.0  # seconds of the true clock that one schedule may take
EARLY = 20.0  # seconds: timeouts up to that may strike while others could still run
LATE = 1.0  # seconds: a thread that the clock has overtaken may wait for so long in vain
START = 1_000.0  # what the clock shows at first
TOOL = 3

active: Scheduler | None = None
_watched: frozenset[str] = frozenset()
_recorded: set[tuple[str, int]] | None = None


class Abandoned(BaseException):
    """Ends the threads of a schedule that has failed."""


class Task:
    """A thread, and what it waits for."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = f"{name}/{number}"
        self.gate = threading.Lock()
        self.gate.acquire()
        self.ready = True
        self.over = False
        self.sleeps = False
        self.timed_out = False
        self.deadline = inf
        self.waits_for = ""
        self.waiters: list[Task] = []  # the list it is on while it is not ready
        self.joiners: list[Task] = []
        self.priority = 0.0
        self.where: tuple[CodeType, int] | None = None

    def place(self) -> str:
        if self.where is None:
            return "its start"
        code, line = self.where
        return f"{code.co_filename.rpartition('/')[2]}:{line} {code.co_qualname}"


class Straight:
    """Lets each thread run until it blocks; then the oldest one that can run."""

    def rank(self, task: Task) -> None:
        """Give a new thread its priority."""

    def preempts(self, task: Task, running: Task) -> bool:
        """Return whether *task*, which can run again, takes the turn at the next line."""
        return False

    def next_turn(self, steps: int) -> float:
        """Return the step at which to choose anew."""
        return inf

    def turn(self, running: Task, steps: int) -> None:
        """See to what is due at this step."""

    def demote(self, task: Task) -> None:
        """Have *task* fall behind all others."""

    def choose(self, ready: list[Task]) -> Task:
        """Return who runs now."""
        return ready[0]


class Priorities(Straight):
    """PCT: random priorities, and a few random steps at which the thread that runs falls behind all others."""

    def __init__(self, rng: Random, length: int, changes: int) -> None:
        self.rng = rng
        self.changes = sorted((rng.randrange(length) for _ in range(changes)), reverse=True)
        self.lowest = 0.0

    def rank(self, task: Task) -> None:
        task.priority = 1.0 + self.rng.random()

    def preempts(self, task: Task, running: Task) -> bool:
        return task.priority > running.priority

    def next_turn(self, steps: int) -> float:
        return self.changes[-1] if self.changes else inf

    def turn(self, running: Task, steps: int) -> None:
        while self.changes and self.changes[-1] <= steps:
            self.changes.pop()
            self.demote(running)

    def demote(self, task: Task) -> None:
        self.lowest -= 1.0
        task.priority = self.lowest

    def choose(self, ready: list[Task]) -> Task:
        return max(ready, key=_priority)


class Walk(Straight):
    """A random walk: any thread that can run, for a random number of lines."""

    def __init__(self, rng: Random, stay: float) -> None:
        self.rng = rng
        self.stay = stay  # lines, on average

    def next_turn(self, steps: int) -> float:
        return steps + 1 + int(-self.stay * log(1.0 - self.rng.random()))

    def choose(self, ready: list[Task]) -> Task:
        return ready[self.rng.randrange(len(ready))]


def _priority(task: Task) -> float:
    return task.priority


class Typical(NamedTuple):
    """What the schedules of a model are like."""

    length: int  # steps
    places: list[tuple[str, int]]  # file and line of all that was executed


def strategy(rng: Random, typical: Typical) -> tuple[Straight, dict[tuple[str, int], int]]:
    """Return a way to go through a schedule, and the places where a thread falls behind, with the how manieth time."""
    if rng.random() < 1 / 3:
        return Walk(rng, rng.choice((2.0, 8.0, 32.0, 128.0))), {}
    if not typical.places or rng.random() < 1 / 2:
        return Priorities(rng, typical.length, rng.randrange(1, 6)), {}
    places = rng.sample(typical.places, min(len(typical.places), rng.choice((1, 2, 4, 8, 16))))
    return Priorities(rng, typical.length, rng.randrange(2)), {place: rng.randrange(1, 4) for place in places}


class Scheduler:
    """One schedule: its threads, whose turn it is, and the clock.

    *stalled* is asked before time passes because nobody can run, and says what should have gone on, if anything.
    """

    def __init__(self, rng: Random, typical: Typical, stalled: Callable[[], str]) -> None:
        self.rng = rng
        self.typical = typical
        self.stalled = stalled
        self.give_up: Callable[[], object] = int  # called once there is trouble
        self.now = START
        self.steps = 0
        self.trouble = ""
        self.trace: list[tuple[int, Task, tuple[CodeType, int] | None, Task]] = []
        self.tasks: list[Task] = []  # those that are not over
        self.aborting = False
        self.looking = False
        self._strategy: Straight = Straight()
        self._places: dict[tuple[str, int], int] = {}
        self._pid = os.getpid()
        self._jumps: list[int] = []
        self._ahead = -inf  # what the clock showed when it last ran ahead
        self._next_turn: float = MOST_STEPS
        self._threads: list[Thread] = []
        self._count = 0
        self._ended = threading.Lock()
        self.running: Task = Task(0, "nobody")

    def run(self, main: Callable[[], object]) -> str:
        """Call *main* in a thread, wait until it and all that it starts is over, and return the trouble."""
        global active
        active = self
        self._ended.acquire()
        try:
            thread = Thread(target=main, name="main")
            thread.start()
            self.running = thread.task
            thread.task.gate.release()
            if not self._ended.acquire(timeout=REAL_TIME):
                self._note(f"{self.running.name} blocks outside of the scheduler's reach, after {self.running.place()}")
            for one in list(self._threads):
                if self.aborting and one.task.gate.locked():
                    one.task.gate.release()
                one.leave()
        finally:
            active = None
        return self.trouble

    def search(self) -> None:
        """Leave the straight way from here on."""
        self.steps = 0
        self._strategy, self._places = strategy(self.rng, self.typical)
        if self.rng.random() < 0.3:  # the clock runs ahead of the threads
            jumps = (self.rng.randrange(self.typical.length) for _ in range(self.rng.randrange(1, 4)))
            self._jumps = sorted(jumps, reverse=True)
        for task in self.tasks:
            self._strategy.rank(task)
        self._plan()

    def line(self, code: CodeType, number: int) -> None:
        """Before a line of what is watched."""
        self.running.where = (code, number)
        self.steps += 1
        if self._places and (code.co_filename, number) in self._places:
            self._come_to((code.co_filename, number))
        if self.steps >= self._next_turn:
            self.turn()

    def _come_to(self, place: tuple[str, int]) -> None:
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]
            self._strategy.demote(self.running)
            self._next_turn = 0.0

    def turn(self) -> None:
        """Choose who runs now."""
        if self.steps >= MOST_STEPS:
            self.fail("does not come to an end")
        self._strategy.turn(self.running, self.steps)
        while self._jumps and self._jumps[-1] <= self.steps:
            self._jumps.pop()
            if self._pass_time(self.now + EARLY):
                self._ahead = self.now
        self._plan()
        self._switch(self._choose())

    def _plan(self) -> None:
        self._next_turn = min(
            self._strategy.next_turn(self.steps), self._jumps[-1] if self._jumps else inf, float(MOST_STEPS)
        )

    def _choose(self) -> Task:
        self._notice_fork()
        while True:
            ready = [task for task in self.tasks if task.ready]
            if ready:
                return self._strategy.choose(ready)
            self.looking = True  # the engine's lines are nobody's step meanwhile
            late = self._next_deadline() > self._ahead + LATE
            trouble = (late and self.stalled()) or ("" if self._pass_time(inf) else "nobody can go on")
            self.looking = False
            if trouble:
                self.fail(f"{trouble}\n{self.table()}")

    def _notice_fork(self) -> None:
        """In the child of a fork no other thread is there."""
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self.tasks = [self.running]
            self._threads = []

    def _pass_time(self, limit: float) -> bool:
        """Let the next timeout up to *limit* strike, and return whether there is one."""
        deadline = self._next_deadline()
        if deadline == inf or deadline > limit:
            return False
        self.now = max(self.now, deadline)
        for task in self.tasks:
            if not task.ready and task.deadline <= self.now:
                task.timed_out = True
                self.wake(task)
        return True

    def _next_deadline(self) -> float:
        return min((task.deadline for task in self.tasks if not task.ready), default=inf)

    def _switch(self, task: Task) -> None:
        me = self.running
        if task is me:
            return
        self.trace.append((self.steps, me, me.where, task))
        self.running = task
        task.gate.release()
        if not me.over:
            me.gate.acquire()
            if self.aborting:
                raise Abandoned

    def block(self, waiters: list[Task], what: str, timeout: float | None) -> bool:
        """Wait on *waiters* until woken; False if the time was over first."""
        if timeout is not None and timeout <= 0.0:
            return False
        me = self.running
        me.ready = False
        me.timed_out = False
        me.waits_for = what
        me.deadline = inf if timeout is None else self.now + timeout
        me.waiters = waiters
        waiters.append(me)
        self._switch(self._choose())
        return not me.timed_out

    def wake(self, task: Task) -> None:
        """Let a thread that has blocked run again."""
        task.waiters.remove(task)
        task.ready = True
        task.deadline = inf
        self.can_run(task)

    def can_run(self, task: Task) -> None:
        if self._strategy.preempts(task, self.running):
            self._next_turn = 0.0

    def wake_all(self, waiters: list[Task]) -> None:
        for task in list(waiters):
            self.wake(task)

    def nap(self, seconds: float) -> None:
        """Have so much time pass; of all that is due then, anything may come first."""
        self.running.sleeps = True
        try:
            self.block([], "time to pass", seconds)
        finally:
            self.running.sleeps = False

    def admit(self, thread: Thread) -> Task:
        """Take a thread in that is about to start."""
        self._notice_fork()
        task = Task(self._count, thread.name)
        self._count += 1
        self.tasks.append(task)
        self._threads.append(thread)
        self._strategy.rank(task)
        return task

    def end(self, task: Task) -> None:
        """See a thread off, which gives its turn away for good."""
        if self.aborting:
            return
        task.over = True
        task.ready = False
        self.tasks.remove(task)
        self.wake_all(task.joiners)
        if self.tasks:
            try:
                self._switch(self._choose())
            except Abandoned:
                pass  # it is over anyway
        else:
            self._ended.release()

    def fail(self, trouble: str) -> None:
        """End the schedule, in the thread whose turn it is."""
        self._note(trouble)
        self.give_up()
        self._ended.release()
        raise Abandoned

    def _note(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble
        self.aborting = True

    def table(self) -> str:
        """Return what each thread waits for."""
        return "\n".join(
            f"    {task.name} waits for {task.waits_for}, after {task.place()}" for task in self.tasks if not task.ready
        )

    def story(self, most: int) -> str:
        """Return the last switches."""
        lines = []
        for steps, me, where, task in self.trace[-most:]:
            place = (
                "its start"
                if where is None
                else f"{where[0].co_filename.rpartition('/')[2]}:{where[1]} {where[0].co_qualname}"
            )
            lines.append(f"    {steps:6} {me.name} at {place} -> {task.name}")
        return "\n".join(lines)


def nap(seconds: float) -> None:
    """Have so much time of the schedule pass."""
    if active is not None:
        active.nap(seconds)


def pause() -> None:
    """Be a place where a switch may happen, as each line of the engine is."""
    if active is not None and not active.aborting:
        active.steps += 1
        if active.steps >= active._next_turn:
            active.turn()


def now() -> float:
    """Return the clock of the schedule."""
    return START if active is None else active.now


def ident() -> int:
    """Return the number of the thread, the same one in each replay."""
    if active is None or active.aborting:
        return threading.get_ident()
    return active.running.number + 1


def _here() -> Scheduler:
    """Return the scheduler that a thread which must wait gives its turn to."""
    if active is None:
        raise RuntimeError("this would block, outside of any schedule")
    if active.aborting:
        raise Abandoned
    return active


class Lock:
    """``threading.RLock``, and ``threading.Lock`` where *reentrant* is false."""

    reentrant = False

    def __init__(self) -> None:
        self._count = 0
        self._owner: Task | None = None
        self._waiters: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = active
        if scheduler is not None and scheduler.aborting:
            return True
        me = None if scheduler is None else scheduler.running
        while self._count and not (self.reentrant and self._owner is me):
            owner = "nobody" if self._owner is None else self._owner.name
            if not blocking or not _here().block(
                self._waiters, f"a lock of {owner}", None if timeout == -1 else timeout
            ):
                return False
        self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        if active is not None and active.aborting:
            return
        if not self._count or (self.reentrant and active is not None and self._owner is not active.running):
            raise RuntimeError("release of a lock that is not held")
        self._count -= 1
        if not self._count:
            self._owner = None
            if active is not None:
                active.wake_all(self._waiters)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def locked(self) -> bool:
        return bool(self._count)


class RLock(Lock):
    reentrant = True


class Condition:
    """``threading.Condition`` of a lock of the above."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._waiters: list[Task] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = _here()
        lock = self._lock
        if lock._owner is not scheduler.running:
            raise RuntimeError("wait on a condition whose lock is not held")
        count, lock._count, lock._owner = lock._count, 0, None
        scheduler.wake_all(lock._waiters)
        woken = scheduler.block(self._waiters, "a condition", timeout)
        lock.acquire()
        lock._count = count
        return woken

    def notify(self, n: int = 1) -> None:
        if active is not None and not active.aborting:
            if self._lock._owner is not active.running:
                raise RuntimeError("notify of a condition whose lock is not held")
            for task in self._waiters[:n]:
                active.wake(task)

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class SimpleQueue:
    """``queue.SimpleQueue``."""

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self._waiters: list[Task] = []

    def put(self, item: Any) -> None:
        self.items.append(item)
        if active is not None and not active.aborting and self._waiters:
            active.wake(self._waiters[0])

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        while not self.items:
            if not block or not _here().block(self._waiters, "a queue", timeout):
                raise Empty  # the true one, too, although something may have come since the time was over
        return self.items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self.items)

    def empty(self) -> bool:
        return not self.items


class Thread(threading.Thread):
    """``threading.Thread``: a real one, that waits for its turn."""

    task: Task

    def start(self) -> None:
        scheduler = active
        if scheduler is None or scheduler.aborting:
            raise RuntimeError("can't start new thread")
        self.daemon = True  # one that blocks for ever must not keep the process
        self._scheduler = scheduler
        self.task = scheduler.admit(self)
        super().start()
        scheduler.can_run(self.task)

    def run(self) -> None:
        scheduler = self._scheduler
        self.task.gate.acquire()
        try:
            if not scheduler.aborting:
                super().run()
        except Abandoned:
            pass
        except BaseException as error:
            if not scheduler.aborting:
                frames = "".join(traceback.format_exception(error))
                scheduler._note(f"{self.task.name} died of {error!r}\n{frames}")
                scheduler.give_up()
                scheduler._ended.release()
        finally:
            scheduler.end(self.task)

    def join(self, timeout: float | None = None) -> None:
        if active is not None and not active.aborting and not self.task.over:
            active.block(self.task.joiners, f"the end of {self.task.name}", timeout)

    def leave(self) -> None:
        """Wait for the end of a thread whose schedule is over."""
        super().join(REAL_TIME)


def start_new_thread(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    """``_thread.start_new_thread``."""
    thread = Thread(target=function, args=arguments, name="raw")
    thread.start()
    return thread.task.number


class Threading:
    """``threading`` for the modules that are watched."""

    Lock = Lock
    RLock = RLock
    Condition = Condition
    Thread = Thread
    get_ident = staticmethod(ident)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Ordered(dict[Any, None]):
    """A set whose order is that of its making, where a true one goes by addresses."""

    def add(self, item: object) -> None:
        self[item] = None

    def remove(self, item: object) -> None:
        del self[item]

    def discard(self, item: object) -> None:
        self.pop(item, None)


def watch(files: frozenset[str]) -> None:
    """Let switches happen before each line of *files* from now on."""
    global _watched
    _watched = files
    monitoring = sys.monitoring
    monitoring.use_tool_id(TOOL, "schedules")
    monitoring.register_callback(TOOL, monitoring.events.LINE, _line)
    monitoring.set_events(TOOL, monitoring.events.LINE)
    monitoring.restart_events()


def unwatch() -> None:
    monitoring = sys.monitoring
    monitoring.set_events(TOOL, 0)
    monitoring.register_callback(TOOL, monitoring.events.LINE, None)
    monitoring.free_tool_id(TOOL)


@contextmanager
def recorded() -> Iterator[set[tuple[str, int]]]:
    """Collect the places that are executed inside."""
    global _recorded
    _recorded = set()
    try:
        yield _recorded
    finally:
        _recorded = None


def _line(code: CodeType, number: int) -> object:
    if code.co_filename not in _watched or code.co_name == "__init__":  # what is being made nobody else knows yet
        return sys.monitoring.DISABLE
    if _recorded is not None:
        _recorded.add((code.co_filename, number))
    if active is not None and not active.aborting and not active.looking:
        active.line(code, number)
    return None
