"""An error at the n-th line of the engine: what it breaks, if anything.

``python tests/proof/faults.py [phase [error [line]]]`` strikes every line of every phase with every error, and names
those that break a promise. Each strike is made in a child process, in a bounded time: one that gets stuck is reported
with the stacks of its threads. Needs Python 3.12, for ``sys.monitoring``.
"""

from __future__ import annotations

import argparse
import asyncio
import dis
import faulthandler
import functools
import itertools
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CodeType, FrameType
from typing import IO, Any

import inproc_jobs
from inproc_jobs import Discard, Job, Retry, Run, RunState, _runtime, _threads, _timer, current_run, signals
from inproc_jobs.errors import QueueFullError

PACKAGE = str(Path(inproc_jobs.__file__).parent)
ERRORS = (MemoryError, SystemExit, KeyboardInterrupt)
ENOUGH = 5.0  # seconds within which everything must have ended
STUCK = 40.0  # seconds after which a strike is given up
LINGER = _threads.LINGER
SOON = 0.1  # seconds, in place of what the engine waits for a thread or a second try
TOOL = 4
TRIES = 10  # times a phase is counted, of which one in ten may find nothing

MAIN, WORKER, TIMER = "MainThread", "inproc_jobs-worker", "inproc_jobs-timer"


# The strike.


class Struck:
    """Raises an error at the n-th line of the engine that threads of one kind execute."""

    def __init__(self, error: type[BaseException], line: int, thread: str) -> None:
        self.error = error
        self.line = line
        self.thread = thread
        self.lines = 0  # executed by threads of the kind
        self.where = ""
        self._number = itertools.count().__next__  # one call of C code, for several threads

    def see(self, code: CodeType, number: int) -> object:
        """Be told by the interpreter of a line that is about to be executed."""
        if not code.co_filename.startswith(PACKAGE):
            return sys.monitoring.DISABLE
        if _kind() != self.thread or _raises_nothing(code, sys._getframe(1).f_lasti):
            return None
        place = self._number()
        self.lines = place + 1
        if place == self.line:
            self.where = f"{Path(code.co_filename).name}:{number} in {code.co_qualname}"
            print(f"struck at {self.where}", file=sys.stderr, flush=True)
            raise self.error("struck")
        return None


