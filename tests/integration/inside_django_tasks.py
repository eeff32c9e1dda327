"""The tests of the backend of ``django.tasks``, which ``test_django_tasks.py`` runs in a process that has a Django site."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from gates import TIMEOUT, Gate

BACKEND = "inproc_jobs.django.tasks.InprocBackend"

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    TIME_ZONE=os.environ["TZ"],  # as Django itself sets it where the settings are a module
    INSTALLED_APPS=["inproc_jobs.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    TASKS={
        "default": {"BACKEND": BACKEND, "QUEUES": []},
        "second": {"BACKEND": BACKEND, "QUEUES": []},
        "immediate": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"},
    },
)
django.setup()

from django.core.checks import run_checks  # noqa: E402 - now that there are settings
from django.db import connection, transaction  # noqa: E402
from django.tasks import TaskResult, TaskResultStatus, task, task_backends  # noqa: E402
from django.tasks.exceptions import (  # noqa: E402
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)
from django.tasks.signals import task_enqueued, task_finished, task_started  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

import inproc_jobs  # noqa: E402
from inproc_jobs import Discard, Retry, current_run, signals  # noqa: E402
from inproc_jobs.django.tasks import MAX_ERRORS, InprocBackend, InprocTask  # noqa: E402
from inproc_jobs.errors import QueueFullError, ShutdownError  # noqa: E402

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
SUCCESSFUL, FAILED = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED

needs_task_class = pytest.mark.skipif(django.VERSION < (6, 1), reason="task_class came with Django 6.1")

asyncio.run(sync_to_async(id)(0))  # asgiref keeps the thread that this starts, whoever is first

gates: list[Gate] = []  # what the tasks of the running test stand in
seen: list[Any] = []  # what they tell it


@pytest.fixture(autouse=True)
def site(gate: Gate) -> Iterator[None]:
    gates[:] = [gate]
    seen.clear()
    yield
    connection.close()


@contextmanager
def options(*names: str, **given: Any) -> Iterator[InprocBackend]:
    """Have the default backend take these OPTIONS, and these QUEUES; without any, the one that Django gives it."""
    params = {"BACKEND": BACKEND, "OPTIONS": given} | ({"QUEUES": names} if names else {})
    with override_settings(TASKS={"default": params}):
        yield task_backends["default"]


@contextmanager
def connected(signal: Any, receiver: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@contextmanager
def happenings() -> Iterator[list[tuple[str, Any, TaskResult]]]:
    """Collect what the three signals say: name, sender, the result as of then."""
    told: list[tuple[str, Any, TaskResult]] = []
    named = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}

    def collector(name: str) -> Callable[..., None]:
        return lambda sender, task_result, **extra: told.append((name, sender, copy.copy(task_result)))

    collectors = {name: collector(name) for name in named}
    for name, signal in named.items():
        signal.connect(collectors[name], weak=False)
    try:
        yield told
    finally:
        for name, signal in named.items():
            signal.disconnect(collectors[name])


def finished(result: TaskResult) -> TaskResult:
    """Wait until nothing is left to do, and return *result* as it then is."""
    assert inproc_jobs.drain(TIMEOUT)
    result.refresh()
    return result


def kept(*arguments: object) -> int:
    """Return how many results with these arguments are in memory."""
    gc.collect()
    return sum(type(one) is TaskResult and one.args == list(arguments) for one in gc.get_objects())


@task
def give(value: Any = None) -> Any:
    return value


@task
async def give_later(value: Any = None) -> Any:
    await sync_to_async(id)(0)  # and so gives way
    return value


@task
def stand(word: str = "") -> str:
    seen.append(word)
    gates[0]()
    return word


@task(takes_context=True)
def spoil(context: Any) -> None:
    context.task_result.errors.append("the task's")


@task
def note(word: Any) -> None:
    seen.append(word)


@task
def fail(text: str = "broken") -> None:
    raise ValueError(text)


@task
def leave() -> None:
    raise SystemExit(3)


@task
def interrupt() -> None:
    raise KeyboardInterrupt


@task
def give_object() -> object:
    return object()


@task
def refuse() -> None:
    raise Discard("not today")


@task
def cancel_itself() -> None:
    current_run().cancel()
    current_run().checkpoint()


@task(takes_context=True)
def attempts(context: Any, until: int) -> list[Any]:
    seen.append((context.attempt, context.task_result.status))
    if context.attempt < until:
        raise OSError(f"attempt {context.attempt}")
    return [context.attempt, context.task_result.id]


@task(takes_context=True)
def postpone(context: Any, until: int) -> int:
    if context.attempt < until:
        raise Retry.Later(0)
    return context.attempt


@task
def take_from(words: list[str]) -> str:
    word = words.pop()
    if len(seen) < 1:
        seen.append(word)
        raise OSError
    return word


@task
def overrun() -> None:
    run = current_run()
    while True:
        run.checkpoint()
        threading.Event().wait(0.01)


@task
async def name_run() -> str:
    return current_run().id


AGAIN = Retry(attempts=2, on=(OSError,), backoff=0.0)


# The way in.


def test_a_task_is_performed_by_a_worker():
    """enqueue() returns; a worker's thread performs the task and its result has the value."""
    result = give.enqueue([1, {"two": 3}])

    assert finished(result).status is SUCCESSFUL
    assert result.return_value == [1, {"two": 3}]
    assert result.backend == "default"
    assert result.worker_ids[0].startswith(f"{os.getpid()}-")
    assert result.worker_ids[0] != f"{os.getpid()}-{threading.get_native_id()}"


