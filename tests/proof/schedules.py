"""The orders in which the engine's threads can run: what they break, if anything.

``python tests/proof/schedules.py [scenario ...] [--seed N] [--count N]`` goes through so many schedules of each scenario, one
for each seed from N on, and prints what breaks a promise, with the seed and the switches that led to it. The same seed is the
same schedule, but for a process that has done or imported other things before. Needs Python 3.12, for ``sys.monitoring``.
"""

from __future__ import annotations

import argparse
import concurrent.futures.thread
import gc
import logging
import math
import os
import select
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import scheduler
from scheduler import Scheduler, Typical

import inproc_jobs
from inproc_jobs import (
    Job,
    Retry,
    Run,
    RunState,
    ShutdownReport,
    _clock,
    _full,
    _job,
    _lifecycle,
    _queue,
    _run,
    _runtime,
    _spawn,
    _threads,
    _timer,
    _worker,
    signals,
)
from inproc_jobs._queue import JobQueue
from inproc_jobs.errors import DeadlockError, RejectedError

WATCHED = (_queue, _threads, _timer, _run, _worker, _runtime, _full, _spawn)
ENOUGH = 1e6  # seconds, of a deadline that must never come
CLOSING = {
    "succeeded": signals.job_succeeded,
    "failed": signals.job_failed,
    "discarded": signals.job_discarded,
    "cancelled": signals.job_cancelled,
}
LIMIT = 15.0  # seconds of the true clock for the child of a fork

_world: World


class Pair(Job, workers=2):
    def perform(self, number: int) -> None:
        _world.perform(number)


class Single(Job, workers=1):
    def perform(self, number: int) -> None:
        _world.perform(number)


class Chained(Job, workers=2):
    """Enqueues another run."""

    def perform(self, number: int) -> None:
        _world.enqueue(Pair, number + 100)
        _world.perform(number)


class Flaky(Job, workers=2, retry=Retry(attempts=3, on=(OSError,), backoff=0.25, jitter=False)):
    """Fails at its first attempt."""

    def perform(self, number: int) -> None:
        _world.perform(number)
        if _world.performed[number] == 1:
            raise OSError("once")


class Impatient(Job, workers=1, expires_in=0.5):
    def perform(self, number: int) -> None:
        _world.perform(number)


class Slow(Job, workers=1):
    def perform(self, number: int) -> None:
        scheduler.nap(0.1)
        _world.perform(number)


class Nested(Job, workers=2):
    """Waits for a run of its own class."""

    def perform(self, number: int, depth: int) -> None:
        _world.perform(number)
        if depth:
            _world.enqueue(Nested, number * 10, depth=depth - 1)
            _world.runs[number * 10].wait()


class Crossed(Job, workers=2):
    """Waits for its partner, which waits for it."""

    def perform(self, number: int, partner: int) -> None:
        _world.perform(number)
        if partner in _world.runs:
            _world.runs[partner].wait()


class Outer(Job, workers=2):
    """Waits for a run of another class."""

    def perform(self, number: int) -> None:
        _world.perform(number)
        _world.enqueue(Pair, number + 100)
        _world.runs[number + 100].wait()


class Blocking(Job, workers=1, max_queue=1, when_full="block", block_timeout=ENOUGH):
    def perform(self, number: int) -> None:
        _world.perform(number)


class Oldest(Job, workers=1, max_queue=1, when_full="discard_oldest"):
    def perform(self, number: int) -> None:
        _world.perform(number)


class Caller(Job, workers=1, max_queue=1, when_full="caller_runs"):
    def perform(self, number: int) -> None:
        _world.perform(number)


JOBS = (Pair, Single, Chained, Flaky, Impatient, Slow, Nested, Crossed, Outer, Blocking, Oldest, Caller)