def _kind() -> str:
    """Return what kind of thread this is; one that is about to start the timer's counts as the timer's."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}  # current_thread() would make a dummy one
    name = names.get(threading.get_ident(), TIMER)
    return WORKER if name.startswith(WORKER) else name


@functools.cache
def _raises_nothing(code: CodeType, offset: int) -> bool:
    """Return whether the interpreter can raise nothing where the line that starts at *offset* is reported.

    That is so at a ``try:``, which is no more than a place: no handler covers it, not even that of a ``with`` around it.
    And it is so between the body of a ``with`` and the call of ``__exit__``: signals and errors from outside are looked
    for after calls, at jumps backwards and at the start of a function only.
    """
    instructions = {instruction.offset: instruction for instruction in dis.get_instructions(code)}
    here = instructions[offset]
    if here.opname == "NOP":
        return True
    line = [one for one in instructions.values() if one.positions and one.positions.lineno == here.positions.lineno]
    return any(one.opname in ("BEFORE_WITH", "LOAD_SPECIAL") and one.offset < offset for one in line)


@contextmanager
def armed(struck: Struck) -> Iterator[None]:
    """Strike while inside, and catch what then comes out in this thread."""
    monitoring = sys.monitoring
    monitoring.use_tool_id(TOOL, "faults")
    monitoring.register_callback(TOOL, monitoring.events.LINE, struck.see)
    monitoring.set_events(TOOL, monitoring.events.LINE)
    try:
        yield
    except ERRORS:
        pass
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, monitoring.events.LINE, None)
        monitoring.free_tool_id(TOOL)


# What is struck.


class World:
    """One runtime and one job, and what became of its runs."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.performed: Counter[int] = Counter()
        self.closed: Counter[Run[Any]] = Counter()
        self.accepted: dict[int, Run[None]] = {}
        self.attempts: dict[int, int] = {}  # how often a run may be performed, if not once
        self.does: dict[int, Callable[[], object]] = {}
        self.inside = threading.Semaphore(0)  # released by each that stands at the gate
        self.gate = threading.Event()
        self.receivers: list[Callable[..., None]] = []
        self.job: Any = (self._awaited if options.pop("awaited", False) else self._plain)(options)

    def _plain(self, options: dict[str, Any]) -> type[Job]:
        class Numbered(Job, **{"workers": 2, "name": "numbered", **options}):
            def perform(_, number: int) -> None:  # noqa: N805 - self is the world
                self.perform(number)

        return Numbered

    def _awaited(self, options: dict[str, Any]) -> type[Job]:
        class Awaited(self._plain(options), name="awaited"):
            async def perform(_, number: int) -> None:  # noqa: N805 - self is the world
                self.perform(number)

        return Awaited

    def perform(self, number: int) -> None:
        self.performed[number] += 1
        self.does.get(number, int)()

    def enqueue(self, *numbers: int, does: Callable[[], object] = int, attempts: int = 1, **options: Any) -> Run[None]:
        """Enqueue runs that all do the same, and return the last one."""
        for number in numbers:
            self.does[number] = does
            self.attempts[number] = attempts
            job = self.job.using(**options) if options else self.job
            self.accepted[number] = job.perform_async(number)
        return self.accepted[number]

    def enqueue_in(self, delay: float, number: int) -> Run[None]:
        self.accepted[number] = self.job.perform_in(delay, number)
        return self.accepted[number]

    def stand(self) -> None:
        """Stand at the gate; what a job does."""
        self.inside.release()
        self.gate.wait(ENOUGH)

    def occupy(self, *numbers: int) -> None:
        """Enqueue runs that stand at the gate, and wait until all of them do."""
        for number in numbers:
            self.enqueue(number, does=self.stand)
            self.inside.acquire(timeout=ENOUGH)

    def warm(self) -> None:
        """Have the threads started."""
        self.enqueue(0).wait(ENOUGH)

    def stats(self) -> inproc_jobs.Stats:
        return inproc_jobs.stats()[self.job.__job__.name]

    def listen(self) -> None:
        """Connect a receiver to every signal of the job."""

        def receive(_: object, *, run: Run[Any], **__: object) -> None:
            if run.state in (RunState.SUCCEEDED, RunState.FAILED, RunState.DISCARDED, RunState.CANCELLED):
                self.closed[run] += 1

        self.receivers.append(receive)
        for name in signals.__all__:
            if name.startswith("job_") and name != "job_rejected":
                getattr(signals, name).connect(receive, sender=self.job)

    def wait(self, seconds: float = ENOUGH) -> None:
        """Wait until what was accepted has ended."""
        deadline = time.monotonic() + seconds
        for run in list(self.accepted.values()):
            run.wait(max(0.01, deadline - time.monotonic()))

    def trouble(self) -> list[str]:
        """Return the promises that are broken, now that the error has struck."""
        found = []
        self.gate.set()
        self.wait(SOON * 2)  # the timer's thread may have died before it came: the next enqueue then sees to it
        deadline = time.monotonic() + ENOUGH
        for number in range(100, 103):
            try:
                self.enqueue(number).wait(max(0.01, deadline - time.monotonic()))
            except BaseException as error:
                found.append(f"refuses: {error!r}")
        for number, run in self.accepted.items():
            if not run.wait(max(0.01, deadline - time.monotonic())):
                found.append(f"never ends: {number}, {run.state}")
        found += self._lost_worker()
        for number, times in self.performed.items():
            if times > self.attempts.get(number, 1):
                found.append(f"performed {times} times: {number}")
        for number, run in self.accepted.items():
            if run.state is RunState.SUCCEEDED and not self.performed[number]:
                found.append(f"succeeded without being performed: {number}")
            if number >= 100 and run.state is not RunState.SUCCEEDED:
                found.append(f"does not succeed: {run!r}")
        found += [f"closed {times} times: {run!r}" for run, times in self.closed.items() if times > 1]
        return found

    def _lost_worker(self) -> list[str]:
        """See whether as many runs are performed at once as the job class has workers."""
        workers = self.job.__job__.options.workers
        barrier = threading.Barrier(workers)
        try:
            self.enqueue(*range(200, 200 + workers), does=lambda: barrier.wait(ENOUGH))
        except BaseException as error:
            return [f"refuses: {error!r}"]
        met = [self.accepted[number].wait(ENOUGH) for number in range(200, 200 + workers)]
        return [f"has lost a worker: {barrier!r}"] if barrier.broken or not all(met) else []

    def end(self) -> list[str]:
        """Return what is wrong with the end."""
        found = []
        before = time.monotonic()
        if not inproc_jobs.drain(ENOUGH):
            found.append(f"does not drain: {self.stats()}")
        stats = self.stats()
        if stats.busy or stats.queued or stats.retrying or stats.scheduled:
            found.append(f"looks busy: {stats}")
        report = inproc_jobs.shutdown(0.5)
        if time.monotonic() - before > ENOUGH + 1.5:
            found.append("stops late")
        if report.discarded:
            found.append(f"discards: {report.discarded}")
        found += left_behind(time.monotonic() + ENOUGH)
        ghosts = [thread for thread in _runtime.runtime().threads.alive() if not thread.is_alive()]
        return found + [f"takes a dead thread for alive: {thread.name}" for thread in ghosts]


