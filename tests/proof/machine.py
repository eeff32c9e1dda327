"""A model of the public API, and a machine that does to both whatever comes to its mind.

``python tests/proof/machine.py [examples]`` makes so many examples of 50 steps each and says what was tried. The model
knows what DESIGN promises and nothing of the engine: which runs wait, which may be at work, how each must end. After every
step the two must agree, in states, counts, signals and log.

Jobs stand in a gate until the machine says how they end, so it is the machine that decides what happens next. Hours pass
when it says so.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky as Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import inproc_jobs
from inproc_jobs import Discard, Job, Retry, Run, RunState, Stats, _modes, _runtime, current_run, job, signals
from inproc_jobs.errors import (
    QueueFullError,
    RejectedError,
    RunCancelledError,
    RunDiscardedError,
    RunTimeoutError,
    ScheduleFullError,
    ShutdownError,
    WrongProcessError,
)
from inproc_jobs.testing import real

WAIT = 5.0  # seconds within which the engine must have done what it has to
HOUR = 10_000.0  # seconds of the model's time, many more than an example takes
GRID = 100.0  # seconds between two runs that come due
ATTEMPTS = 3
SCARCE = 5  # runs that may be pending, where that is scarce
PLENTY = 200_000

SCHEDULED, QUEUED, RUNNING, RETRYING = RunState.SCHEDULED, RunState.QUEUED, RunState.RUNNING, RunState.RETRYING
SUCCEEDED, FAILED, DISCARDED, CANCELLED = (
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.DISCARDED,
    RunState.CANCELLED,
)
CLOSING = {"succeeded": SUCCEEDED, "failed": FAILED, "discarded": DISCARDED, "cancelled": CANCELLED}

tried: Counter[str] = Counter()  # what the machines of this process have done

_machine: Machine  # the one at work


class Again(ConnectionError):
    """What is worth another attempt, and says when."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"again in {delay} s")
        self.retry_after = delay


class Narrow(Job, workers=1, max_queue=2, name="narrow"):
    def perform(self, token: int) -> int:
        assert self.run is current_run()
        return _machine.stand(self.run, token)


@job(workers=2, max_queue=3, name="wide")
def wide(token: int) -> int:
    run = current_run()
    assert run is not None
    return _machine.stand(run, token)


class Awaited(Job, workers=1, max_queue=2, name="awaited"):
    async def perform(self, token: int) -> int:
        return _machine.stand(self.run, token)


JOBS: dict[str, Any] = {"narrow": Narrow, "wide": wide, "awaited": Awaited}
WORKERS = {"narrow": 1, "wide": 2, "awaited": 1}
MAX_QUEUE = {"narrow": 2, "wide": 3, "awaited": 2}


@dataclass
class Verdict:
    """How an attempt goes on when it leaves the gate."""

    kind: str  # succeed, fail, exit, discard, later, again, checkpoint, call
    delay: float = 0.0
    call: Callable[[], object] | None = None


@dataclass
class Entry:
    """What the model knows of one run."""

    token: int
    job: str
    retries: bool = False
    timeout: float | None = None
    expires_in: float | None = None
    priority: int = 0
    run: Run[Any] | None = None
    state: RunState | None = None
    reason: str | None = None
    error: type[BaseException] | None = None
    attempt: int = 0
    due: float = 0.0
    expires: float | None = None
    alarm: float | None = None  # when the attempt overruns
    overran: bool = False
    stop: str | None = None  # cancel, timeout or shutdown
    here: bool = False  # performed in the caller's thread
    now: bool = False  # by perform_now
    verdict: Verdict | None = None
    inside: bool = False  # an attempt is at work, though the run may have ended by a shutdown
    announced: bool = False
    closed: int = 0
    on_its_way: bool = False  # its time has come, and the timer may not have put it in yet

    @property
    def final(self) -> bool:
        return self.state in (SUCCEEDED, FAILED, DISCARDED, CANCELLED)


@dataclass
class Counts:
    """What stats() must say of one job."""

    attempts: int = 0
    retried: int = 0
    rejected: int = 0
    ended: Counter[RunState] = field(default_factory=Counter)