class World:
    """A runtime, what it was asked for and what became of that."""

    def __init__(self, rng: Random, typical: Typical) -> None:
        self.rng = rng
        self.scheduler = Scheduler(rng, typical, self.stalled)
        self.runtime = _runtime.Runtime(_runtime.settings())
        self.runs: dict[int, Run[Any]] = {}
        self.asked = 0  # enqueues that have begun
        self.refused = 0
        self.performed: Counter[int] = Counter()
        self.closed: dict[Run[Any], list[str]] = {}
        self.broken: list[str] = []
        self.reports: list[ShutdownReport] = []
        self.late = False  # whether enqueues may meet a shutdown
        self.ended = False

    # What scenarios are made of.

    def chance(self) -> bool:
        return self.rng.random() < 0.5

    def warm(self, *jobs: type[Job]) -> None:
        """Have threads that have worked already."""
        for job in jobs:
            number = 900 + len(self.runs)
            self.enqueue(job, number)
            self.runs[number].wait()

    def perform(self, number: int) -> None:
        scheduler.pause()
        self.performed[number] += 1
        scheduler.pause()

    def enqueue(self, job: type[Job], *numbers: int, **arguments: int) -> None:
        for number in numbers:
            self.asked += 1
            try:
                self.runs[number] = job.perform_async(number, **arguments)
            except RejectedError:
                self.refused += 1
            scheduler.pause()

    def later(self, job: type[Job], delay: float, *numbers: int) -> None:
        for number in numbers:
            self.asked += 1
            try:
                self.runs[number] = job.perform_in(delay, number)
            except RejectedError:
                self.refused += 1
            scheduler.pause()

    def drain(self) -> None:
        """Drain, and see that all is over that was accepted before, and what that has enqueued."""
        before, asked = dict(self.runs), self.asked
        settled = inproc_jobs.drain(ENOUGH)
        # One that is scheduled just after the drain's last look makes it say so.
        if not settled and self.asked == asked:
            self.broken.append("drain() gave up")
        late = {number: run for number, run in self.runs.items() if number in before or number - 100 in before}
        self.expect_done(late, "drain()")

    def shut_down(self, timeout: float = ENOUGH) -> None:
        before = dict(self.runs)
        report = inproc_jobs.shutdown(timeout)
        if any(report is other for other in self.reports):
            return
        self.reports.append(report)
        if timeout == ENOUGH:
            self.expect_done(before, "shutdown()")

    def expect_done(self, runs: dict[int, Run[Any]], what: str) -> None:
        self.broken += [
            f"{what} has returned before {number}: {run!r}" for number, run in runs.items() if not run.done()
        ]

    def together(self, *functions: Callable[[], object]) -> None:
        """Call each function in a thread of its own, and wait for them."""
        threads = [scheduler.Thread(target=function, name=_name(function)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def search(self) -> None:
        self.scheduler.search()

    # What is promised.

    def queues(self) -> list[JobQueue]:
        return self.runtime.queues()

    def stalled(self) -> str:
        """Return what should go on, now that nobody does without time passing."""
        if self.ended:
            # But for one whose job goes on, and a timer that a thread has started which the shutdown has overtaken.
            lingers = all(task.sleeps or "inproc_jobs-timer" in task.name for task in self.scheduler.tasks)
            return "" if lingers else "threads are left, which the shutdown should have ended"
        for queue in self.queues():
            if queue._qsize() and queue._permits:
                return f"{queue._qsize()} runs of {queue.definition.name} wait although a worker could come"
        waits = any(queue.scheduled or queue.retrying for queue in self.queues())
        if waits or any(task.sleeps for task in self.scheduler.tasks):
            return ""
        states = ", ".join(f"{number} {run.state}" for number, run in self.runs.items() if not run.done())
        return f"nothing goes on, and nothing is due; not done: {states or 'none'}"

    def end(self) -> None:
        """Shut down, and have all threads end."""
        self.shut_down()
        self.ended = True

    def _look_at(self, number: int, run: Run[Any]) -> None:
        if not run.done() or run.state not in _run.FINAL:
            self.broken.append(f"{number} never ends: {run!r}")
            return
        times = self.performed[number]
        if self.closed.get(run) != [run.state.value]:
            self.broken.append(f"{run!r} was announced as {self.closed.get(run)}")
        if times > run.attempt:
            self.broken.append(f"{run!r} was performed {times} times")
        if run.state is RunState.SUCCEEDED and times != run.attempt:
            self.broken.append(f"{run!r} has succeeded, and was performed {times} times")
        late = self.late and isinstance(run.error, OSError)  # no retry any more
        if run.state is RunState.FAILED and not late and not isinstance(run.error, DeadlockError):
            self.broken.append(f"{run!r}: {run.error!r}")
        if run.attempt > 1 and run._options.retry is None:
            self.broken.append(f"{run!r} was performed more than once")

    def _look_into(self, queue: JobQueue) -> None:
        name = queue.definition.name
        stats = queue.stats()
        mine = [run for run in self.closed if run._queue is queue]
        for outcome in CLOSING:
            states = sum(run.state.value == outcome for run in mine)
            if getattr(stats, outcome) != states:
                self.broken.append(f"{name}: {states} {outcome}, {getattr(stats, outcome)} counted")
        left = {
            "waiting": queue._qsize(),
            "scheduled": len(queue.scheduled),
            "retrying": len(queue.retrying),
            "announcing": queue._announcing,
            "blocked": queue.blocked,
            "watched": len(queue.threads.watches),
        }
        left = {what: number for what, number in left.items() if number}
        if left:
            self.broken.append(f"{name}: left are {left}")

    def aftermath(self) -> None:
        """Look at what there is once all threads have ended."""
        discarded = [run for run in self.runs.values() if run.reason == "shutdown"]
        reported = [run for report in self.reports for run in report.discarded]
        if len(reported) != len(set(reported)) or set(discarded) - set(reported):
            self.broken.append(f"discarded {discarded}, reported {reported}")
        if reported and not self.late:
            self.broken.append(f"discarded before the deadline: {reported}")
        for number, run in self.runs.items():
            self._look_at(number, run)
        for queue in self.queues():
            self._look_into(queue)
        rejected = sum(queue.stats().rejected for queue in self.queues())
        if rejected != self.refused:
            self.broken.append(f"{self.refused} refused, {rejected} counted")
        threads, timer = self.runtime.threads, self.runtime.timer
        left: dict[str, Any] = {
            "busy": threads._busy,
            "serving": threads._serving,
            "own": threads._own,
            "waiting": threads._waiting,
            "watchers": threads.watchers,
            "executor": threads._executor,
            "calls": timer._delays + timer._moments,
            "timer": timer._thread,
            "hands": _run.hands,
            "workers": [worker for queue in self.queues() for worker in queue._workers],
        }
        self.broken += [f"left: {what} {value}" for what, value in left.items() if value]
        # What an enqueue or a retiring worker has put there that a stop had overtaken, a restart sends home.
        threads.resume()
        if threads.ready.items:
            self.broken.append(f"ready after a restart: {threads.ready.items}")
        for queue in self.queues():
            permits = len(queue._permits)
            if permits != queue.definition.options.workers:
                self.broken.append(f"{queue.definition.name}: {permits} permits at home")


def _name(function: Callable[[], object]) -> str:
    return getattr(function, "__name__", "thread").replace("<lambda>", "thread")


# The scenarios.


def enqueue_against_drain(world: World) -> None:
    """Producers, one of them with runs that enqueue more, while another thread drains."""
    if world.chance():
        world.warm(Pair)
    world.search()
    world.together(lambda: world.enqueue(Pair, 1, 2), lambda: world.enqueue(Chained, 11, 12), world.drain)


def enqueue_against_shutdown(world: World) -> None:
    """Producers meet a shutdown: each run is refused, performed, or named in the report."""
    world.late = True
    if world.chance():
        world.warm(Pair)
    world.search()
    others = [lambda: world.enqueue(Pair, 11), lambda: world.later(Single, 0.01, 21)] if world.chance() else []
    world.together(lambda: world.enqueue(Pair, 1, 2), world.shut_down, *others)


def deadline_against_end(world: World) -> None:
    """Runs end, and others start, in the moment in which a shutdown is past its deadline."""
    world.late = True
    if world.chance():
        world.warm(Pair)
    world.search()
    world.enqueue(Slow, 1, 2)
    world.later(Pair, 0.1, 3)
    world.enqueue(Flaky, 4)
    world.shut_down(world.rng.choice((0.0, 0.1, 0.2)))


def two_drains(world: World) -> None:
    """Two drains and a late producer."""
    if world.chance():
        world.warm(Pair)
    world.search()
    world.enqueue(Pair, 1)
    world.enqueue(Single, 2)
    world.together(world.drain, world.drain, lambda: world.enqueue(Single, 11))


def spawn_against_retire(world: World) -> None:
    """Workers end for want of work in the moment in which a run comes."""
    world.warm(Pair)
    world.search()
    if world.chance():
        world.warm(Single)

    def late() -> None:
        scheduler.nap(_threads.LINGER)
        world.enqueue(Pair, 1)
        world.runs[1].wait()

    def later() -> None:
        scheduler.nap(_threads.LINGER)
        world.enqueue(Single, 11, 12)

    world.together(*((late, later) if world.chance() else (late,)))


def timer_against_drain(world: World) -> None:
    """Delays and retries come due while a thread drains."""
    if world.chance():
        world.warm(Pair)
    world.search()
    world.enqueue(Flaky, 10)
    if world.chance():
        world.drain()
        return
    world.later(Pair, 0.25, 1)

    def produce() -> None:
        world.enqueue(Flaky, 11)
        world.later(Single, 0.0, 12)
        scheduler.nap(0.25)
        world.later(Impatient, 0.25, 13)

    world.together(produce, world.drain)
    world.drain()


def cancel_against_start(world: World) -> None:
    """Runs that wait, that start, that are scheduled and that are retried are cancelled."""
    if world.chance():
        world.warm(Pair)
    world.search()
    world.later(Single, 0.25, 3)
    world.enqueue(Pair, 1, 2)
    world.enqueue(Flaky, 4)

    def cancel(number: int) -> None:
        run = world.runs[number]
        asked = run.cancel()
        if asked and run.state is RunState.CANCELLED and run.attempt == 0 and world.performed[number]:
            world.broken.append(f"{run!r} was cancelled before its start and performed")
        if not asked and not run.done():
            world.broken.append(f"{run!r} could not be cancelled")

    def timed() -> None:
        scheduler.nap(0.25)
        cancel(3)
        cancel(4)

    world.together(lambda: cancel(2), lambda: cancel(1), timed)
    cancel(2)


def wait_inside(world: World) -> None:
    """Jobs wait for runs that only they, or each other, could perform: one of them is told so, and none hangs."""
    shape = world.rng.randrange(4)
    if shape == 3:
        world.runtime.threads.max_threads = 2
    if world.chance():
        world.warm(Pair)
    world.search()
    if shape == 0:
        world.enqueue(Nested, 1, depth=1)
    elif shape == 1:
        world.together(lambda: world.enqueue(Nested, 1, depth=1), lambda: world.enqueue(Nested, 2, depth=1))
    elif shape == 2:
        world.together(lambda: world.enqueue(Crossed, 1, partner=2), lambda: world.enqueue(Crossed, 2, partner=1))
    else:
        world.together(lambda: world.enqueue(Outer, 1), lambda: world.enqueue(Outer, 2))
    world.drain()
    failed = sum(run.state is RunState.FAILED for run in world.runs.values())
    if failed > (0, 1, 1, 1)[shape]:
        world.broken.append(f"{failed} runs were told that they would wait for ever")


def wait_against_end(world: World) -> None:
    """Several threads wait for runs that end meanwhile."""
    if world.chance():
        world.warm(Pair)
    world.search()
    world.enqueue(Pair, 1)
    world.later(Single, 0.25, 2)

    def wait(number: int) -> None:
        if not world.runs[number].wait():
            world.broken.append(f"{number} was not waited for")
        world.expect_done({number: world.runs[number]}, "wait()")

    world.together(lambda: wait(1), lambda: wait(1), lambda: wait(2), lambda: wait(2), lambda: world.runs[2].cancel())


def fork_against_enqueue(world: World) -> None:
    """A process forks while another thread enqueues: the child works, and leaves the parent's runs to the parent."""
    if world.chance():
        world.warm(Pair)
    world.search()
    # As uWSGI does: it forks in C, and calls no hook.
    hooks = world.chance()

    def produce() -> None:
        world.enqueue(Pair, 1, 2)
        world.runs[1].wait()
        world.enqueue(Pair, 3)

    world.together(produce, lambda: fork(world, hooks=hooks))


def fork(world: World, *, hooks: bool) -> None:
    """Fork, enqueue in the child, and bring home what was found there."""
    reader, writer = os.pipe()
    host = _lifecycle._host
    if not hooks:
        _lifecycle._host = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads, which is the point
            pid = os.fork()
    finally:
        _lifecycle._host = host
    if pid == 0:
        in_child(world, writer)
    os.close(writer)
    try:
        said = b""
        deadline = time.monotonic() + LIMIT
        while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(reader, 65536)
            said += part
            if not part:
                break
        else:
            os.kill(pid, 9)
            world.broken.append("the child hangs outside of the scheduler's reach")
        os.waitpid(pid, 0)
    finally:
        os.close(reader)
    if said != b"fine":
        world.broken.append(f"in the child: {said.decode() or 'it died'}")


def in_child(world: World, writer: int) -> None:
    """Be the child of a fork; never returns."""

    def say(text: str) -> None:
        os.write(writer, text.encode())
        os._exit(0)

    try:
        if world.scheduler.trouble:  # in the hooks
            say(world.scheduler.trouble)
        world.scheduler.give_up = lambda: say(world.scheduler.trouble)
        inherited = set(world.runs.values())
        performed = world.performed.copy()
        world.runtime = _runtime.runtime()
        world.runs = {}
        world.enqueue(Pair, 201, 202)
        world.runs[201].wait()
        world.drain()
        report = inproc_jobs.shutdown(ENOUGH)
        world.expect_done(world.runs, "the child's end")
        world.performed.subtract(performed)
        if +world.performed != Counter((201, 202)):
            world.broken.append(f"performed are {+world.performed}")
        if report.discarded or world.refused:
            world.broken.append(f"discarded {report.discarded}, refused {world.refused}")
        if any(run.state in (RunState.CANCELLED, RunState.DISCARDED, RunState.FAILED) for run in inherited):
            world.broken.append(f"it has closed the parent's: {inherited}")
        say("; ".join(world.broken) or "fine")
    except BaseException as error:
        say(repr(error))


def restart(world: World) -> None:
    """Shut down and accept work again, while others enqueue and shut down, too."""
    world.late = True
    if world.chance():
        world.warm(Pair)
    world.search()

    def again() -> None:
        world.shut_down()
        inproc_jobs.restart()
        world.enqueue(Pair, 1)

    others = [lambda: world.enqueue(Pair, 11, 12)]
    if world.chance():
        others.append(lambda: world.later(Single, 0.1, 21))
    world.together(again, *others)
    refused = world.refused
    world.enqueue(Pair, 31)
    if world.refused != refused:
        world.broken.append("refuses after restart()")
    else:
        world.drain()


def full_queue(world: World) -> None:
    """Producers meet the bound, and wait for room, perform the run themselves or push the oldest out."""
    job = world.rng.choice((Blocking, Blocking, Oldest, Caller))
    if world.chance():
        world.warm(job)
    world.search()
    world.together(lambda: world.enqueue(job, 1, 2), lambda: world.enqueue(job, 11, 12), lambda: world.enqueue(job, 21))
    world.drain()


SCENARIOS: dict[str, Callable[[World], None]] = {
    scenario.__name__: scenario
    for scenario in (
        enqueue_against_drain,
        enqueue_against_shutdown,
        deadline_against_end,
        two_drains,
        spawn_against_retire,
        timer_against_drain,
        cancel_against_start,
        wait_inside,
        wait_against_end,
        fork_against_enqueue,
        restart,
        full_queue,
    )
}

# How the search is done.


@contextmanager
def staged() -> Iterator[None]:
    """Put the scheduler beneath the engine."""
    before: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, value: Any) -> None:
        before.append((place, name, place.__dict__.get(name, place)))
        setattr(place, name, value)

    threading = scheduler.Threading()
    for module in (_queue, _threads, _timer, _run, _worker, _runtime, _spawn, concurrent.futures.thread):
        put(module, "threading", threading)
    queue = SimpleNamespace(SimpleQueue=scheduler.SimpleQueue, Empty=_threads.Empty)
    put(_threads, "queue", queue)
    put(concurrent.futures.thread, "queue", queue)
    put(concurrent.futures.thread, "_global_shutdown_lock", scheduler.Lock())
    put(_spawn, "_thread", SimpleNamespace(start_new_thread=scheduler.start_new_thread))
    put(_clock, "time", SimpleNamespace(monotonic=scheduler.now, time=scheduler.now))
    for module in (_queue, _run, _worker, _job):
        put(module, "monotonic", scheduler.now)
    put(_run, "time", scheduler.now)
    put(_run, "_waiters_lock", None)  # each schedule has its own
    for module in (_queue, _runtime):
        put(module, "set", scheduler.Ordered)
    for name in ("watch_signals", "listen", "deafen"):
        put(_lifecycle, name, lambda: None)  # a thread that reads a pipe is out of reach
    disabled = logging.root.manager.disable
    logging.disable()  # a record's text is made under a lock that is out of reach
    collecting = gc.isenabled()
    gc.disable()  # what it finds, and when, would not be the same in a replay
    scheduler.watch(frozenset(str(Path(module.__file__ or "")) for module in WATCHED))
    try:
        yield
    finally:
        scheduler.unwatch()
        for place, name, value in reversed(before):
            if value is place:
                delattr(place, name)
            else:
                setattr(place, name, value)
        _runtime._process.lock = _run.threading.RLock()
        logging.disable(disabled)
        if collecting:
            gc.enable()


class Found(NamedTuple):
    """What one schedule has shown."""

    seed: int
    trouble: str  # empty if no promise is broken
    steps: int
    order: tuple[tuple[int, int], ...]  # of each switch: the step, and the number of the thread that then runs
    story: str  # the last switches, if there is trouble


def schedule(name: str, seed: int, typical: Typical, story: int = 60) -> Found:
    """Go through one schedule; *story* says how many switches are told."""
    global _world
    world = _world = World(Random(f"{name} {seed}"), typical)
    _run.hands.clear()
    _runtime._process.lock, _run._waiters_lock = scheduler.RLock(), scheduler.RLock()
    restore = _runtime.install(world.runtime)

    def note(job: Any, run: Run[Any], outcome: str) -> None:
        world.closed.setdefault(run, []).append(outcome)

    def receiver(outcome: str) -> Callable[..., None]:
        return lambda job, run, **extra: note(job, run, outcome)

    def main() -> None:
        SCENARIOS[name](world)
        world.end()

    receivers = {outcome: receiver(outcome) for outcome in CLOSING}
    for outcome, function in receivers.items():
        CLOSING[outcome].connect(function, weak=False)
    if world.chance():
        signals.job_enqueued.connect(_ignore, weak=False)
    try:
        trouble = world.scheduler.run(main)
        if not trouble:
            world.aftermath()
    finally:
        for outcome, function in receivers.items():
            CLOSING[outcome].disconnect(function)
        signals.job_enqueued.disconnect(_ignore)
        restore()
    if trouble:
        world.broken.insert(0, trouble)
    told = world.scheduler.story(story) if world.broken else ""
    order = tuple((steps, task.number) for steps, _, _, task in world.scheduler.trace)
    return Found(seed, "\n".join(world.broken), world.scheduler.steps, order, told)


def _ignore(job: Any, **extra: Any) -> None:
    """Receive job_enqueued: with a receiver, a run goes in by another way."""


def search(name: str, seeds: Iterable[int], story: int = 60) -> Iterator[Found]:
    """Go through a schedule for each of *seeds*; to be closed, or the engine stays on the scheduler."""
    with staged():
        schedule(name, 0, Typical(500, []))  # the first of a process has more to do, and is not what the next are like
        with scheduler.recorded() as places:
            length = max(schedule(name, seed, Typical(500, [])).steps for seed in range(5))
        typical = Typical(length, sorted(places))
        for number, seed in enumerate(seeds):
            if number % 200 == 0:
                gc.collect()
            yield schedule(name, seed, typical, story)


def describe(name: str, found: Found) -> str:
    """Return what is broken, how it came about and how to see it again."""
    again = f"python tests/proof/schedules.py {name} --seed {found.seed} --count 1"
    return f"{name}, seed {found.seed}: {found.trouble}\n{found.story}\n    again: {again}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Search the orders in which the engine's threads can run.")
    parser.add_argument("scenario", nargs="*", help="one of " + ", ".join(SCENARIOS) + "; all if none is given")
    parser.add_argument("--seed", type=int, help="of the first schedule; a random one if none is given")
    parser.add_argument("--count", type=int, default=10_000, help="schedules of each scenario; 10000 if not given")
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most, for each scenario; any if not given")
    parser.add_argument("--enough", type=int, default=3, help="after so many that break something, the next scenario")
    parser.add_argument("--story", type=int, default=60, help="how many of the last switches are told")
    given = parser.parse_args(arguments)
    if unknown := set(given.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(unknown)}")
    seed = Random().randrange(1_000_000_000) if given.seed is None else given.seed
    print(f"{scheduler.TECHNIQUE}.\nSeeds from {seed} on, {sys.implementation.name} {sys.version.split()[0]}.")
    broken = 0
    for name in given.scenario or SCENARIOS:
        started = time.monotonic()
        bad: list[Found] = []
        done = steps = switches = 0
        for found in search(name, range(seed, seed + given.count), given.story):
            done, steps, switches = done + 1, steps + found.steps, switches + len(found.order)
            if found.trouble:
                bad.append(found)
                print(describe(name, found), flush=True)
                if len(bad) == given.enough:
                    break
            if time.monotonic() > started + given.seconds:
                break
        print(
            f"{name}: {done} schedules, {len(bad)} break something; {steps / done:.0f} lines and"
            f" {switches / done:.0f} switches each, {time.monotonic() - started:.1f} s",
            flush=True,
        )
        broken += len(bad)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