def left_behind(deadline: float, *kinds: str) -> list[str]:
    """Return the stacks of the threads that are left, once they have had the time to end."""
    found = []
    for thread in threading.enumerate():
        if thread.name.startswith(kinds or "inproc_jobs") and thread.ident is not None:
            thread.join(max(0.01, deadline - time.monotonic()))
            frame = sys._current_frames().get(thread.ident)
            if thread.is_alive():
                found.append(f"leaves {thread.name} behind:\n{_stack(frame)}")
    return found


def _stack(frame: FrameType | None) -> str:
    return "" if frame is None else "".join(traceback.format_stack(frame))


@dataclass(frozen=True)
class Phase:
    """Something that the engine does, struck in the threads of one kind."""

    act: Callable[[World, Struck], None]
    thread: str
    options: dict[str, Any]


PHASES: dict[str, Phase] = {}


def phase(*threads: str, **options: Any) -> Callable[[Callable[[World, Struck], None]], Callable[..., None]]:
    """Add a function to the phases, once for each kind of thread."""

    def add(act: Callable[[World, Struck], None]) -> Callable[..., None]:
        for thread in threads:
            kind = thread.removeprefix("inproc_jobs-").removesuffix("Thread").lower()
            PHASES[f"{act.__name__}-{kind}"] = Phase(act, thread, options)
        return act

    return add


@phase(MAIN)
def enqueueing(world: World, struck: Struck) -> None:
    """A later enqueue; the first one has started the threads."""
    world.warm()
    with armed(struck):
        world.enqueue(1, 2)
        world.enqueue(3, priority=5)


@phase(MAIN)
def first_enqueue(world: World, struck: Struck) -> None:
    """The first enqueue of a process."""
    with armed(struck):
        world.enqueue(0, 1)


@phase(MAIN, WORKER)
def announcing(world: World, struck: Struck) -> None:
    """Enqueues, attempts and ends that receivers are told of."""
    world.listen()
    with armed(struck):
        world.enqueue(0)
        world.enqueue(1, does=once(OSError), attempts=2, retry=Retry(attempts=2, backoff=0.0))
        world.enqueue(2, does=failing(ValueError))
        world.enqueue_in(0.001, 3)
        world.wait()


@phase(MAIN, TIMER)
def delaying(world: World, struck: Struck) -> None:
    """Delayed enqueues, by either clock, and a cancellation."""
    with armed(struck):
        world.enqueue_in(0.002, 0)
        world.accepted[1] = world.job.perform_at(datetime.now(UTC) + timedelta(seconds=0.002), 1)
        world.job.perform_in(0.01, 2).cancel()
        world.wait()