def test_an_enqueued_task_is_ready(gate: Gate):
    """What waits for a worker is READY, with the time it was enqueued and nothing more."""
    with options(workers=1):
        stand.enqueue()
        gate.entered()
        before = timezone.now()

        result = give.enqueue(1)

        assert (result.status, result.args, result.worker_ids, result.errors) == (READY, [1], [], [])
        assert before <= result.enqueued_at <= timezone.now()
        assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
        with pytest.raises(ValueError, match="not finished"):
            result.return_value  # noqa: B018 - a property


def test_aenqueue_goes_to_no_other_thread(gate: Gate):
    """aenqueue() and what belongs to it act on the event loop's own thread, and wait for nobody."""
    threads = []

    async def enqueue() -> TaskResult:
        threads.append(threading.get_ident())
        result = await stand.aenqueue()
        before = set(threading.enumerate())
        for _ in range(100):
            await give.aenqueue()
            await task_backends["default"].aget_result(result.id)
            await result.arefresh()
        assert all(one.name.startswith("inproc_jobs") for one in set(threading.enumerate()) - before)
        return result

    with connected(task_enqueued, lambda **extra: threads.append(threading.get_ident())), options(workers=1):
        result = asyncio.run(enqueue())

    assert len(threads) == 102
    assert len(set(threads)) == 1
    assert result.status in (READY, RUNNING)


def test_aenqueue_lets_the_loop_go_on_while_it_waits_for_room(gate: Gate):
    """Where a full queue makes an enqueue wait, aenqueue() does that on another thread than the event loop's."""

    async def enqueue() -> int:
        await stand.aenqueue()
        gate.entered()
        await give.aenqueue()
        waiting = asyncio.ensure_future(give.aenqueue())
        beats = 0
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.01)
            beats += 1
        with pytest.raises(QueueFullError):
            waiting.result()
        return beats

    with options(workers=1, max_queue=1, when_full="block", block_timeout=0.3):
        assert asyncio.run(enqueue()) > 3


def test_aenqueue_has_the_caller_run_on_another_thread(gate: Gate):
    """With when_full="caller_runs" aenqueue() performs even a coroutine, and not on the event loop's thread."""

    async def enqueue() -> TaskResult:
        await stand.aenqueue()
        gate.entered()
        await give.aenqueue()
        return await give_later.aenqueue(3)

    with options(workers=1, max_queue=1, when_full="caller_runs"):
        assert asyncio.run(enqueue()).return_value == 3


def test_aenqueue_awaits_asynchronous_receivers():
    """An asynchronous receiver of task_enqueued is awaited on the loop that enqueues."""

    async def receive(sender: Any, task_result: TaskResult, **extra: Any) -> None:
        await sync_to_async(id)(0)  # and so gives way
        seen.append((task_result.id, threading.get_ident()))

    with connected(task_enqueued, receive):
        result = asyncio.run(give.aenqueue())

    assert seen == [(result.id, threading.get_ident())]
    assert finished(result).status is SUCCESSFUL


def test_asynchronous_tasks_are_tasks_like_others():
    """A coroutine function is run to its end by a worker, and is part of its run there."""
    assert finished(give_later.enqueue(4)).return_value == 4
    assert finished(name_run.enqueue()).return_value


@pytest.mark.parametrize(
    "later",
    [lambda: timedelta(seconds=0.2), lambda: timezone.now() + timedelta(seconds=0.2)],
    ids=["timedelta", "datetime"],
)
def test_run_after_defers(later: Callable[[], Any]):
    """A task with run_after, a timedelta or an aware datetime, is READY until then, and starts then."""
    before = timezone.now()

    result = give.using(run_after=later()).enqueue(1)

    assert inproc_jobs.stats()["tasks.default.default"].scheduled == 1
    assert result.status is READY
    assert timedelta(seconds=0.2) <= finished(result).started_at - before < timedelta(seconds=2)


def test_run_after_follows_the_time_zone_of_the_site_where_use_tz_is_off():
    """With USE_TZ=False all moments are naive ones of the site's own time zone, run_after among them."""
    with override_settings(USE_TZ=False):
        before = datetime.now()
        result = give.using(run_after=before + timedelta(seconds=0.2)).enqueue()

        assert before <= result.enqueued_at <= datetime.now()
        assert timedelta(seconds=0.2) <= finished(result).started_at - before < timedelta(seconds=2)
        assert result.started_at <= result.finished_at <= datetime.now()