class Ear(logging.Handler):
    """Counts what the log says of each run, and keeps what should not be there."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.closing: Counter[tuple[str, int]] = Counter()
        self.unexpected: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "inproc_jobs.run":
            self.closing[record.run_id, record.levelno] += 1  # type: ignore[attr-defined]
        elif record.levelno >= logging.WARNING and "past its timeout" not in record.getMessage():
            self.unexpected.append(record.getMessage())


LEVELS = {FAILED: logging.ERROR, DISCARDED: logging.WARNING, CANCELLED: logging.INFO}

names = st.sampled_from(sorted(JOBS))
picks = st.integers(0, 99)
hours = st.integers(0, 3)


class Machine(RuleBasedStateMachine):
    """Does anything to the engine, and predicts it."""

    def __init__(self) -> None:
        super().__init__()
        global _machine
        _machine = self
        self.changed = threading.Condition()  # guards events, verdicts, open and answers
        self.events: list[tuple[str, int, Run[Any], Any]] = []
        self.verdicts: dict[int, Verdict] = {}
        self.answers: dict[int, list[Any]] = {}  # of what was called inside a job
        self.open = False  # whether each attempt succeeds at once
        self.verdict_here = Verdict("succeed")  # of the next attempt in this thread
        self.entries: dict[int, Entry] = {}
        self.offered = -1  # the token of the last enqueue
        self.lines: dict[str, list[Entry]] = {name: [] for name in JOBS}
        self.counts = {name: Counts() for name in JOBS}
        self.now = 0.0
        self.report: inproc_jobs.ShutdownReport | None = None
        self.max_threads = self.most_threads = 32
        self.limit = PLENTY
        self.listens = False
        self.passes = False  # whether the shutdown under way lets all pass
        self.has_forked = False
        self.broken = False
        self.ear = Ear()
        self.cleanup = ExitStack()
        self._enter()

    def _enter(self) -> None:
        before = _runtime.settings()
        self.cleanup.callback(inproc_jobs.configure, max_threads=before.max_threads, max_scheduled=before.max_scheduled)
        inproc_jobs.configure(max_threads=32, max_scheduled=PLENTY)
        logger = logging.getLogger("inproc_jobs")
        self.cleanup.callback(logger.setLevel, logger.level)
        self.cleanup.callback(setattr, logger, "propagate", logger.propagate)
        self.cleanup.callback(logger.removeHandler, self.ear)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self.ear)
        for name in ("rejected", "started", "retried", "overran", *CLOSING):
            self._listen(name)
        signals.shutdown_started.connect(self._let_pass)
        self.cleanup.callback(signals.shutdown_started.disconnect, self._let_pass)
        self.cleanup.enter_context(real())

    def _listen(self, name: str) -> None:
        def receive(sender: Any, run: Run[Any], **extra: Any) -> None:
            assert sender.__job__.name in JOBS
            detail = extra.get("error", extra.get("reason"))
            # One that is rejected holds its arguments no more.
            self.tell(name, run.args[0] if run.args else self.offered, run, (detail, extra.get("delay")))

        signal_ = getattr(signals, f"job_{name}")
        signal_.connect(receive, weak=False)
        self.cleanup.callback(signal_.disconnect, receive)

    def _let_pass(self, sender: Any, **extra: Any) -> None:
        if self.passes:
            self.open_gates()

    # What runs inside the jobs.

    def tell(self, kind: str, token: int, run: Run[Any], detail: Any = None) -> None:
        with self.changed:
            self.events.append((kind, token, run, detail))
            self.changed.notify_all()

    def stand(self, run: Run[Any], token: int) -> int:
        """Stand in the gate until the machine says how the attempt goes on."""
        self.tell("entered", token, run)
        if threading.current_thread() is threading.main_thread() and not self.open:
            verdict = self.verdict_here
        else:
            with self.changed:
                self.changed.wait_for(lambda: self.open or token in self.verdicts)
                verdict = self.verdicts.pop(token, Verdict("succeed"))
        try:
            self.obey(verdict, run, token)
        finally:
            self.tell("left", token, run)
        return token

    def obey(self, verdict: Verdict, run: Run[Any], token: int) -> None:
        if verdict.kind == "fail":
            raise ValueError("no\nforged")
        if verdict.kind == "exit":
            raise SystemExit("leaves")
        if verdict.kind == "discard":
            raise Discard("not\nwanted")
        if verdict.kind == "later":
            raise Retry.Later(verdict.delay)
        if verdict.kind == "again":
            raise Again(verdict.delay)
        if verdict.kind == "checkpoint":
            run.checkpoint()
        if verdict.call is not None:
            try:
                answer: Any = verdict.call()
            except RejectedError as error:
                answer = error
            with self.changed:
                self.answers[token] = [answer]
                self.changed.notify_all()

    def open_gates(self) -> None:
        with self.changed:
            self.open = True
            self.changed.notify_all()

    # What the machine does.

    @initialize(listens=st.booleans(), max_threads=st.sampled_from([2, 32]))
    def begin(self, listens: bool, max_threads: int) -> None:
        self.listens = listens
        if listens:
            self._listen("enqueued")
        inproc_jobs.configure(max_threads=max_threads)
        self.max_threads = self.most_threads = max_threads

    @precondition(lambda self: self.report is None)
    @rule(
        name=names,
        when_full=st.sampled_from(["raise", "raise", "block", "caller_runs", "discard", "discard_oldest"]),
        priority=st.sampled_from([0, 0, 0, -1, 5]),
        expires=st.sampled_from([0, 0, 1, 2]),
        timeout=st.sampled_from([0, 0, 1, 2]),
        retries=st.booleans(),
        verdict=st.sampled_from(["succeed", "fail", "exit", "discard", "later", "again"]),
    )
    def enqueue(
        self, name: str, when_full: str, priority: int, expires: int, timeout: int, retries: bool, verdict: str
    ) -> None:
        entry = self.new(name, priority=priority, expires=expires, timeout=timeout, retries=retries)
        call = self.using(entry, when_full=when_full, block_timeout=0.0).perform_async
        self.verdict_here = self.verdict(verdict)
        self.accept(entry, lambda: call(entry.token), when_full)

    @rule(name=names)
    def enqueue_plainly(self, name: str) -> None:
        entry = self.new(name)
        self.accept(entry, lambda: JOBS[name].perform_async(entry.token), "raise")

    @precondition(lambda self: self.report is None)
    @rule(
        name=names,
        delay=hours,
        wall=st.booleans(),
        expires=st.sampled_from([0, 1]),
        timeout=st.sampled_from([0, 1]),
        retries=st.booleans(),
        priority=st.sampled_from([0, 5]),
    )
    def schedule(
        self, name: str, delay: int, wall: bool, expires: int, timeout: int, retries: bool, priority: int
    ) -> None:
        entry = self.new(name, priority=priority, expires=expires, timeout=timeout, retries=retries)
        due = self.free_moment(delay)
        using = self.using(entry)
        if wall:
            when = datetime.now(UTC) + timedelta(seconds=due - self.now)
            self.accept_later(entry, due, lambda: using.perform_at(when, entry.token))
        else:
            self.accept_later(entry, due, lambda: using.perform_in(due - self.now, entry.token))

    @rule(name=names, verdict=st.sampled_from(["succeed", "fail", "exit", "discard", "later", "again"]))
    def perform_now(self, name: str, verdict: str) -> None:
        entry = self.new(name, retries=True)
        self.verdict_here = self.verdict(verdict)
        if self.report is not None:
            self.refused(entry, lambda: JOBS[name].perform_now(entry.token), ShutdownError)
            return
        entry.here = entry.now = True
        entry.verdict = self.verdict_here
        self.admit(entry, QUEUED)
        raised = {
            "fail": ValueError,
            "exit": SystemExit,
            "discard": RunDiscardedError,
            "later": Retry.Later,
            "again": Again,
        }
        self.expect(raised.get(verdict), lambda: JOBS[name].perform_now(entry.token), entry.token)
        self.settle()

    @rule(pick=picks, kind=st.sampled_from(["succeed", "fail", "exit", "discard", "checkpoint"]))
    def end(self, pick: int, kind: str) -> None:
        entry = self.pick(pick, self.standing())
        if entry is not None:
            self.give(entry, Verdict(kind))
            self.settle()

    @precondition(lambda self: self.report is None)
    @rule(pick=picks, kind=st.sampled_from(["later", "again"]), delay=hours)
    def try_again(self, pick: int, kind: str, delay: int) -> None:
        entry = self.one_standing(pick)
        if entry is not None:
            self.give(entry, self.verdict(kind, delay))
            self.settle()

    @precondition(lambda self: self.report is None)
    @rule(pick=picks, name=names)
    def enqueue_inside(self, pick: int, name: str) -> None:
        outer = self.one_standing(pick)
        if outer is not None:
            entry = self.new(name)
            self.accept(entry, lambda: self.inside(outer, lambda: JOBS[name].perform_async(entry.token)), "raise")

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        entry = self.pick(pick, list(self.entries.values()))
        if entry is None or entry.run is None:
            return
        self.check(entry.run.cancel() is not entry.final, f"cancel() is wrong about {entry}")
        if entry.state is RUNNING:
            entry.stop = "cancel"
        elif not entry.final:
            if entry.state is QUEUED:
                self.lines[entry.job].remove(entry)
            self.ends(entry, CANCELLED)
        self.settle()

    @precondition(lambda self: self.report is None)
    @rule(units=st.integers(1, 3))
    def travel(self, units: int) -> None:
        end = self.now + units * HOUR
        while True:
            moments = [entry.due for entry in self.entries.values() if entry.state in (SCHEDULED, RETRYING)]
            moments += [entry.alarm for entry in self.entries.values() if entry.alarm is not None]
            if not moments or min(moments) > end:
                break
            self.pass_time(min(moments))
        self.pass_time(end)

    @precondition(lambda self: self.report is None)
    @rule(max_threads=st.sampled_from([1, 2, 3, 32]))
    def configure_threads(self, max_threads: int) -> None:
        inproc_jobs.configure(max_threads=max_threads)
        self.max_threads = max_threads
        self.most_threads = max(self.most_threads, max_threads)  # for those that live stay
        self.settle()

    @precondition(lambda self: self.report is None)
    @rule(limit=st.sampled_from([SCARCE, PLENTY]))
    def configure_scheduled(self, limit: int) -> None:
        inproc_jobs.configure(max_scheduled=limit)
        self.limit = limit

    @precondition(lambda self: self.report is None)
    @rule()
    def drain(self) -> None:
        if self.standing():
            self.check(inproc_jobs.drain(0.0) is False, "drain() says that all has ended")
        self.open_gates()
        drained = inproc_jobs.drain(WAIT)
        self.settle()
        self.open = False
        self.check(drained is not self.left_for_later(), f"drain() says {drained}")

    @rule(how=st.sampled_from(["now", "inside", "in peace"]), pick=picks)
    def shutdown(self, how: str, pick: int) -> None:
        caller = self.one_standing(pick) if how == "inside" else None
        if caller is not None:
            self.shut(lambda: self.inside(caller, lambda: inproc_jobs.shutdown(0.0)), caller=caller)
        elif how == "in peace" and self.report is None:
            self.shut_in_peace()
        else:
            self.shut(lambda: inproc_jobs.shutdown(0.0))

    def shut_in_peace(self) -> None:
        before = {entry.token for entry in self.entries.values() if not entry.final}
        left = [entry for entry in self.entries.values() if entry.state in (SCHEDULED, RETRYING)]
        self.passes = True
        report = inproc_jobs.shutdown(WAIT)
        self.passes = False
        self.report = report
        for entry in left:
            self.ends(entry, DISCARDED, "shutdown")
        self.settle()
        self.open = False
        finished = sum(self.entries[token].state is SUCCEEDED for token in before)
        self.check((report.finished, report.failed) == (finished, 0), f"{report} instead of {finished} finished")
        self.reports(left)

    @rule()
    def restart(self) -> None:
        inproc_jobs.restart()
        self.report = None

    @precondition(lambda self: not self.has_forked)  # it takes longer than all the rest
    @rule(count=st.integers(1, 2))
    def fork(self, count: int) -> None:
        self.has_forked = True
        self.settle()
        for trouble in forked(lambda: list(self.live_as_child(count))):
            self.fail(f"in a forked child: {trouble}")
        self.settle()

    @rule(pick=picks)
    def look_at(self, pick: int) -> None:
        entry = self.pick(pick, [entry for entry in self.entries.values() if entry.final and entry.run is not None])
        if entry is not None and entry.run is not None:
            run = entry.run
            self.check(run.wait(0) and not run.args and not run.kwargs, f"{run!r} holds on")
            expected = {
                SUCCEEDED: None,
                FAILED: entry.error,
                CANCELLED: RunCancelledError,
                DISCARDED: RunDiscardedError,
            }[entry.state or FAILED]
            self.expect(expected, lambda: run.result(0), entry.token)

    # What a child of a fork must find.

    def live_as_child(self, count: int) -> Iterator[str]:
        self.changed = threading.Condition()
        self.open = True
        inproc_jobs.configure(max_scheduled=PLENTY)
        for entry in self.entries.values():
            run = entry.run
            if run is None:
                continue
            if run.cancel():
                yield f"it has cancelled {run!r}"
            if not entry.final and run.done():
                yield f"it has ended {run!r}"
            try:
                if not run.wait(0.0) and not entry.final:
                    yield f"it may wait for {run!r}"
            except WrongProcessError:
                if entry.final:
                    yield f"it may not wait for {run!r}, which has ended"
        yield from (f"{name} does not start empty: {found}" for name, found in figures().items() if any(found.values()))
        if not inproc_jobs.drain(1.0):
            yield "it cannot drain"
        for number in range(count):
            own = [JOBS[name].perform_async(number) for name in sorted(JOBS)]
            own += [JOBS[name].perform_in(0.001, number) for name in sorted(JOBS)]
            yield from (f"it does not run {run!r}" for run in own if not run.wait(WAIT) or run.state is not SUCCEEDED)
        report = inproc_jobs.shutdown(WAIT)
        if report.discarded:
            yield f"it discards {report.discarded}"
        for name, found in figures().items():
            if found != {**dict.fromkeys(found, 0), "succeeded": 2 * count, "attempts": 2 * count}:
                yield f"{name} has miscounted: {found}"

    # What the model makes of it.

    def new(self, name: str, *, priority: int = 0, expires: int = 0, timeout: int = 0, retries: bool = False) -> Entry:
        entry = Entry(len(self.entries), name, retries=retries, priority=priority)
        self.offered = entry.token
        # No two moments ever meet: runs come due on the grid, and these are beside it.
        entry.expires_in = expires * HOUR + 50 if expires else None
        entry.timeout = timeout * HOUR + 20 if timeout else None
        self.entries[entry.token] = entry
        return entry

    def using(self, entry: Entry, **options: Any) -> Any:
        return JOBS[entry.job].using(
            priority=entry.priority,
            expires_in=entry.expires_in,
            timeout=entry.timeout,
            retry=Retry(attempts=ATTEMPTS, on=(Again,), jitter=False) if entry.retries else None,
            **options,
        )

    def verdict(self, kind: str, delay: int = 1) -> Verdict:
        return Verdict(kind, delay=self.free_moment(delay) - self.now if kind in ("later", "again") else 0.0)

    def free_moment(self, units: int) -> float:
        """Return a moment at which no other run comes due; now, if that is asked for."""
        if not units:
            return self.now
        moment = ((self.now + units * HOUR) // GRID + 1) * GRID
        while any(entry.due == moment for entry in self.entries.values()):
            moment += GRID
        return moment

    def accept(self, entry: Entry, call: Callable[[], Any], when_full: str) -> None:
        """Enqueue *entry* by *call*, and see that it is let in or meets what its ``when_full`` says."""
        line = self.lines[entry.job]
        if self.report is not None:
            self.refused(entry, call, ShutdownError)
            return
        retries = any(one.state is RETRYING for one in self.entries.values() if one.job == entry.job)
        if retries and self.pending() >= self.limit:
            self.refused(entry, call, ScheduleFullError)
        elif len(line) < MAX_QUEUE[entry.job]:
            self.admit(entry, QUEUED, call)
        elif when_full in ("raise", "block"):
            self.refused(entry, call, QueueFullError)
        elif when_full == "caller_runs":
            entry.here = True
            entry.verdict = self.verdict_here
            self.admit(entry, QUEUED, call)
        else:
            self.make_room(entry, when_full)
            self.admit(entry, entry.state or QUEUED, call)
        self.settle()

    def make_room(self, entry: Entry, when_full: str) -> None:
        line = self.lines[entry.job]
        lowest = min(one.priority for one in line)
        victim = next(one for one in line if one.priority == lowest)
        if when_full == "discard" or lowest > entry.priority:
            self.ends(entry, DISCARDED, "queue_full")
            return
        line.remove(victim)
        self.ends(victim, DISCARDED, "queue_full")

    def accept_later(self, entry: Entry, due: float, call: Callable[[], Any]) -> None:
        if self.report is not None:
            self.refused(entry, call, ShutdownError)
            return
        if self.pending() >= self.limit:
            self.refused(entry, call, ScheduleFullError)
            return
        entry.due = due
        self.admit(entry, SCHEDULED, call)
        if due <= self.now:
            self.comes_in(entry)
        self.settle()

    def pending(self) -> int:
        """Return how many runs wait for their time or their retry."""
        return sum(one.state in (SCHEDULED, RETRYING) for one in self.entries.values())

    def refused(self, entry: Entry, call: Callable[[], Any], kind: type[RejectedError]) -> None:
        tried[f"refused: {kind.__name__}"] += 1
        entry.state, entry.reason = DISCARDED, "shutdown" if kind is ShutdownError else "queue_full"
        self.counts[entry.job].rejected += 1
        self.expect(kind, call)
        self.settle()

    def admit(self, entry: Entry, state: RunState, call: Callable[[], Any] | None = None) -> None:
        if not entry.final:
            entry.state = state
            if state is QUEUED and not entry.here:
                self.comes_in(entry)
        if call is not None:
            entry.run = call()

    def comes_in(self, entry: Entry) -> None:
        """Put *entry* into the line of its job, behind those of its priority."""
        entry.on_its_way = entry.state in (SCHEDULED, RETRYING)
        entry.state = QUEUED
        if entry.attempt == 0:
            entry.expires = None if entry.expires_in is None else self.now + entry.expires_in
        line = self.lines[entry.job]
        line.append(entry)
        line.sort(key=lambda one: -one.priority)

    def ends(self, entry: Entry, state: RunState, reason: str | None = None) -> None:
        """Note how *entry* must have ended; its signal is to come."""
        entry.state, entry.reason = state, reason
        entry.alarm = None
        self.counts[entry.job].ended[state] += 1

    def give(self, entry: Entry, verdict: Verdict) -> None:
        entry.verdict = verdict
        with self.changed:
            self.verdicts[entry.token] = verdict
            self.changed.notify_all()

    def inside(self, outer: Entry, call: Callable[[], object]) -> Any:
        """Make *call* inside the job of *outer*, which then succeeds, and return what it returns."""
        self.give(outer, Verdict("call", call=call))
        with self.changed:
            if not self.changed.wait_for(lambda: outer.token in self.answers, WAIT):
                self.fail(f"{outer} hangs in its call")
            answer = self.answers.pop(outer.token)[0]
        if isinstance(answer, RejectedError):
            raise answer
        return answer

    def shut(self, call: Callable[[], inproc_jobs.ShutdownReport], caller: Entry | None = None) -> None:
        before = self.report
        left = [entry for entry in self.entries.values() if not entry.final and entry is not caller]
        report = call()
        if before is not None:
            self.check(report is before, "a second shutdown gives another report")
            self.settle()
            return
        self.report = report
        for entry in left:
            if entry.state is QUEUED:
                self.lines[entry.job].remove(entry)
            if entry.state is RUNNING:
                entry.stop = "shutdown"
            self.ends(entry, DISCARDED, "shutdown")
        if caller is not None:
            caller.alarm = None
        self.settle()
        self.check((report.finished, report.failed) == (0, 0), f"{report} says that something was finished")
        self.reports(left)

    def reports(self, left: list[Entry]) -> None:
        """See that the shutdown has named *left*, each once."""
        assert self.report is not None
        named = Counter(map(id, self.report.discarded))
        self.check(named == Counter(id(entry.run) for entry in left), f"{self.report} instead of {left}")

    def pass_time(self, moment: float) -> None:
        """Let what is due at *moment* come in, and see attempts overrun."""
        _modes.advance(_runtime.runtime(), moment - self.now)
        self.now = moment
        for entry in self.entries.values():
            if entry.state in (SCHEDULED, RETRYING) and entry.due <= moment:
                self.comes_in(entry)
        self.settle()

    def overdue(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.alarm is not None and entry.alarm <= self.now]

    def standing(self) -> list[Entry]:
        """Return those in the gate."""
        return [entry for entry in self.entries.values() if entry.inside]

    def left_for_later(self) -> bool:
        return any(entry.state in (SCHEDULED, RETRYING) for entry in self.entries.values())

    def one_standing(self, pick: int) -> Entry | None:
        """Choose one of those in the gate; where nobody is, send somebody in."""
        if not self.standing():
            self.enqueue_plainly(sorted(JOBS)[pick % len(JOBS)])
        return self.pick(pick, self.standing())

    @staticmethod
    def pick(number: int, candidates: list[Entry]) -> Entry | None:
        """Choose by a number drawn before, for what there is to choose from may be another each time."""
        return candidates[number % len(candidates)] if candidates else None

    # What the engine says.

    def settle(self) -> None:
        """Take what the engine says until it has no more to say, and see that the two agree."""
        deadline = time.monotonic() + WAIT
        while True:
            with self.changed:
                events, self.events = self.events, []
            for kind, token, run, detail in events:
                tried[kind] += 1
                self.check(token in self.entries, f"{kind} of {run!r}, which nobody has enqueued")
                self.hears(kind, self.entries[token], run, *(detail or (None, None)))
            missing = self.unstable()
            found = [] if missing else self.differences()
            with self.changed:
                if self.events:
                    continue
                if not missing and not found:
                    break
                if time.monotonic() > deadline:
                    self.fail("\n".join(found) or f"the engine does not go on: {missing}")
                # Counts follow their signals in a moment, and nothing says when.
                self.changed.wait(WAIT if missing else 0.001)
        for entry in self.entries.values():
            entry.on_its_way = False

    def unstable(self) -> list[Any]:
        """Return what must still happen."""
        waited_for = [
            entry
            for entry in self.entries.values()
            if entry.verdict is not None
            or (entry.state is RUNNING and not entry.inside)
            or (entry.inside and self.open)
            or (entry.state is not None and entry.closed < self.closings(entry))
        ]
        startable = [line for name, line in self.lines.items() if line and self.may_start(name)]
        return waited_for + startable + self.overdue()

    def closings(self, entry: Entry) -> int:
        refused = entry.final and entry.run is None and not entry.now
        return int(entry.final and not refused)

    def may_start(self, name: str) -> bool:
        """Return whether a worker must come for a run of this job."""
        return len(self.at_work(name)) < WORKERS[name] and self.busy_threads() < self.max_threads

    def at_work(self, name: str) -> list[Entry]:
        return [
            entry
            for entry in self.entries.values()
            if entry.job == name and not entry.here and not entry.overran and (entry.state is RUNNING or entry.inside)
        ]

    def busy_threads(self) -> int:
        return sum((entry.state is RUNNING or entry.inside) and not entry.here for entry in self.entries.values())

    def hears(self, kind: str, entry: Entry, run: Run[Any], detail: Any, delay: Any) -> None:
        where = f"{kind} of {entry}"
        if kind in CLOSING:
            self.hears_end(CLOSING[kind], entry, run, detail)
        elif kind == "enqueued":
            self.check(not entry.announced and entry.attempt == 0, where)
            entry.announced = True
            if entry.run is None:
                entry.run = run
        elif kind == "rejected":
            self.check(entry.final and run.done() and run.reason == entry.reason, where)
        elif kind == "started":
            self.hears_start(entry, run)
        elif kind == "entered":
            self.check(entry.state is RUNNING and not entry.inside, where)
            entry.inside = True
        elif kind == "left":
            self.check(entry.inside, where)
            entry.inside = False
            self.counts[entry.job].attempts += 1
            if entry.final:  # by a shutdown, which did not wait for it
                entry.verdict = None
        elif kind == "overran":
            self.check(entry in self.overdue() and not entry.overran, where)
            entry.overran, entry.alarm = True, None
            if entry.stop is None:
                entry.stop = "timeout"
        elif kind == "retried":
            self.hears_retry(entry, detail, delay)

    def hears_start(self, entry: Entry, run: Run[Any]) -> None:
        where = f"started: {entry}"
        self.check(entry.run is None or entry.run is run, f"{where} by another run, {run!r}")
        entry.run = run
        self.check(entry.announced or not self.listens, f"{where} before it was announced")
        self.check(entry.state is QUEUED, where)
        self.check(entry.expires is None or entry.attempt or self.now <= entry.expires, f"{where} past its time")
        if not entry.here:
            ahead = [one for one in self.lines[entry.job] if one is entry or not one.on_its_way]
            self.check(ahead.index(entry) < WORKERS[entry.job], f"{where} before {ahead[0]}")
            self.lines[entry.job].remove(entry)
            self.check(len(self.at_work(entry.job)) < WORKERS[entry.job], f"{where}, one too many of its job")
            self.check(self.busy_threads() < self.most_threads, f"{where}, one too many of all")
        entry.attempt += 1
        entry.state = RUNNING
        entry.overran = False
        entry.alarm = None if entry.timeout is None else self.now + entry.timeout
        self.check(run.attempt == entry.attempt, f"{where}, as attempt {run.attempt}")

    def hears_retry(self, entry: Entry, error: Any, delay: float) -> None:
        where = f"retried in {delay}: {entry}"
        verdict = entry.verdict
        self.check(entry.state is RUNNING and self.is_retried(entry), where)
        assert verdict is not None
        self.check(delay == verdict.delay and isinstance(error, Again | Retry.Later), where)
        entry.verdict = entry.stop = entry.alarm = None
        entry.error = type(error)
        entry.overran = entry.here = False
        entry.due = self.now + delay
        entry.state = RETRYING
        self.counts[entry.job].retried += 1
        if delay == 0:
            self.comes_in(entry)

    def is_retried(self, entry: Entry) -> bool:
        kind = entry.verdict.kind if entry.verdict is not None else ""
        asked = kind == "later" or (kind == "again" and entry.retries and entry.attempt < ATTEMPTS)
        return asked and not entry.now and entry.stop not in ("cancel", "shutdown")

    def hears_end(self, state: RunState, entry: Entry, run: Run[Any], detail: Any) -> None:
        where = f"{state}, {detail!r}: {entry}"
        entry.closed += 1
        self.check(entry.closed == 1, f"{where}, closed {entry.closed} times")
        if entry.final:
            self.check(state is entry.state, where)
        elif entry.state is QUEUED:
            expired = entry.expires is not None and self.now > entry.expires and entry.attempt == 0
            self.check(expired and (state, detail) == (DISCARDED, "expired"), where)
            self.lines[entry.job].remove(entry)
            self.ends(entry, DISCARDED, "expired")
        else:
            self.check(entry.state is RUNNING and not entry.inside, where)
            self.check(not self.is_retried(entry), f"{where} instead of another attempt")
            expected, what = self.outcome(entry)
            self.check(state is expected, f"{where} instead of {expected}")
            if expected is FAILED:
                self.check(type(detail) is what, f"{where} instead of {what}")
                entry.error = what
            self.ends(entry, expected, what if expected is DISCARDED else None)
            entry.verdict = None
        if state is DISCARDED:
            self.check(detail == entry.reason, f"{where} instead of {entry.reason}")

    def outcome(self, entry: Entry) -> tuple[RunState, Any]:
        """Return how an attempt must end, and its error or reason."""
        kind = entry.verdict.kind if entry.verdict is not None else "succeed"
        if kind in ("succeed", "call") or (kind == "checkpoint" and entry.stop is None):
            return SUCCEEDED, None
        if kind == "discard":
            return DISCARDED, "not\nwanted"
        if entry.stop == "cancel":
            return CANCELLED, None
        errors = {"fail": ValueError, "exit": SystemExit, "later": Retry.Later, "again": Again}
        return FAILED, errors.get(kind, RunTimeoutError)

    # Agreement.

    def differences(self) -> list[str]:
        found = [f"the log says {text}" for text in self.ear.unexpected]
        for entry in self.entries.values():
            found += self.differences_of(entry)
        for name, seen in figures().items():
            expected = self.expected(name)
            found += [
                f"{name}: {key} is {seen[key]}, not {expected[key]}" for key in seen if seen[key] != expected[key]
            ]
        return found

    def differences_of(self, entry: Entry) -> Iterator[str]:
        run = entry.run
        if run is None:
            return
        if (run.state, run.attempt, run.done()) != (entry.state, entry.attempt, entry.final):
            yield f"{run!r}, done: {run.done()}, instead of {entry}"
        if entry.final and run.args:
            yield f"{run!r} holds its arguments"
        if run.reason != (entry.reason if entry.state is DISCARDED else None):
            yield f"{run!r} has the reason {run.reason!r}, not {entry.reason!r}"
        error = type(run.error) if run.error is not None else None
        if error is not (entry.error if entry.state in (FAILED, RETRYING) else None):
            yield f"{run!r} has the error {run.error!r}, not {entry.error}"
        for level in (logging.ERROR, logging.WARNING):
            lines = self.ear.closing[run.id, level]
            if entry.final and entry.closed and lines != (LEVELS.get(entry.state or FAILED) == level):
                yield f"{run!r} has {lines} lines of level {level} in the log"

    def expected(self, name: str) -> dict[str, int]:
        mine = [entry for entry in self.entries.values() if entry.job == name]
        counts = self.counts[name]
        return {
            "workers": len(self.at_work(name)),
            "busy": len(self.at_work(name)),
            "idle": 0,
            "queued": len(self.lines[name]),
            "scheduled": sum(entry.state is SCHEDULED for entry in mine),
            "retrying": sum(entry.state is RETRYING for entry in mine),
            **{kind: counts.ended[state] for kind, state in CLOSING.items()},
            "retried": counts.retried,
            "rejected": counts.rejected,
            "attempts": counts.attempts,
        }

    def expect(self, kind: type[BaseException] | None, call: Callable[[], Any], value: Any = None) -> None:
        """See that *call* raises an error of *kind*, or returns *value*."""
        try:
            answer = call()
        except BaseException as error:
            if type(error) is not kind:
                self.broken = True
                raise
        else:
            self.check(kind is None and answer == value, f"it gives {answer!r} instead of {kind or value}")

    def check(self, right: object, what: str) -> None:
        if not right:
            self.fail(what)

    def fail(self, what: str) -> NoReturn:
        self.broken = True
        raise AssertionError(what)

    def teardown(self) -> None:
        try:
            if not self.broken:
                self.drain()
                tried["examples"] += 1
                tried["runs"] += len(self.entries)
        finally:
            self.passes = False
            self.open_gates()
            inproc_jobs.shutdown(0.0)
            self.cleanup.close()


def figures() -> dict[str, dict[str, int]]:
    """Return what stats() says of the jobs, with the attempts that were measured."""
    return {name: _figures(stats) for name, stats in inproc_jobs.stats().items() if name in JOBS}


def _figures(stats: Stats) -> dict[str, int]:
    found = {name: getattr(stats, name) for name in Stats.__slots__ if name not in ("wait", "run")}
    return {**found, "attempts": stats.run.count}


def forked(call: Callable[[], list[str]]) -> list[str]:
    """Return what *call* returns in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of 3.12 on: a fork beside threads, which is what is tested
        child = os.fork()
    if child == 0:
        try:
            try:
                said = call()
            except BaseException as error:
                said = [repr(error)]
            os.write(writing, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    tried["forks"] += 1
    with os.fdopen(reading, "rb") as pipe:
        if not select.select([pipe], [], [], 4 * WAIT)[0]:
            os.kill(child, signal.SIGKILL)
        said_bytes = pipe.read()
    os.waitpid(child, 0)
    return list(json.loads(said_bytes)) if said_bytes else ["it hangs, or has died"]


def search(examples: int, *, steps: int = 50, shrink: bool = True) -> None:
    """Let machines work; raise AssertionError for the first disagreement."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait for the engine so long at most, where it is known to be broken."""
    global WAIT
    before, WAIT = WAIT, seconds
    try:
        yield
    finally:
        WAIT = before


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    try:
        search(int(arguments[0]) if arguments else 1000)
    finally:
        print(f"{time.monotonic() - started:.1f} s: {dict(sorted(tried.items()))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