@phase(MAIN)
def cancelling(world: World, struck: Struck) -> None:
    """Cancellations of runs in every state, which a caller tries again after an error."""
    world.enqueue(4, does=failing(Retry.Later, 60.0))
    inproc_jobs.drain(ENOUGH)  # returns when the retry is all that is left, for it is not due until then
    world.occupy(0, 1)
    world.enqueue(2)
    world.enqueue_in(60.0, 3)
    with armed(struck):
        for run in world.accepted.values():
            run.cancel()
    for run in world.accepted.values():
        run.cancel()


@phase(WORKER, TIMER)
def working(world: World, struck: Struck) -> None:
    """Attempts, from the threads' start on."""
    with armed(struck):
        world.enqueue(0, 2, 3)
        world.enqueue(1, does=once(OSError), attempts=2, retry=Retry(attempts=2, on=(OSError,), backoff=0.0))
        world.wait()


@phase(WORKER, TIMER)
def retrying(world: World, struck: Struck) -> None:
    """Second attempts, asked for in every way."""
    with armed(struck):
        world.enqueue(0, does=once(OSError), attempts=2, retry=Retry(attempts=2, backoff=0.001))
        world.enqueue(1, does=once(Retry.Later, 0.001), attempts=2)
        world.enqueue(2, does=failing(OSError), retry=failing(ValueError))
        world.wait()


@phase(WORKER)
def ending(world: World, struck: Struck) -> None:
    """Ends that are no success."""
    with armed(struck):
        world.enqueue(0, does=failing(ValueError))
        world.enqueue(1, does=failing(Discard, "no use"))
        world.enqueue(2, expires_in=1e-9)
        world.enqueue(3, does=cancel_me)
        world.wait()


@phase(WORKER, awaited=True)
def awaiting(world: World, struck: Struck) -> None:
    """Attempts of a coroutine function."""
    with armed(struck):
        world.enqueue(0, 1)
        world.enqueue(2, does=failing(ValueError))
        world.wait()


@phase(WORKER, TIMER)
def overrunning(world: World, struck: Struck) -> None:
    """An attempt that is past its timeout, and stops when told to; and one that is not."""
    with armed(struck):
        world.enqueue(0, does=stop_when_told, timeout=0.005)
        world.enqueue(1, timeout=ENOUGH)
        world.wait()


@phase(WORKER, TIMER, interruptible=True)
def interrupting(world: World, struck: Struck) -> None:
    """An attempt that is interrupted at its timeout."""
    with armed(struck):
        world.enqueue(0, does=spin, timeout=0.005)
        world.enqueue(1, timeout=ENOUGH)
        world.wait()


@phase(WORKER, TIMER, linger=SOON)
def leaving(world: World, struck: Struck) -> None:
    """Threads that end because there is nothing to do, and are then needed again."""
    with armed(struck):
        world.enqueue(0).wait(ENOUGH)
        left_behind(time.monotonic() + ENOUGH, WORKER, TIMER)
        world.enqueue(1).wait(ENOUGH)


@phase(WORKER)
def nesting(world: World, struck: Struck) -> None:
    """Jobs that perform others, and wait for others."""
    with armed(struck):
        world.enqueue(0, does=lambda: world.enqueue(10).wait(ENOUGH))
        world.enqueue(1, does=lambda: world.job.perform_now(11))
        world.wait()


@phase(MAIN)
def performing_now(world: World, struck: Struck) -> None:
    """Runs performed by the caller."""
    world.does[1] = failing(ValueError)
    with armed(struck):
        world.job.perform_now(0)
        with suppress(ValueError):
            world.job.perform_now(1)


@phase(MAIN)
def waiting(world: World, struck: Struck) -> None:
    """Waiting for a run, in a thread and in an event loop."""
    world.occupy(0)

    async def wait() -> None:
        asyncio.get_running_loop().call_later(0.001, world.gate.set)
        async with asyncio.timeout(ENOUGH):  # a MemoryError in a callback is the loop's, which logs it and goes on
            await world.accepted[0]

    with armed(struck), suppress(TimeoutError):
        world.accepted[0].wait(0.001)
        asyncio.run(wait())
        world.accepted[0].result(ENOUGH)


def full(world: World, struck: Struck) -> None:
    """Enqueues to a full queue."""
    world.occupy(0)
    world.enqueue(1)
    with armed(struck), suppress(QueueFullError):
        world.enqueue(2)
        world.enqueue(3)