@pytest.mark.parametrize("moment", [timedelta(days=-1), datetime(2001, 1, 1, tzinfo=UTC)], ids=repr)
def test_what_should_have_run_by_now_runs_at_once(moment: Any):
    """A run_after that has passed means at once."""
    assert finished(give.using(run_after=moment).enqueue()).status is SUCCESSFUL


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (datetime(2030, 1, 1), "aware datetime"),
        ("tomorrow", "must be a datetime or a timedelta, not 'tomorrow'"),
        (5, "must be a datetime or a timedelta, not 5"),
        (timedelta(days=40_000), "run_after must be from 0 seconds to"),
        (datetime(2999, 1, 1, tzinfo=UTC), "run_after must lie within a century"),
    ],
    ids=repr,
)
def test_a_wrong_run_after_is_an_invalid_task(moment: Any, message: str):
    """What is no moment of the near future is refused when the task is made, with what is wrong about it."""
    with pytest.raises(InvalidTask, match=message):
        give.using(run_after=moment)


def test_higher_priorities_come_first(gate: Gate):
    """Of the tasks that wait, the one with the highest priority starts first; equals in the order they came in."""
    with options(workers=1):
        stand.enqueue("first")
        gate.entered()
        for priority in (-100, 0, 100, 0, 5.0):
            note.using(priority=priority).enqueue(priority)
        gate.open()
        assert inproc_jobs.drain(TIMEOUT)

    assert seen == ["first", 100, 5.0, 0, 0, -100]


def test_arguments_that_are_not_json_are_the_callers_error():
    """They raise at the enqueue, and nothing is accepted."""
    with options() as backend, happenings() as told:
        for arguments in ([object()], [b"\xff"]):
            with pytest.raises((TypeError, ValueError), match="Unsupported"):
                backend.enqueue(give, arguments, {})

        assert told == []
        assert inproc_jobs.stats()["tasks.default.default"].queued == 0


def test_arguments_that_do_not_fit_are_the_tasks_failure():
    """As with Django's own backends, the task fails when it is called."""
    assert finished(give.enqueue(1, 2, 3)).errors[0].exception_class is TypeError


def test_a_full_queue_raises_and_leaves_no_result(gate: Gate):
    """What was not accepted is announced to nobody and remembered by nobody."""
    with options(workers=1, max_queue=1):
        stand.enqueue()
        gate.entered()
        give.enqueue("accepted")

        with happenings() as told, pytest.raises(QueueFullError, match="max_queue=1"):
            give.enqueue("refused")

        assert told == []
        assert inproc_jobs.stats()["tasks.default.default"].rejected == 1
        assert kept("accepted") > 0
        assert kept("refused") == 0


def test_what_a_full_queue_discards_has_failed_at_once(gate: Gate):
    """With when_full="discard" the result is there and says why."""
    with options(workers=1, max_queue=1, when_full="discard"):
        stand.enqueue()
        gate.entered()
        give.enqueue()

        result = give.enqueue()

        assert result.status is FAILED
        assert result.errors[0].traceback.endswith("was discarded: queue_full\n")


# The result.


def test_the_life_of_a_result(gate: Gate):
    """READY, then RUNNING with its worker and its start, then SUCCESSFUL with its end and its value."""
    result = stand.enqueue("said")
    gate.entered()

    result.refresh()
    assert (result.status, result.is_finished, result.attempts, len(result.worker_ids)) == (RUNNING, False, 1, 1)
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= timezone.now()
    assert result.finished_at is None

    gate.open()
    assert finished(result).status is SUCCESSFUL
    assert result.started_at <= result.finished_at <= timezone.now()
    assert (result.return_value, result.errors, result.attempts) == ("said", [], 1)
    assert asyncio.run(stand.aget_result(result.id)) == stand.get_result(result.id) == result


def test_a_retry_is_ready_again_and_keeps_its_errors():
    """Between two attempts a task is READY; each attempt has its worker, and each failed one its error."""
    between = []

    def look(sender: Any, run: Any, **extra: Any) -> None:
        between.append(task_backends["default"].get_result(run.args[0].result.id))

    with options(retry=AGAIN), signals.job_retried.connected_to(look):
        result = finished(attempts.enqueue(2))

    assert (between[0].status, between[0].attempts, between[0].finished_at) == (READY, 1, None)
    assert between[0].errors == result.errors
    assert (result.status, result.return_value) == (SUCCESSFUL, [2, result.id])
    assert result.attempts == len(result.worker_ids) == 2
    assert [error.exception_class for error in result.errors] == [OSError]
    assert result.started_at == between[0].started_at < result.last_attempted_at < result.finished_at
    assert seen == [(1, RUNNING), (2, RUNNING)]


def test_the_last_attempt_may_fail():
    """When no attempt is left the task is FAILED with the error of each."""
    with options(retry=AGAIN):
        result = finished(attempts.enqueue(3))

    assert result.status is FAILED
    assert [error.traceback.splitlines()[-1] for error in result.errors] == [
        "OSError: attempt 1",
        "OSError: attempt 2",
    ]


