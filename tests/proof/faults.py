"""An error at the n-th line of the engine: what it breaks, if anything.

``python tests/proof/faults.py [phase]`` strikes every line of every phase with every error, and names those that break a
promise. Needs Python 3.12, for ``sys.monitoring``.
"""

from __future__ import annotations

import dis
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import inproc_jobs
from inproc_jobs import Job, Retry, Run, RunState, _runtime

PACKAGE = str(Path(inproc_jobs.__file__).parent)
ERRORS = (MemoryError, SystemExit, KeyboardInterrupt)
ENOUGH = 3.0  # seconds within which everything must have ended
TOOL = 4

MAIN, WORKER, TIMER = "MainThread", "inproc_jobs-worker", "inproc_jobs-timer"


class Struck:
    """Raises an error at the n-th line of the engine that a thread of one kind executes."""

    def __init__(self, error: type[BaseException], line: int, thread: str) -> None:
        self.error = error
        self.left = line
        self.thread = thread
        self.where = ""

    def line(self, code: CodeType, number: int) -> object:
        if not code.co_filename.startswith(PACKAGE):
            return sys.monitoring.DISABLE
        if self.where or not threading.current_thread().name.startswith(self.thread):
            return None
        if self.left == 0:
            if _leaves_a_with(sys._getframe(1), number):
                return None  # the next one instead
            self.where = f"{Path(code.co_filename).name}:{number} in {code.co_qualname}"
            raise self.error("struck")
        self.left -= 1
        return None


def _leaves_a_with(frame: FrameType, number: int) -> bool:
    """Return whether a line is a ``with`` whose body is over.

    The interpreter reports the line between the body and the call of ``__exit__``, where nothing can be raised in truth: it
    looks for signals and errors from outside only after a call.
    """
    starts = [start for start, _, line in frame.f_code.co_lines() if line == number]
    return frame.f_lasti > min(starts) and any(
        instruction.opname == "BEFORE_WITH" and instruction.positions and instruction.positions.lineno == number
        for instruction in dis.get_instructions(frame.f_code)
    )


@contextmanager
def armed(struck: Struck) -> Iterator[None]:
    """Strike while inside."""
    monitoring = sys.monitoring
    monitoring.use_tool_id(TOOL, "faults")
    monitoring.register_callback(TOOL, monitoring.events.LINE, struck.line)
    monitoring.set_events(TOOL, monitoring.events.LINE)
    try:
        yield
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, monitoring.events.LINE, None)
        monitoring.free_tool_id(TOOL)


class World:
    """One runtime and one job, and what became of its runs."""

    def __init__(self) -> None:
        self.performed: Counter[int] = Counter()
        self.accepted: dict[int, Run[None]] = {}
        performed = self.performed

        class Numbered(Job, workers=2, retry=Retry(attempts=2, on=(OSError,), backoff=0.0), name="numbered"):
            def perform(self, number: int) -> None:
                performed[number] += 1
                if number == 1 and performed[number] == 1:
                    raise OSError("once")

        self.job = Numbered

    def enqueue(self, *numbers: int) -> None:
        for number in numbers:
            self.accepted[number] = self.job.perform_async(number)

    def trouble(self) -> list[str]:
        """Return the promises that are broken, now that the error has struck."""
        found = []
        deadline = time.monotonic() + ENOUGH
        for number in range(100, 105):
            try:
                self.enqueue(number)
            except BaseException as error:
                found.append(f"refuses: {error!r}")
        for number, run in self.accepted.items():
            if not run.wait(max(0.01, deadline - time.monotonic())):
                found.append(f"never ends: {number}, {run.state}")
        twice = [number for number, times in self.performed.items() if times > (2 if number == 1 else 1)]
        if twice:
            found.append(f"performed twice: {twice}")
        late = [number for number in range(100, 105) if number in self.accepted]
        found += [f"does not perform: {number}" for number in late if self.performed[number] != 1]
        lost = [n for n, run in self.accepted.items() if run.state is RunState.SUCCEEDED and not self.performed[n]]
        if lost:
            found.append(f"succeeded without being performed: {lost}")
        return found

    def end(self) -> list[str]:
        """Return what is wrong with the end."""
        found = []
        before = time.monotonic()
        if not inproc_jobs.drain(ENOUGH):
            found.append(f"does not drain: {inproc_jobs.stats()['numbered']}")
        stats = inproc_jobs.stats()["numbered"]
        if stats.busy or stats.queued or stats.retrying:
            found.append(f"looks busy: {stats}")
        report = inproc_jobs.shutdown(0.5)
        if time.monotonic() - before > ENOUGH + 1.5:
            found.append("stops late")
        if report.discarded:
            found.append(f"discards: {report.discarded}")
        return found


