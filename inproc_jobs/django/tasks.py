"""The backend of ``django.tasks``: each of its queues is a job class, each task's result is kept in memory.

    TASKS = {"default": {"BACKEND": "inproc_jobs.django.tasks.InprocBackend", "OPTIONS": {"workers": 4}}}

Django makes a backend object for each thread and drops it with the thread. What must last, the job classes and the
results, therefore belongs to the process, and is found by the alias.
"""

from __future__ import annotations

import copy
import os
import secrets
import threading
import time
import types
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.signals import setting_changed
from django.utils import timezone
from django.utils.json import normalize_json

try:
    from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskError
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError as error:
    raise ImportError("inproc_jobs.django.tasks needs django.tasks, which came with Django 6.0") from error

from .. import _clock, _report, _runtime
from .._job import Job
from .._options import OPTIONS, Options, merged
from .._retry import RetryPolicy
from .._run import DISCARDED, FAILED, SUCCEEDED, Run
from ..errors import RunCancelledError, RunDiscardedError

MAX_RESULTS = 1_000
RESULT_AGE = 3600.0  # seconds

_PER_TASK = ("retry", "timeout", "expires_in")
_PER_QUEUE = tuple(name for name in OPTIONS if name not in ("priority", "on_commit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InprocTask(Task):
    """A task with options of this package's: ``@task(retry=Retry(on=(OSError,)), timeout=30)``, from Django 6.1 on.

    Attributes:
        retry: as of ``Job``; None means the queue's.
        timeout: seconds; as of ``Job``; None means the queue's.
        expires_in: seconds; as of ``Job``; None means the queue's.
        enqueue_on_commit: whether it is enqueued when the caller's transaction commits; None means the backend's.
    """

    retry: RetryPolicy | None = None
    timeout: float | timedelta | None = None
    expires_in: float | timedelta | None = None
    enqueue_on_commit: bool | None = None

    def using(self, **changes: Any) -> InprocTask:
        """Return the task with other options: Django's and the four above."""
        ours = {name: changes.pop(name) for name in (*_PER_TASK, "enqueue_on_commit") if name in changes}
        task: InprocTask = Task.using(self, **changes)
        return replace(task, **ours) if ours else task


class InprocBackend(BaseTaskBackend):
    """Runs tasks in this process's worker threads.

    OPTIONS:
        workers, max_queue, when_full, block_timeout, retry, timeout, interruptible, expires_in, database: of each
            queue; as of ``Job``.
        queues: other ones for some: ``{"mail": {"workers": 1}}``.
        enqueue_on_commit: whether a task is enqueued when the caller's transaction commits, and not after a rollback;
            False.
        max_results: the most results of finished tasks that are kept; 1,000. Those of unfinished ones always are.
        result_age: seconds that they are kept; 3,600.

    Raises:
        InvalidTaskBackend: one of them is unknown, or its value not allowed.
    """

    task_class = InprocTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._process = _process_state(alias, self.options)
        for queue in self._process.options_by_queue:
            if self.queues and queue not in self.queues:
                raise InvalidTaskBackend(
                    f"TASKS[{alias!r}]: OPTIONS['queues'] names {queue!r}, and QUEUES has {sorted(self.queues)}"
                )

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Check that the app is installed."""
        if apps.is_installed("inproc_jobs.django"):
            return []
        return [
            Error(
                f"TASKS[{self.alias!r}] uses {type(self).__qualname__}, and its app is not installed",
                hint='Add "inproc_jobs.django" to INSTALLED_APPS.',
                id="inproc_jobs.E004",
            )
        ]

    def validate_task(self, task: Task) -> None:
        """Raise InvalidTask for what could not be run."""
        plain = task
        if isinstance(task.run_after, timedelta):  # documented by Django, and more than its own check can take
            plain = copy.copy(task)
            object.__setattr__(plain, "run_after", None)
        super().validate_task(plain)
        if not isinstance(task.run_after, datetime | timedelta | None):
            raise InvalidTask(f"run_after must be a datetime or a timedelta, not {task.run_after!r}.")
        try:
            self._process.options(task)
        except (TypeError, ValueError) as error:
            raise InvalidTask(str(error)) from error

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueue *task* and return its result as of now; never blocks.

        Raises:
            InvalidTask: it could not be run.
            TypeError: the arguments are not JSON.
            QueueFullError, ShutdownError: as ``Job.perform_async`` does.
        """
        self.validate_task(task)
        execution = _Execution(type(self), self._process, _ready(task, self.alias, args, kwargs))
        definition = self._process.job(task.queue_name).__job__
        options = self._process.options(task)
        if task.run_after is None:
            _runtime.enqueue(definition, options, (execution,), {})
        else:
            moment = _moment(task.run_after)
            _runtime.schedule(definition, options, (execution,), {}, moment, wall=isinstance(task.run_after, datetime))
        return execution.snapshot()

    async def aenqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueue *task*; without a thread in between, for nothing here blocks."""
        return self.enqueue(task, args, kwargs)

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result with this id as of now.

        Raises:
            TaskResultDoesNotExist: there is none in this process, or it is no longer kept.
        """
        return self._process.results.get(result_id).snapshot()

    async def aget_result(self, result_id: str) -> TaskResult:
        """Return the result with this id as of now; without a thread in between."""
        return self.get_result(result_id)


def _ready(task: Task, alias: str, args: Any, kwargs: Any) -> TaskResult:
    return TaskResult(
        task=task,
        id=secrets.token_hex(16),
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def _moment(run_after: datetime | timedelta) -> float:
    """Return when a task is due: of the wall clock for a datetime, monotonic for a timedelta."""
    if isinstance(run_after, timedelta):
        return _clock.now() + max(0.0, run_after.total_seconds())
    if not settings.USE_TZ and timezone.is_naive(run_after):
        run_after = timezone.make_aware(run_after, timezone.get_default_timezone())
    return _clock.timestamp(run_after, "run_after")


class _Execution:
    """One enqueued task: the argument of its run, and the one who writes its result."""

    __slots__ = ("_backend", "_lock", "_process", "result")

    def __init__(self, backend: type[InprocBackend], process: _ProcessState, result: TaskResult) -> None:
        self._backend = backend
        self._process = process
        self.result = result
        self._lock = threading.RLock()  # guards the fields of result

    def __repr__(self) -> str:
        return f"<task {self.result.task.module_path} {self.result.id}>"

    def snapshot(self) -> TaskResult:
        with self._lock:
            taken = copy.copy(self.result)
            object.__setattr__(taken, "errors", list(self.result.errors))
            object.__setattr__(taken, "worker_ids", list(self.result.worker_ids))
        return taken

    def _write(self, **fields: Any) -> None:
        with self._lock:
            for name, value in fields.items():
                object.__setattr__(self.result, name, value)

    def call(self) -> Any:
        """Make an attempt."""
        now = timezone.now()
        with self._lock:
            self.result.worker_ids.append(_worker_id())
            self._write(
                started_at=self.result.started_at or now, last_attempted_at=now, status=TaskResultStatus.RUNNING
            )
        task_started.send_robust(self._backend, task_result=self.snapshot())
        task = self.result.task
        context = (TaskContext(task_result=self.snapshot()),) if task.takes_context else ()
        return normalize_json(task.call(*context, *self.result.args, **self.result.kwargs))

    def enqueued(self, run: Run[Any]) -> None:
        self._write(enqueued_at=run.enqueued_at if settings.USE_TZ else timezone.make_naive(run.enqueued_at))
        self._process.results.add(self)
        task_enqueued.send_robust(self._backend, task_result=self.snapshot())

    def failed(self, error: BaseException) -> None:
        path = f"{type(error).__module__}.{type(error).__qualname__}"
        with self._lock:
            self.result.errors.append(TaskError(exception_class_path=path, traceback=_report.trace(error) + "\n"))

    def retried(self, error: BaseException) -> None:
        self.failed(error)
        self._write(status=TaskResultStatus.READY)

    def closed(self, run: Run[Any]) -> None:
        if run.state is SUCCEEDED:
            self._write(_return_value=run._outcome)
        elif run.state is FAILED:
            self.failed(run._outcome)
        elif run.state is DISCARDED:
            self.failed(RunDiscardedError(f"{run!r} was discarded: {run.reason}", reason=run.reason or ""))
        else:
            self.failed(RunCancelledError(f"{run!r} was cancelled"))
        self._write(finished_at=timezone.now())
        self._write(
            status=TaskResultStatus.SUCCESSFUL if run.state is SUCCEEDED else TaskResultStatus.FAILED,
        )
        self._process.results.finished(self)
        # Where it failed this is inside of the except, so that Django's own receiver logs the traceback.
        task_finished.send_robust(self._backend, task_result=self.snapshot())


def _worker_id() -> str:
    return f"{os.getpid()}-{threading.get_native_id()}"


class _Observer:
    """Tells the execution of a task what becomes of its run."""

    def enqueued(self, run: Run[Any]) -> None:
        run.args[0].enqueued(run)

    def refused(self, run: Run[Any]) -> None:
        """Leave the caller with the exception, or the rollback with nothing."""

    def retried(self, run: Run[Any], error: BaseException) -> None:
        run.args[0].retried(error)

    def closed(self, run: Run[Any]) -> None:
        run.args[0].closed(run)


class _Results:
    """The executions whose results can be asked for."""

    def __init__(self, most: int, age: float) -> None:
        self.most = most
        self.age = age
        self._lock = threading.RLock()  # guards both below
        self._by_id: dict[str, _Execution] = {}
        self._finished: deque[tuple[float, str]] = deque()  # monotonic seconds and id, the oldest first

    def add(self, execution: _Execution) -> None:
        with self._lock:
            self._by_id[execution.result.id] = execution

    def finished(self, execution: _Execution) -> None:
        with self._lock:
            if execution.result.id in self._by_id:
                self._finished.append((time.monotonic(), execution.result.id))
            self._forget()

    def get(self, result_id: str) -> _Execution:
        with self._lock:
            self._forget()
            execution = self._by_id.get(result_id)
        if execution is None:
            raise TaskResultDoesNotExist(result_id)
        return execution

    def _forget(self) -> None:
        oldest = time.monotonic() - self.age
        while self._finished and (len(self._finished) > self.most or self._finished[0][0] < oldest):
            self._by_id.pop(self._finished.popleft()[1], None)


class _ProcessState:
    """What one backend alias has in this process, however many backend objects there are."""

    def __init__(self, alias: str, given: Mapping[str, Any]) -> None:
        self.alias = alias
        owner = f"TASKS[{alias!r}]['OPTIONS']"
        try:
            own = dict(given)
            queues = own.pop("queues", {})
            if not isinstance(queues, Mapping) or not all(isinstance(each, Mapping) for each in queues.values()):
                raise TypeError(f"{owner}: queues must be a dict of dicts of options, not {queues!r}")
            self.on_commit = own.pop("enqueue_on_commit", False)
            if not isinstance(self.on_commit, bool):
                raise TypeError(f"{owner}: enqueue_on_commit must be True or False, not {self.on_commit!r}")
            most = own.pop("max_results", MAX_RESULTS)
            if isinstance(most, bool) or not isinstance(most, int) or most < 0:
                raise ValueError(f"{owner}: max_results must be an integer from 0 on, not {most!r}")
            self.results = _Results(most, _clock.seconds(own.pop("result_age", RESULT_AGE), f"{owner}: result_age"))
            self.base = merged(Options(), owner, own, _PER_QUEUE)
            self.options_by_queue = {
                name: merged(self.base, f"{owner}['queues'][{name!r}]", each, _PER_QUEUE)
                for name, each in queues.items()
            }
        except (TypeError, ValueError) as error:
            raise InvalidTaskBackend(str(error)) from error
        self._jobs: dict[str, type[Job]] = {}
        self._options = lru_cache(maxsize=256)(self._merged)

    def job(self, queue: str) -> type[Job]:
        """Return the job class of a queue, made when it is first asked for."""
        job = self._jobs.get(queue)
        return job if job is not None else self._jobs.setdefault(queue, self._make_job(queue))

    def _make_job(self, queue: str) -> type[Job]:
        def perform(job: Job, execution: _Execution) -> Any:
            return execution.call()

        def body(namespace: dict[str, Any]) -> None:
            namespace.update(__module__=__name__, __qualname__="Tasks", perform=perform)

        options = self.options_by_queue.get(queue, self.base)
        keywords = {name: getattr(options, name) for name in _PER_QUEUE}
        job: type[Job] = types.new_class("Tasks", (Job,), {"name": f"tasks.{self.alias}.{queue}", **keywords}, body)
        job.__job__.observer = _Observer()
        return job

    def options(self, task: Task) -> Options:
        """Return the options of an enqueue of *task*.

        Raises:
            TypeError, ValueError: one of its own is wrong.
        """
        own = tuple(getattr(task, name, None) for name in _PER_TASK)
        on_commit = getattr(task, "enqueue_on_commit", None)
        return self._options(
            task.queue_name, int(task.priority), own, self.on_commit if on_commit is None else on_commit
        )

    def _merged(self, queue: str, priority: int, own: tuple[Any, ...], on_commit: object) -> Options:
        given = {name: value for name, value in zip(_PER_TASK, own, strict=True) if value is not None}
        base = self.options_by_queue.get(queue, self.base)
        return merged(base, "@task", {"priority": priority, "on_commit": on_commit, **given}, OPTIONS)


_states: dict[str, tuple[int, Mapping[str, Any], _ProcessState]] = {}
_states_lock = threading.RLock()  # guards _states


def _process_state(alias: str, options: Mapping[str, Any]) -> _ProcessState:
    """Return what the process has of *alias*; anew where its options have changed, or after a fork."""
    with _states_lock:
        pid, known, state = _states.get(alias, (0, {}, None))
        if state is None or pid != os.getpid() or known != options:
            state = _ProcessState(alias, options)
            _states[alias] = (os.getpid(), dict(options), state)
        return state


def _forget_states(*, setting: str, **extra: Any) -> None:
    if setting == "TASKS":
        _states.clear()


setting_changed.connect(_forget_states, dispatch_uid="inproc_jobs.tasks")