@pytest.mark.parametrize(("task", "error"), [(leave, SystemExit), (interrupt, KeyboardInterrupt), (fail, ValueError)])
def test_whatever_a_task_raises_is_its_failure(task: Any, error: type[BaseException]):
    """SystemExit and KeyboardInterrupt too; the worker goes on."""
    with options(workers=1):
        result = finished(task.enqueue())

        assert result.status is FAILED
        assert [one.exception_class for one in result.errors] == [error]
        assert result.errors[0].traceback.startswith("Traceback (most recent call last):\n")
        with pytest.raises(ValueError, match="Task failed"):
            result.return_value  # noqa: B018 - a property
        assert finished(give.enqueue()).status is SUCCESSFUL


def test_a_value_that_is_not_json_is_a_failure():
    """What a task returns has to be JSON, as its arguments have."""
    assert finished(give_object.enqueue()).errors[0].exception_class is TypeError


def test_finished_results_are_bounded_by_number(gate: Gate):
    """The oldest finished ones are forgotten first; one that is not finished is kept however many there are."""
    with options(workers=1, max_results=3):
        results = [give.enqueue(number) for number in range(5)]
        assert inproc_jobs.drain(TIMEOUT)
        unfinished = [stand.enqueue() for _ in range(5)]
        gate.entered()

        for result in results[:2]:
            with pytest.raises(TaskResultDoesNotExist):
                result.refresh()
        for result in (*results[2:], *unfinished):
            result.refresh()


def test_finished_results_are_bounded_by_age(gate: Gate):
    """A result is forgotten when it is older than result_age; age counts from the end."""
    with options(result_age=0.0):
        result = stand.enqueue()
        gate.entered()
        result.refresh()
        gate.open()
        assert inproc_jobs.drain(TIMEOUT)

        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()


def test_results_may_not_be_kept_at_all():
    """With max_results=0 a task is performed, and nothing of it is left."""
    with options(max_results=0):
        note.enqueue("not kept")
        assert inproc_jobs.drain(TIMEOUT)

        assert seen == ["not kept"]
        assert kept("not kept") == 0


def test_results_are_there_for_all_threads():
    """Each thread has a backend object of its own, and all see the same results."""
    result = finished(give.enqueue(1))
    found = []

    def look() -> None:
        found.append((task_backends["default"], task_backends["default"].get_result(result.id)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(TIMEOUT)

    assert found[0][0] is not task_backends["default"]
    assert found[0][1] == result


def test_a_result_that_is_not_there():
    """Asking for what nobody enqueued here, or for another task's, raises what Django says it does."""
    result = finished(give.enqueue())

    with pytest.raises(TaskResultDoesNotExist):
        give.get_result("nobody's")
    with pytest.raises(TaskResultDoesNotExist):
        asyncio.run(give.aget_result("nobody's"))
    with pytest.raises(TaskResultMismatch):
        fail.get_result(result.id)


def test_results_are_snapshots(gate: Gate):
    """What a caller does to a result changes no other one."""
    result = stand.enqueue()
    gate.entered()
    result.refresh()
    result.worker_ids.clear()
    result.errors.append("mine")

    assert len(stand.get_result(result.id).worker_ids) == 1
    assert stand.get_result(result.id).errors == []


def test_the_result_that_enqueue_returns_is_a_snapshot(gate: Gate):
    """Also where the task has begun, or is over, by then."""
    with options(workers=1, max_queue=1, when_full="caller_runs"):
        stand.enqueue()
        gate.entered()
        give.enqueue()
        result = give.enqueue(3)
        result.worker_ids.clear()
        result.errors.append("mine")

        assert result.status is SUCCESSFUL
        assert len(give.get_result(result.id).worker_ids) == 1
        assert give.get_result(result.id).errors == []


def test_a_receiver_and_a_task_are_given_snapshots():
    """What they do to their result changes no other one."""

    def receive(sender: Any, task_result: TaskResult, **extra: Any) -> None:
        task_result.errors.append("mine")

    with connected(task_enqueued, receive), connected(task_started, receive), connected(task_finished, receive):
        result = finished(spoil.enqueue())

    assert result.status is SUCCESSFUL
    assert result.errors == []


def test_no_snapshot_is_half_written():
    """A result that says it is finished has its end and its outcome, whenever one looks."""
    with options(workers=2) as backend:
        results = [(give if number % 2 else fail).enqueue("x") for number in range(100)]
        for result in results:
            while True:
                taken = backend.get_result(result.id)
                assert (taken.status is READY) == (taken.started_at is None) == (not taken.worker_ids)
                if taken.is_finished:
                    break
            assert taken.finished_at is not None
            assert [taken._return_value, len(taken.errors)] == (["x", 0] if taken.status is SUCCESSFUL else [None, 1])


def test_each_attempt_gets_the_arguments_as_enqueued():
    """What an attempt does to its arguments is not there at the next one, nor in the result."""
    with options(retry=AGAIN):
        result = finished(take_from.enqueue(["first", "last"]))

    assert (seen, result.return_value, result.args) == (["last"], "last", [["first", "last"]])


def test_a_result_keeps_no_frames():
    """The locals of a task that has failed are let go of while its result is kept."""

    class Local:
        pass

    watched = []

    def act() -> None:
        local = Local()
        watched.append(weakref.ref(local))
        raise ValueError

    seen.append(act)
    logging.disable()  # what handlers make of a record is theirs
    gc.disable()
    try:
        result = finished(call_seen.enqueue())

        assert result.status is FAILED
        assert watched[0]() is None
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


@task
def call_seen() -> None:
    seen[0]()


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NamedStrangely(Exception):
    __module__ = None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SilentError(), "SilentError: <its text cannot be shown: str() raised>"),
        (NamedStrangely("x"), "NamedStrangely: x"),
        (ValueError("a\nERROR forged\x1b[0m\u2028"), r"ValueError: a\nERROR forged\x1b[0m\u2028"),
        (ValueError("\U0001f600" * 5_000_000), "ValueError: \U0001f600"),
    ],
    ids=["silent", "strange", "forging", "long"],
)
def test_hostile_errors_are_kept_short_and_harmless(error: BaseException, said: str):
    """Whatever the text of an error is or does, the result is FAILED, and what it keeps is one short last line."""

    def act() -> None:
        raise error

    seen.append(act)
    logging.disable()  # Django's own log line has the text as it is
    try:
        result = finished(call_seen.enqueue())
    finally:
        logging.disable(logging.NOTSET)

    assert result.status is FAILED
    assert result.errors[0].traceback.splitlines()[-1].startswith(said)
    assert len(result.errors[0].traceback) < 10_000