for policy in ("raise", "caller_runs", "discard", "discard_oldest"):
    PHASES[f"full_{policy}-main"] = Phase(full, MAIN, {"workers": 1, "max_queue": 1, "when_full": policy})


@phase(MAIN, WORKER, workers=1, max_queue=1, when_full="block", block_timeout=ENOUGH)
def full_block(world: World, struck: Struck) -> None:
    """Enqueues that wait for room, in vain and with success."""
    world.occupy(0)
    world.enqueue(1)
    opener = threading.Timer(0.01, world.gate.set)
    with armed(struck):
        with suppress(QueueFullError):
            world.enqueue(2, block_timeout=0.001)
        opener.start()
        world.enqueue(3)
        world.wait()
    world.gate.set()


@phase(MAIN, WORKER, TIMER)
def draining(world: World, struck: Struck) -> None:
    """The drain and the shutdown, which a caller tries again after an error."""
    world.enqueue(0, 2, 3)
    world.enqueue(1, does=once(OSError), attempts=2, retry=Retry(attempts=2, on=(OSError,), backoff=0.001))
    with armed(struck):
        inproc_jobs.drain(ENOUGH)
        inproc_jobs.shutdown(ENOUGH)
    inproc_jobs.shutdown(ENOUGH)
    inproc_jobs.restart()


@phase(MAIN, WORKER, TIMER)
def stopping(world: World, struck: Struck) -> None:
    """A shutdown that cannot finish what is queued, delayed and at work; and a new start."""
    world.occupy(0)
    world.occupy(1)
    world.enqueue(2)
    world.enqueue_in(60.0, 3)
    with armed(struck):
        inproc_jobs.shutdown(0.002)
        world.gate.set()
        world.wait()
        inproc_jobs.restart()
        world.enqueue(4).wait(ENOUGH)
    inproc_jobs.shutdown(0.002)
    inproc_jobs.restart()


@phase(MAIN, WORKER, TIMER)
def resizing(world: World, struck: Struck) -> None:
    """Another limit of threads while they are at work."""
    world.occupy(0)
    before = _runtime.settings().max_threads
    with armed(struck):
        inproc_jobs.configure(max_threads=3)
        world.enqueue(1, 2).wait(ENOUGH)
    inproc_jobs.configure(max_threads=before)


def once(error: type[Exception], *args: object) -> Callable[[], None]:
    """Return what raises at its first call only."""
    calls = itertools.count().__next__

    def does() -> None:
        if calls() == 0:
            raise error(*args)

    return does


def failing(error: type[Exception], *args: object) -> Callable[..., Any]:
    """Return what raises."""

    def does(*_: object) -> None:
        raise error(*args)

    return does


def cancel_me() -> None:
    """Have the run that calls this cancelled."""
    run = current_run()
    if run is not None:
        run.cancel()
        run.checkpoint()


def stop_when_told() -> None:
    """Go on until ``checkpoint`` raises."""
    run = current_run()
    deadline = time.monotonic() + ENOUGH
    never = threading.Event()
    while run is not None and time.monotonic() < deadline:
        run.checkpoint()
        never.wait(0.001)


def spin() -> None:
    """Go on until interrupted."""
    deadline = time.monotonic() + ENOUGH
    while time.monotonic() < deadline:
        pass


# The strikes of a child process, and who asks for them.


@dataclass(frozen=True)
class Result:
    """What became of one strike.

    Attributes:
        where: the line that was struck; "" if there are fewer.
        lines: how many were executed until the strike, or in all.
        trouble: the promises that broke.
    """

    where: str
    lines: int
    trouble: list[str]


def strike(name: str, error: type[BaseException], line: int) -> Result:
    """Strike in this process."""
    chosen = PHASES[name]
    options = dict(chosen.options)
    _timer.LINGER = linger = options.pop("linger", LINGER)
    _threads.Threads._serve.__kwdefaults__["linger"] = linger
    struck = Struck(error, line, chosen.thread)
    restore = _runtime.install(_runtime.Runtime(_runtime.settings()))
    try:
        world = World(options)
        chosen.act(world, struck)
        return Result(struck.where, struck.lines, world.trouble() + world.end())
    finally:
        restore()


