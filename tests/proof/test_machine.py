"""Whatever is done to the public API, states, counts, signals and log are as the model has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import machine
import pytest

from inproc_jobs import _pid, _queue, _run, _runtime, _worker
from inproc_jobs.errors import InprocJobsError

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.timeout(3600 if LONG else 120)
def test_the_engine_agrees_with_the_model() -> None:
    """Enqueue, cancel, retry, delay, drain, shutdown, restart and fork in any order keep to what is promised."""
    machine.search(10_000 if LONG else 60, steps=60 if LONG else 40)


def a_cancel_that_does_not_count(patch: pytest.MonkeyPatch) -> None:
    count = _queue.JobQueue.count
    patch.setattr(_queue.JobQueue, "count", lambda self, outcome: outcome == "cancelled" or count(self, outcome))


def a_retry_that_loses_its_count(patch: pytest.MonkeyPatch) -> None:
    retry = _queue.JobQueue.retry

    def lose(self: Any, run: Any, error: Any, delay: float, tally: Any) -> bool:
        return retry(self, run, error, delay, self.new_tally())

    patch.setattr(_queue.JobQueue, "retry", lose)


def a_second_closing_signal(patch: pytest.MonkeyPatch) -> None:
    announce = _run.Run._announce

    def twice(self: Any) -> None:
        announce(self)
        if self.attempt > 1:
            announce(self)

    patch.setattr(_run.Run, "_announce", twice)


def a_priority_that_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_queue.JobQueue, "_level", lambda self, run: self._waiting)


def the_newest_is_discarded_instead_of_the_oldest(patch: pytest.MonkeyPatch) -> None:
    def newest(self: Any, priority: int, displaced: list[Any]) -> None:
        level = next(filter(None, reversed(self.levels)), self._waiting)
        if not level or level[0]._options.priority > priority:
            raise self.full_error()
        displaced.append(level.pop())

    patch.setattr(_queue.JobQueue, "_displace", newest)


def a_shutdown_that_forgets_delayed_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_queue.JobQueue, "delayed", lambda self: [])


def a_shutdown_that_forgets_the_running(patch: pytest.MonkeyPatch) -> None:
    sweep = _queue.JobQueue.sweep

    def forget(self: Any, me: int, discarded: Any) -> list[Any]:
        return [run for run in sweep(self, me, discarded) if not run.attempt]

    patch.setattr(_queue.JobQueue, "sweep", forget)


def a_restart_that_leaves_queues_closed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_queue.JobQueue, "reopen", lambda self: None)


def a_due_run_that_pushes_in(patch: pytest.MonkeyPatch) -> None:
    come_back = _queue.JobQueue.come_back

    def push_in(self: Any, run: Any) -> None:
        come_back(self, run)
        with self.mutex:
            level = self._level(run)
            if level and level[-1] is run:
                level.rotate()

    patch.setattr(_queue.JobQueue, "come_back", push_in)


def a_cancelled_run_that_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    retry = _queue.JobQueue.retry

    def again(self: Any, run: Any, error: Any, delay: float, tally: Any) -> bool:
        run._stop = None
        return retry(self, run, error, delay, tally)

    patch.setattr(_queue.JobQueue, "retry", again)


def an_expired_run_that_is_performed(patch: pytest.MonkeyPatch) -> None:
    ends = _worker.Worker._ends_unstarted
    patch.setattr(_worker.Worker, "_ends_unstarted", lambda self, run: run._stop is not None and ends(self, run))


def an_overrun_that_keeps_its_place(patch: pytest.MonkeyPatch) -> None:
    take_back = _queue.JobQueue._take_permit_back

    def keep(self: Any, worker: Any) -> None:
        if not worker.hand:
            take_back(self, worker)

    patch.setattr(_queue.JobQueue, "_take_permit_back", keep)


def a_child_that_may_wait_for_its_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_run.Run, "_check_process", lambda self: None)


def a_child_that_inherits_the_queues(patch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    class Kept(_pid.Asked):
        def __getitem__(self, _: int) -> int:
            return parent

    patch.setattr(_runtime.os, "getpid", lambda: parent)
    patch.setattr(_runtime, "here", Kept())
    patch.setattr(_queue, "here", Kept())


SOON: list[Plant] = [a_second_closing_signal, a_retry_that_loses_its_count, a_child_that_inherits_the_queues]
IN_TIME: list[Plant] = [
    a_cancel_that_does_not_count,
    a_restart_that_leaves_queues_closed,
    a_priority_that_does_not_matter,
    the_newest_is_discarded_instead_of_the_oldest,
    a_shutdown_that_forgets_delayed_runs,
    a_shutdown_that_forgets_the_running,
    a_due_run_that_pushes_in,
    a_cancelled_run_that_is_tried_again,
    an_expired_run_that_is_performed,
    an_overrun_that_keeps_its_place,
    a_child_that_may_wait_for_its_parent,
]


@pytest.mark.parametrize(
    "plant",
    [*SOON, *(pytest.param(plant, marks=pytest.mark.whole) for plant in IN_TIME)],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine finds what is wrong in each of these engines, so that its silence means something."""
    with monkeypatch.context() as patch, machine.patience(1.0):
        plant(patch)

        with pytest.raises((AssertionError, ExceptionGroup, machine.Flaky, InprocJobsError)):
            machine.search(1000, shrink=False)