def test_errors_of_endless_retries_are_bounded():
    """A result keeps its newest errors, and counts all attempts."""
    with options(retry=lambda attempt, error: 0.0 if attempt < 50 else None):
        result = finished(attempts.enqueue(100))

    assert result.attempts == 50
    assert len(result.errors) == MAX_ERRORS
    assert result.errors[-1].traceback.endswith("OSError: attempt 50\n")


# Context, queues, options.


def test_queues_have_workers_of_their_own(gate: Gate):
    """A queue has as many workers as OPTIONS says, or says of all queues; a busy one holds up no other."""
    with options("default", "mail", workers=3, queues={"mail": {"workers": 1}}):
        for _ in range(4):
            stand.enqueue("default")
            stand.using(queue_name="mail").enqueue("mail")
        gate.entered(4)
        stats = inproc_jobs.stats()
        gate.open()

        assert sorted(seen[:4]) == ["default"] * 3 + ["mail"]
        assert (stats["tasks.default.default"].busy, stats["tasks.default.mail"].busy) == (3, 1)


def test_threads_that_enqueue_first_share_one_queue():
    """Where QUEUES allows any name, the first enqueues of many threads make one queue of it."""
    together = threading.Barrier(8)
    results = []

    def enqueue() -> None:
        together.wait(TIMEOUT)
        results.append(give.using(queue_name="new").enqueue())

    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "QUEUES": []}}):
        threads = [threading.Thread(target=enqueue) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)

        assert {finished(result).status for result in results} == {SUCCESSFUL}
        assert inproc_jobs.stats()["tasks.default.new"].succeeded == 8


def test_a_retry_that_was_asked_for_is_no_error():
    """Retry.Later tries again, with or without a policy, and leaves no error behind."""
    result = finished(postpone.enqueue(3))

    assert (result.return_value, result.errors) == (3, [])


@pytest.mark.parametrize(
    ("task", "given", "why"),
    [
        (refuse, {}, "RunDiscardedError: <Run .*> was discarded: not today"),
        (refuse, {"retry": AGAIN}, "RunDiscardedError: <Run .*> was discarded: not today"),
        (cancel_itself, {}, "RunCancelledError: <Run .*> was cancelled"),
        (overrun, {"timeout": 0.05}, "RunTimeoutError: <Run .*> is past its timeout of 0.05 s"),
    ],
    ids=["Discard", "Discard with a retry", "cancelled", "timeout"],
)
def test_a_task_that_ends_otherwise_has_failed_and_says_why(task: Any, given: dict[str, Any], why: str):
    """Discarded, cancelled, timed out: the result is FAILED, and its error names it."""
    with options(**given):
        result = finished(task.enqueue())

    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 1, 1)
    assert re.fullmatch(why, result.errors[0].traceback.splitlines()[-1])


def test_a_task_that_starts_too_late_has_failed(gate: Gate):
    """One that has waited for longer than expires_in is never started, and its result says so."""
    inproc_jobs.configure(max_threads=1)
    try:
        with options("default", "urgent", queues={"urgent": {"expires_in": 0.01}}):
            stand.enqueue()
            gate.entered()
            result = give.using(queue_name="urgent").enqueue()
            threading.Event().wait(0.02)
            gate.open()

            assert finished(result).status is FAILED
            assert (result.attempts, result.started_at) == (0, None)
            assert result.errors[0].traceback.endswith("was discarded: expired\n")
    finally:
        inproc_jobs.configure(max_threads=32)