def enqueueing(world: World, struck: Struck) -> None:
    """A later enqueue; the first one has started the threads."""
    world.enqueue(0)
    world.accepted[0].wait(ENOUGH)
    with armed(struck):
        try:
            world.enqueue(1, 2)
        except ERRORS:
            pass


def first_enqueue(world: World, struck: Struck) -> None:
    """The first enqueue of a process."""
    with armed(struck):
        try:
            world.enqueue(0, 1)
        except ERRORS:
            pass


def delayed(world: World, struck: Struck) -> None:
    """A delayed enqueue and a cancellation."""
    with armed(struck):
        try:
            world.accepted[5] = world.job.perform_in(0.001, 5)
            world.job.perform_in(0.01, 6).cancel()
        except ERRORS:
            pass


def working(world: World, struck: Struck) -> None:
    """Workers, from their thread's start on."""
    with armed(struck):
        world.enqueue(0, 1, 2, 3)
        deadline = time.monotonic() + ENOUGH
        for run in list(world.accepted.values()):
            run.wait(max(0.01, deadline - time.monotonic()))


def timing(world: World, struck: Struck) -> None:
    """The timer, from its start on."""
    with armed(struck):
        world.enqueue(0, 1)
        world.accepted[2] = world.job.perform_in(0.002, 2)
        deadline = time.monotonic() + ENOUGH
        for run in list(world.accepted.values()):
            run.wait(max(0.01, deadline - time.monotonic()))


def draining(world: World, struck: Struck) -> None:
    """The drain and the shutdown, which a caller tries again after an error."""
    world.enqueue(0, 1, 2, 3)
    with armed(struck):
        try:
            inproc_jobs.drain(ENOUGH)
            inproc_jobs.shutdown(ENOUGH)
        except ERRORS:
            pass
    inproc_jobs.shutdown(ENOUGH)
    inproc_jobs.restart()


PHASES: dict[str, tuple[Callable[[World, Struck], None], str]] = {
    "enqueueing": (enqueueing, MAIN),
    "first enqueue": (first_enqueue, MAIN),
    "delayed": (delayed, MAIN),
    "working": (working, WORKER),
    "timing": (timing, TIMER),
    "draining": (draining, MAIN),
}


def strike(phase: str, error: type[BaseException], line: int) -> tuple[str, list[str]]:
    """Return where the error has struck, "" if there are fewer lines, and the promises that broke."""
    function, thread = PHASES[phase]
    struck = Struck(error, line, thread)
    restore = _runtime.install(_runtime.Runtime(_runtime.settings()))
    try:
        world = World()
        function(world, struck)
        return struck.where, world.trouble() + world.end()
    finally:
        restore()


def every_line(phase: str, error: type[BaseException], most: int = 100_000) -> Iterator[tuple[int, str, list[str]]]:
    """Strike line after line; yield those that broke something."""
    for line in range(most):
        where, trouble = strike(phase, error, line)
        if trouble:
            yield line, where, trouble
        if not where:
            return


def main(phases: list[str]) -> int:
    logging.disable()
    threading.excepthook = lambda _: None
    broken = 0
    for phase in phases or PHASES:
        for error in ERRORS:
            started = time.monotonic()
            found = list(every_line(phase, error))
            print(
                f"{phase}, {error.__name__}: {len(found)} break something, {time.monotonic() - started:.1f} s",
                flush=True,
            )
            for line, where, trouble in found:
                print(f"    {line:4} {where or 'nowhere'}: {'; '.join(trouble)}", flush=True)
            broken += len(found)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