def serve() -> None:
    """Make the strikes that standard input asks for."""
    logging.disable()
    threading.excepthook = sys.unraisablehook = lambda _: None
    _timer.AGAIN = _timer.ARRIVAL = _threads.ARRIVAL = SOON
    errors = {error.__name__: error for error in ERRORS}
    for asked in sys.stdin:
        name, error, line = asked.split()
        print("striking", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(STUCK, exit=True)
        result = strike(name, errors[error], int(line))
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(asdict(result)), flush=True)


class Striker:
    """Strikes in a child process, and in another one after each that broke something."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._words: IO[str] | None = None

    def __enter__(self) -> Striker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def strike(self, name: str, error: type[BaseException], line: int) -> Result:
        """Strike line *line* of a phase."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{name} {error.__name__} {line}\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if answer:
            result = Result(**json.loads(answer))
        else:
            child.wait()
            result = Result("?", 0, [f"stuck, or dead with {child.returncode}: {self._last_words()}"])
        if result.trouble:
            self._end()
        return result

    def lines(self, name: str) -> int:
        """Return how many lines a phase has, more or less."""
        for _ in range(TRIES):  # its thread may now and then come to none before the phase is over
            result = self.strike(name, MemoryError, sys.maxsize)
            assert not result.trouble, f"{name}, not struck: {result.trouble}"
            if result.lines:
                return result.lines
        raise AssertionError(f"{name} came to no line in {TRIES} times")

    def _start(self) -> subprocess.Popen[str]:
        self._words = tempfile.TemporaryFile("w+")
        self._child = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        return self._child

    def _last_words(self) -> str:
        assert self._words is not None
        self._words.seek(0)
        return self._words.read().rpartition("striking\n")[2]

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None
        if self._words is not None:
            self._words.close()


def every_line(striker: Striker, name: str, error: type[BaseException]) -> Iterator[tuple[int, Result]]:
    """Strike line after line, until none is left."""
    lines = striker.lines(name)
    for line in itertools.count():
        result = striker.strike(name, error, line)
        if not result.where and not result.trouble and line >= lines:
            return
        yield line, result


def describe(name: str, error: type[BaseException], line: int, result: Result) -> str:
    """Return what broke, and how to see it again."""
    return (
        f"{result.where or 'no line struck'}: {'; '.join(result.trouble)}\n"
        f"    python tests/proof/faults.py {name} {error.__name__} {line}"
    )


def main(arguments: list[str]) -> int:
    """Strike what is named, or everything, and print what breaks."""
    parser = argparse.ArgumentParser(prog="python tests/proof/faults.py", description="Raise errors at every line.")
    names = [kind.__name__ for kind in ERRORS]
    parser.add_argument("phase", nargs="?", choices=PHASES, metavar="phase", help=f"one of {', '.join(PHASES)}; or all")
    parser.add_argument("error", nargs="?", choices=names, metavar="error", help=f"one of {', '.join(names)}; or all")
    parser.add_argument("line", nargs="?", type=int, help="the n-th that is executed; or every one")
    given = parser.parse_args(arguments)
    broken = 0
    with Striker() as striker:
        for phase in [given.phase] if given.phase else PHASES:
            for kind in [kind for kind in ERRORS if kind.__name__ == (given.error or kind.__name__)]:
                started = time.monotonic()
                lines = (
                    [(given.line, striker.strike(phase, kind, given.line))]
                    if given.line
                    else every_line(striker, phase, kind)
                )
                results = dict(lines)
                found = [describe(phase, kind, number, result) for number, result in results.items() if result.trouble]
                struck = sum(bool(result.where) for result in results.values())
                seconds = time.monotonic() - started
                print(f"{phase}, {kind.__name__}: {struck} lines, {len(found)} broken, {seconds:.1f} s", flush=True)
                print(*found, sep="\n", end="\n" * bool(found), flush=True)
                broken += len(found)
    print(f"{broken} lines break a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main(sys.argv[1:]))