@needs_task_class
def test_a_task_may_have_options_of_its_own():
    """retry, timeout and expires_in of @task and using() go before those of the queue."""
    with options(retry=AGAIN):
        tries = [
            finished(attempts.enqueue(9)),
            finished(attempts.using(retry=Retry(attempts=4, backoff=0.0)).enqueue(9)),
            finished(attempts_thrice.enqueue(9)),
            finished(attempts_thrice.using(priority=1, timeout=60).enqueue(9)),
        ]
        assert [result.attempts for result in tries] == [2, 4, 3, 3]
        late = overrun.using(timeout=timedelta(seconds=0.05))
        assert finished(late.enqueue()).errors[0].exception_class is inproc_jobs.errors.RunTimeoutError
        assert late.using(timeout=None).timeout is None


@dataclass
class Policy:
    """A policy of a user's, which has no hash."""

    attempts: int

    def __call__(self, attempt: int, error: BaseException) -> float | None:
        return 0.0 if attempt < self.attempts else None


if django.VERSION >= (6, 1):

    @task(retry=Policy(3), takes_context=True)
    def attempts_thrice(context: Any, until: int) -> int:
        if context.attempt < until:
            raise OSError
        return context.attempt


@needs_task_class
def test_options_of_a_task_survive_pickling():
    """A task is a value: unpickled it has its options still."""
    task = pickle.loads(pickle.dumps(give.using(timeout=5, expires_in=6)))

    assert (type(task), task.timeout, task.expires_in) == (InprocTask, 5, 6)


@needs_task_class
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"retry": 3}, "retry must be a Retry"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"timeout": True}, "timeout must be a number"),
        ({"expires_in": "soon"}, "expires_in must be a number"),
        ({"enqueue_on_commit": 1}, "enqueue_on_commit must be True or False, not 1"),
    ],
    ids=repr,
)
def test_wrong_options_of_a_task_are_an_invalid_task(given: dict[str, Any], message: str):
    """They are refused when the task is made, one after the other right one, too."""
    give.using(timeout=1, enqueue_on_commit=True)

    with pytest.raises(InvalidTask, match=message):
        give.using(**given)


def test_tasks_of_another_backends_class_are_performed_too():
    """A task that was made for Django's immediate backend may be enqueued here, and the other way round."""
    assert finished(plain.using(backend="default").enqueue(5)).return_value == 5
    assert give.using(backend="immediate").enqueue(6).return_value == 6


@task(backend="immediate")
def plain(value: Any) -> Any:
    return value


def test_a_task_on_two_aliases_is_two():
    """The backends of two aliases share nothing: each has its queues and its results."""
    first = give.enqueue(1)
    second = give.using(backend="second").enqueue(2)

    assert (finished(first).return_value, finished(second).return_value) == (1, 2)
    assert (first.backend, second.backend) == ("default", "second")
    with pytest.raises(TaskResultDoesNotExist):
        give.get_result(second.id)
    counts = inproc_jobs.stats()
    assert (counts["tasks.default.default"].succeeded, counts["tasks.second.default"].succeeded) == (1, 1)


# Transactions.


def test_a_task_enqueued_in_a_transaction_runs_at_once():
    """Unless told otherwise, as with Django's own backends."""
    with transaction.atomic():
        assert finished(give.enqueue()).status is SUCCESSFUL


def test_with_enqueue_on_commit_a_task_waits_for_the_commit():
    """Until then nothing is announced and there is no result; its time is that of the commit."""
    with options(enqueue_on_commit=True), happenings() as told:
        with transaction.atomic():
            result = give.enqueue(1)
            assert (result.status, result.enqueued_at, told) == (READY, None, [])
            with pytest.raises(TaskResultDoesNotExist):
                result.refresh()
            before = timezone.now()

        assert finished(result).return_value == 1
        assert before <= result.enqueued_at
        assert finished(give.enqueue(2)).return_value == 2


def test_with_enqueue_on_commit_a_rollback_leaves_nothing():
    """After it the task was never enqueued: no run, no signal, no result."""
    with options(enqueue_on_commit=True), happenings() as told:
        with transaction.atomic():
            give.enqueue("rolled back")
            give.using(run_after=timedelta(0)).enqueue("rolled back")
            transaction.set_rollback(True)

        assert inproc_jobs.drain(TIMEOUT)
        assert told == []
        assert kept("rolled back") == 0
        assert inproc_jobs.stats()["tasks.default.default"].succeeded == 0


def test_with_enqueue_on_commit_aenqueue_waits_for_the_commit_too():
    """Called from inside a transaction by way of async_to_sync, the task belongs to that transaction."""
    with options(enqueue_on_commit=True):
        with transaction.atomic():
            result = async_to_sync(give.aenqueue)(1)
            assert result.enqueued_at is None

        assert finished(result).return_value == 1


@needs_task_class
def test_a_task_may_wait_for_the_commit_by_itself():
    """enqueue_on_commit of a task goes before that of its backend."""
    with options(enqueue_on_commit=False), transaction.atomic():
        assert give.using(enqueue_on_commit=True).enqueue().enqueued_at is None
        assert give.using(enqueue_on_commit=False).enqueue().enqueued_at is not None
    with options(enqueue_on_commit=True), transaction.atomic():
        assert give.using(enqueue_on_commit=False).enqueue().enqueued_at is not None


# Signals and logs.


