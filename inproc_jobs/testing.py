"""Jobs in tests: performed at once, only recorded, or for real; and time that passes when told to.

    with inline():                                # each enqueue performs the run, here
        sign_up("ada@example.org")

    with fake() as jobs:                          # nothing runs until told
        sign_up("ada@example.org")
        assert_enqueued(MailJob, "ada@example.org")
        jobs.run_all()

    with real():                                  # threads of its own, gone afterwards
        MailJob.perform_in(3600, "ada@example.org")
        travel(3600)

Each is a runtime of its own, so that nothing gets in or out: queues, counts, timer. It holds for the whole process, not
for the thread, and restores what was before; they nest; each works as a decorator, too.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast

from . import _clock, _report, _runtime
from ._modes import (
    TIMEOUT,
    Enqueued,
    FakeRuntime,
    HeldTimer,
    InlineRuntime,
    RealRuntime,
    TestRuntime,
    advance,
    fake_runtime,
    run_due,
    settle,
)
from ._options import MODE_KEY, mode_of
from ._queue import readmit
from ._run import FAILED, Run

__all__ = [
    "Enqueued",
    "Fake",
    "assert_enqueued",
    "assert_not_enqueued",
    "enqueued",
    "fake",
    "inline",
    "real",
    "run_all",
    "run_one",
    "travel",
    "use",
]

Mode = Literal["real", "inline", "fake"]

F = TypeVar("F", bound=Callable[..., Any])

_logger = logging.getLogger(__name__)


RuntimeT = TypeVar("RuntimeT", bound=TestRuntime)
AnswerT = TypeVar("AnswerT")


class _Mode(Generic[RuntimeT, AnswerT]):
    """A context manager and decorator that has a runtime of its own for a while."""

    runtime_class: type[RuntimeT]

    def __init__(self) -> None:
        self._open: list[tuple[RuntimeT, Callable[[], None]]] = []

    def _make(self) -> RuntimeT:
        return self.runtime_class(_runtime.settings())

    def _answer(self, runtime: RuntimeT) -> AnswerT:
        raise NotImplementedError

    def __enter__(self) -> AnswerT:
        runtime = self._make()
        self._open.append((runtime, _runtime.install(runtime)))
        return self._answer(runtime)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        runtime, restore = self._open.pop()
        try:
            self._end(runtime)
        finally:
            restore()

    def _end(self, runtime: RuntimeT) -> None:
        runtime.close()

    def _fresh(self) -> Self:
        return type(self)()

    def __call__(self, function: F) -> F:
        """Have *function*, a test, or each test of a class called inside."""
        if isinstance(function, type):
            for name in dir(function):
                if name.startswith("test") and callable(getattr(function, name)):
                    setattr(function, name, self(getattr(function, name)))
            return cast(F, function)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return cast(F, awaited)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return cast(F, called)


class inline(_Mode[InlineRuntime, None]):  # noqa: N801
    """Perform each run before its enqueue returns, in the caller's thread.

    The way is that of a worker: carriers, a context of its own, signals, stats, the log. A retry follows at once, a
    delayed run does not wait. What jobs enqueue is performed before the outermost enqueue returns.

    Args:
        raises: whether the outermost enqueue raises what the job raised, once there is no further attempt; True. A run
            that one of its jobs has enqueued raises there, too. With False ``run.error`` and the log tell of it.
    """

    runtime_class = InlineRuntime

    def __init__(self, *, raises: bool = True) -> None:
        super().__init__()
        self.raises = raises

    def _make(self) -> InlineRuntime:
        runtime = super()._make()
        runtime.raises = self.raises
        return runtime

    def _answer(self, runtime: InlineRuntime) -> None:  # noqa: ARG002
        return None

    def _fresh(self) -> Self:
        return type(self)(raises=self.raises)


class fake(_Mode[FakeRuntime, "Fake"]):  # noqa: N801
    """Accept and record, and run nothing until told. ``with fake() as jobs:`` gives the ``Fake`` that asserts and runs.

    Limits, policies, signals and stats are the real ones. What was not run is forgotten at the end.
    """

    runtime_class = FakeRuntime

    def _answer(self, runtime: FakeRuntime) -> Fake:
        return Fake(runtime)


class real(_Mode[RealRuntime, None]):  # noqa: N801
    """Perform runs as in production, in threads of its own, which have ended when it does.

    Its end waits for what was accepted, up to 10 seconds, except for what is not due by then.

    Raises:
        AssertionError: at the end: runs have not ended, which it names.
    """

    runtime_class = RealRuntime

    def _answer(self, runtime: RealRuntime) -> None:  # noqa: ARG002
        return None


def travel(seconds: float | timedelta) -> None:
    """Let so much time pass for delayed runs and retries, and for nothing else; those that come due have then run.

    What is due already runs first, then the others, one after the other as they would: a retry that comes due within
    that time runs, too. Under ``real()``, and without any mode, this waits for them, up to 10 seconds each time; under
    ``fake()`` the delayed runs and retries run here.

    Raises:
        TimeoutError: they have not ended.
    """
    left = _clock.seconds(seconds, "the time to travel")
    runtime = _runtime.runtime()
    while True:
        if isinstance(runtime.timer, HeldTimer):
            run_due(runtime)
        elif not settle(runtime, _clock.now() + TIMEOUT):
            raise TimeoutError(f"what was due has not ended within {TIMEOUT:g} s")
        next_due = runtime.timer.next_due(readmit)
        if left <= 0 and next_due != 0.0:
            return
        step = left if next_due is None else min(left, next_due)
        advance(runtime, step)
        left -= step


class Fake:
    """What was enqueued under ``fake()``, and the means to run it."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"<Fake: {len(self._runtime.notes)} enqueued>"

    def enqueued(self, job: Any = None) -> list[Enqueued]:
        """Return what was enqueued, of one job or of all, the first first."""
        definition = None if job is None else _definition(job)
        return [note for note in self._runtime.notes if definition is None or note.job.__job__ is definition]

    def assert_enqueued(
        self, job: Any, /, *args: Any, delay: Any = ..., priority: Any = ..., times: int | None = None, **kwargs: Any
    ) -> Enqueued:
        """Raise AssertionError unless *job* was enqueued with these arguments; return the first that was.

        Args:
            job: the job class, or the function under ``@job``.
            args: as for ``perform``; without any, nor any keyword, whatever they were. ``ANY`` and ``approx`` help.
            delay: seconds; None means for now; not given, whatever it was.
            priority: not given, whatever it was.
            times: how often exactly; not given, at least once.
            kwargs: as for ``perform``.
        """
        __tracebackhide__ = True  # pytest shows the test, not the kit
        wanted = _Wanted(job, args, kwargs, delay, priority)
        found = [note for note in self.enqueued(job) if not wanted.differences(note)]
        if (len(found) == times) if times is not None else found:
            return found[0] if found else cast(Enqueued, None)
        often = f"enqueued {_times(len(found))}, not {_times(cast(int, times))}" if found else "not enqueued"
        raise AssertionError(f"{often}: {wanted}\n{wanted.explain(self._runtime.notes)}")

    def assert_not_enqueued(self, job: Any = None, /, *args: Any, delay: Any = ..., **kwargs: Any) -> None:
        """Raise AssertionError if *job* was enqueued with these arguments; without a job, if anything was."""
        __tracebackhide__ = True
        if job is None:
            found = self._runtime.notes
        else:
            wanted = _Wanted(job, args, kwargs, delay, ...)
            found = [note for note in self.enqueued(job) if not wanted.differences(note)]
        if found:
            raise AssertionError("enqueued:\n" + "\n".join(f"    {note}" for note in found))

    def run_one(self, job: Any = None) -> Run[Any] | None:
        """Perform the run that has waited longest, of one job or of all; return it, or None. Raises what it raised."""
        run = self._runtime.perform_next(None if job is None else _definition(job))
        if run is not None and run.state is FAILED:
            run.result()
        return run

    def run_all(self) -> list[Run[Any]]:
        """Perform what waits and what that enqueues, then what is delayed, without waiting. Raises the first error.

        Returns:
            the runs, in order; one that was tried again is there as often as it was tried.
        """
        runs: list[Run[Any]] = []
        while True:
            while (run := self.run_one()) is not None:
                runs.append(run)
            if not cast(HeldTimer, self._runtime.timer).release():
                return runs