def test_signals_tell_the_life_of_a_task():
    """Enqueued, started with each attempt, finished: sent by the backend's class, each with the result as of then."""
    with options(retry=AGAIN), happenings() as told:
        result = finished(attempts.enqueue(2))

    assert {(sender, one.id) for _, sender, one in told} == {(InprocBackend, result.id)}
    assert [(name, one.status, one.attempts) for name, _, one in told] == [
        ("enqueued", READY, 0),
        ("started", RUNNING, 1),
        ("started", RUNNING, 2),
        ("finished", SUCCESSFUL, 2),
    ]
    assert told[-1][2] == result


def test_the_sender_is_the_backends_own_class():
    """A class derived from ours sends as itself."""
    with override_settings(TASKS={"default": {"BACKEND": f"{__name__}.Derived"}}), happenings() as told:
        finished(give.enqueue())

    assert [sender for _, sender, _ in told] == [Derived] * 3


class Derived(InprocBackend):
    pass


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize(
    "signal", [task_enqueued, task_started, task_finished], ids=["enqueued", "started", "finished"]
)
def test_a_receiver_that_raises_harms_nobody(signal: Any, error: type[BaseException]):
    """Whatever a receiver raises, the task is enqueued, performed and finished."""

    def receive(**extra: Any) -> None:
        seen.append("called")
        raise error

    logging.disable()
    try:
        with connected(signal, receive), options(workers=1):
            assert finished(give.enqueue(1)).return_value == 1
            assert finished(give.enqueue(2)).return_value == 2
    finally:
        logging.disable(logging.NOTSET)
    assert seen == ["called", "called"]


class Records(logging.Handler):
    """What the loggers of Django and of this package write, each as its level, its message and its error."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        message = re.sub("id=[0-9A-Za-z]+ ", "id=... ", record.getMessage())
        self.lines.append((record.name, record.levelname, message, repr(error)))

    def __enter__(self) -> list[tuple[str, str, str, str]]:
        for name in ("django.tasks", "inproc_jobs"):
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).setLevel(logging.DEBUG)
        return self.lines

    def __exit__(self, *_: object) -> None:
        for name in ("django.tasks", "inproc_jobs"):
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("task", [give, give_later, fail, leave, give_object, attempts], ids=lambda one: one.name)
def test_the_log_is_that_of_the_immediate_backend(task: Any):
    """Django's own lines, with the traceback where a task has failed, and none of ours beside them."""
    arguments = [9] if task is attempts else []
    with Records() as theirs:
        task.using(backend="immediate").enqueue(*arguments)
    with Records() as ours:
        assert inproc_jobs.drain(TIMEOUT)
        finished(task.enqueue(*arguments))

    assert ours == [(*line[:2], line[2].replace("immediate", "default"), line[3]) for line in theirs]
    assert len(ours) == 3


def test_the_log_says_why_a_task_was_discarded():
    """Django's line of a task that was discarded names the reason, and the run by which our line knows it."""
    with Records() as lines:
        result = finished(refuse.enqueue())

    run = re.search("<Run [^>]*>", result.errors[0].traceback)[0]
    assert [line for line in lines if line[1] in ("ERROR", "WARNING")] == [
        ("django.tasks", "ERROR", f"Task id=... path={__name__}.refuse state=FAILED", ANY_ERROR),
        ("inproc_jobs.run", "WARNING", f"{run}: not today", "None"),
    ]


class _AnyError(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith("RunDiscardedError(")


ANY_ERROR = _AnyError()


# The end.


def test_a_shutdown_fails_what_it_discards(gate: Gate):
    """The result of what could not be finished is FAILED and names the shutdown; then nothing more is accepted."""
    logging.disable()
    try:
        with options(workers=1, max_queue=5), happenings() as told:
            at_work = stand.enqueue()
            gate.entered()
            left = [give.enqueue(), give.using(run_after=timedelta(hours=1)).enqueue()]

            report = inproc_jobs.shutdown(timeout=0.1)

            assert len(report.discarded) == 3
            for result in (at_work, *left):
                result.refresh()
                assert result.status is FAILED
                assert result.finished_at is not None
                assert result.errors[-1].traceback.endswith("was discarded: shutdown\n")
            assert [name for name, _, _ in told].count("finished") == 3
            with pytest.raises(ShutdownError):
                give.enqueue()

            gate.open()
            inproc_jobs.restart()
            assert finished(give.enqueue(1)).return_value == 1
            assert finished(at_work).status is FAILED
    finally:
        logging.disable(logging.NOTSET)


def test_a_shutdown_leaves_no_result_open():
    """Whatever a worker is about to begin, to repeat or to end when the shutdown strikes: each result is final."""
    logging.disable()
    try:
        with options(workers=4, retry=lambda attempt, error: 0.0, when_full="block", max_results=100_000):
            for _ in range(20):
                results = enqueue_until_shutdown()

                assert all(attempts.get_result(one.id).is_finished for one in results)
                inproc_jobs.restart()
    finally:
        logging.disable(logging.NOTSET)


def enqueue_until_shutdown() -> list[TaskResult]:
    results = []
    begun = threading.Semaphore(0)

    def enqueue() -> None:
        with suppress(ShutdownError):
            while True:
                results.append(attempts.enqueue(2))
                begun.release()

    threads = [threading.Thread(target=enqueue) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert begun.acquire(timeout=TIMEOUT)
    inproc_jobs.shutdown(timeout=0)
    for thread in threads:
        thread.join(TIMEOUT)
    return results


# Settings.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "TASKS['default']['OPTIONS'] must be a dict, not None"),
        ({"worker": 1}, "unknown option 'worker'; there are workers, max_queue,"),
        ({"priority": 1}, "unknown option 'priority'"),
        ({"workers": 0}, "workers must be from 1 to 10000, not 0"),
        ({"workers": True}, "workers must be an integer"),
        ({"max_queue": 1.5}, "max_queue must be an integer"),
        ({"when_full": "wait"}, "when_full must be one of 'raise', 'block'"),
        ({"block_timeout": -1}, "block_timeout must be from 0"),
        ({"retry": Retry}, "retry must be a Retry(...), a callable"),
        ({"timeout": "1"}, "timeout must be a number of seconds"),
        ({"interruptible": 1}, "interruptible must be True or False, not 1"),
        ({"expires_in": 0}, "expires_in must be more than 0 seconds"),
        ({"database": 1}, "database must be the alias"),
        ({"queues": ["mail"]}, "queues must be a dict, not ['mail']"),
        ({"queues": {"default": 3}}, "queues['default'] must be a dict, not 3"),
        ({"queues": {"default": {"workers": 0}}}, "['queues']['default']: workers must be from 1 to 10000"),
        ({"queues": {"default": {"max_results": 1}}}, "['queues']['default']: unknown option 'max_results'"),
        ({"queues": {"mail": {}}}, "queues names 'mail', which is none of QUEUES, ['default']"),
        ({"enqueue_on_commit": 1}, "enqueue_on_commit must be True or False, not 1"),
        ({"max_results": -1}, "max_results must be an integer of at least 0, not -1"),
        ({"max_results": None}, "max_results must be an integer of at least 0, not None"),
        ({"result_age": None}, "result_age must be a number of seconds or a timedelta, not None"),
    ],
    ids=repr,
)
def test_wrong_options_are_refused(given: Any, message: str):
    """The backend is not made, and the error names the setting, the option and what is allowed."""
    tasks = {"default": {"BACKEND": BACKEND, "OPTIONS": given}}

    with override_settings(TASKS=tasks), pytest.raises(InvalidTaskBackend) as refused:
        give.enqueue()

    assert str(refused.value).startswith("TASKS['default']['OPTIONS']")
    assert message in str(refused.value)


def test_every_option_is_taken():
    """All that the docstring names, at once."""
    with options(
        "default",
        "mail",
        workers=1,
        max_queue=5,
        when_full="block",
        block_timeout=timedelta(seconds=1),
        retry=AGAIN,
        timeout=30,
        interruptible=True,
        expires_in=60,
        database="default",
        queues={"mail": {"workers": 3, "timeout": None}},
        enqueue_on_commit=True,
        max_results=10,
        result_age=timedelta(minutes=5),
    ):
        assert finished(give.enqueue(1)).return_value == 1


def test_settings_that_change_leave_nothing_behind():
    """After 100 other TASKS there are no more threads than one of them needs, and the job classes of none."""

    def classes() -> int:
        gc.collect()
        return sum(issubclass(type(one), type) and one.__qualname__ == "Tasks" for one in gc.get_objects())

    before = classes()
    for number in range(100):
        with options(workers=2, max_results=number + 1):
            result = give.enqueue(number)
            assert finished(result).return_value == number
    assert sum(thread.name.startswith("inproc_jobs") for thread in threading.enumerate()) <= 6
    assert classes() <= before + 2
    inproc_jobs.shutdown(timeout=TIMEOUT)  # and the check after each test finds no thread


def test_the_check_asks_for_the_app():
    """Without the app connections would not be closed: a check says to install it."""
    assert not [message for message in run_checks() if message.id == "inproc_jobs.E004"]
    with override_settings(INSTALLED_APPS=[]):
        first, second = (message for message in run_checks() if message.id == "inproc_jobs.E004")

    assert first.msg == "TASKS['default'] uses InprocBackend, and its app is not installed"
    assert second.msg == "TASKS['second'] uses InprocBackend, and its app is not installed"
    assert first.hint == 'Add "inproc_jobs.django" to INSTALLED_APPS.'


def test_queues_are_checked_as_job_classes_are():
    """More workers than threads, and a database that there is none of, are found before a task is enqueued."""
    with options("default", "mail", queues={"mail": {"workers": 50, "database": "nowhere"}}) as backend:
        assert backend.check() == []
        found = {message.id: message.msg for message in run_checks(tags=["inproc_jobs"])}

    assert found["inproc_jobs.W003"].startswith("tasks.default.mail: workers=50")
    assert found["inproc_jobs.E003"].startswith("tasks.default.mail: database='nowhere'")