class _Wanted:
    """An enqueue that a test asks for."""

    def __init__(self, job: Any, args: tuple[Any, ...], kwargs: dict[str, Any], delay: Any, priority: Any) -> None:
        self._definition = _definition(job)
        self._given = (job, args, kwargs)
        self._delay = delay
        self._priority = priority
        self._signature = _signature(job)
        self._arguments = self._bound(args, kwargs) if args or kwargs else None

    def __str__(self) -> str:
        job, args, kwargs = self._given
        shown = [_report.shown(value) for value in args]
        shown += [f"{name}={_report.shown(value)}" for name, value in kwargs.items()]
        more = "" if self._delay is ... else f", delay={self._delay!r}"
        more += "" if self._priority is ... else f", priority={self._priority!r}"
        return f"{job.__qualname__}({', '.join(shown) if args or kwargs else '...'}){more}"

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._given[0].__qualname__} cannot have been enqueued like that: {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def differences(self, note: Enqueued) -> list[str]:
        """Return what of *note* is not as wanted."""
        found = []
        if self._arguments is not None:
            given = self._bound(note.args, note.kwargs)
            for name, value in self._arguments.items():
                if value != given[name]:
                    found.append(f"{name} is {_report.shown(given[name])}, not {_report.shown(value)}")
        if self._delay is not ... and self._delay != note.delay:
            found.append(f"delay is {note.delay!r}, not {self._delay!r}")
        if self._priority is not ... and self._priority != note.priority:
            found.append(f"priority is {note.priority}, not {self._priority!r}")
        return found

    def explain(self, notes: list[Enqueued]) -> str:
        """Say what was enqueued, the closest first."""
        same = sorted(
            ((self.differences(note), note) for note in notes if note.job.__job__ is self._definition),
            key=lambda pair: len(pair[0]),
        )
        others = [note for note in notes if note.job.__job__ is not self._definition]
        lines = [f"    {note}" + (f"  - {'; '.join(found)}" if found else "  - as wanted") for found, note in same]
        lines += [f"    {note}" for note in others]
        title = "enqueued:" if same and not same[0][0] else "enqueued instead:"
        return "\n".join([title, *lines[:20]]) if lines else "nothing was enqueued"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _definition(job: Any) -> Any:
    definition = getattr(job, "__job__", None)
    if definition is None:
        raise TypeError(f"a job class or a function under @job is needed, not {_report.shown(job)}")
    return definition


def _signature(job: Any) -> inspect.Signature:
    if not isinstance(job, type):
        return inspect.signature(job.function)
    signature = inspect.signature(job.perform)  # type: ignore[attr-defined]
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def enqueued(job: Any = None) -> list[Enqueued]:
    """Return what was enqueued under ``fake()``; see ``Fake.enqueued``."""
    return Fake(fake_runtime()).enqueued(job)


def assert_enqueued(job: Any, /, *args: Any, **kwargs: Any) -> Enqueued:
    """Raise AssertionError unless *job* was enqueued under ``fake()``; see ``Fake.assert_enqueued``."""
    __tracebackhide__ = True
    return Fake(fake_runtime()).assert_enqueued(job, *args, **kwargs)


def assert_not_enqueued(job: Any = None, /, *args: Any, **kwargs: Any) -> None:
    """Raise AssertionError if *job* was enqueued under ``fake()``; see ``Fake.assert_not_enqueued``."""
    __tracebackhide__ = True
    Fake(fake_runtime()).assert_not_enqueued(job, *args, **kwargs)


def run_one(job: Any = None) -> Run[Any] | None:
    """Perform one run that waits under ``fake()``; see ``Fake.run_one``."""
    return Fake(fake_runtime()).run_one(job)


def run_all() -> list[Run[Any]]:
    """Perform all that waits under ``fake()``; see ``Fake.run_all``."""
    return Fake(fake_runtime()).run_all()


_in_use: list[_Mode[Any, Any]] = []  # the mode of the process, if it is not the real one


def use(mode: Mode) -> None:
    """Have *mode* for the rest of the process, or until the next call; what ``INPROC_JOBS_MODE`` does in the settings.

    Warns when it is left on where no test runs.

    Raises:
        ValueError: *mode* is none of "real", "inline" and "fake".
    """
    mode_of("use", {MODE_KEY: mode})
    while _in_use:
        _in_use.pop().__exit__(None, None, None)
    if mode == "real":
        return
    if not _in_a_test():
        _logger.warning("INPROC_JOBS_MODE is %r and no test runs: jobs are not performed in the background", mode)
    one: _Mode[Any, Any] = inline() if mode == "inline" else fake()
    one.__enter__()
    _in_use.append(one)


def _in_a_test() -> bool:
    return "pytest" in sys.modules or "test" in sys.argv or os.path.basename(os.path.dirname(sys.argv[0])) == "unittest"
