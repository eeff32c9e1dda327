"""The backend of ``django.tasks``: each of its queues is a job class, each task's result is kept in memory.

    TASKS = {"default": {"BACKEND": "inproc_jobs.django.tasks.InprocBackend", "OPTIONS": {"workers": 4}}}

Django makes a backend object for each thread and drops it with the thread. What must last, the job classes and the
results, therefore belongs to the process, and is found by the alias.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import types
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.signals import setting_changed
from django.dispatch import Signal
from django.utils import timezone

try:
    from django.tasks import DEFAULT_TASK_QUEUE_NAME, Task, TaskContext, TaskResult, TaskResultStatus
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskError
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
except ImportError as _error:
    raise ImportError("inproc_jobs.django.tasks needs django.tasks, which came with Django 6.0") from _error

from .. import _clock, _report
from .._job import Job
from .._options import OPTIONS, Options, merged
from .._retry import Retry, RetryPolicy
from .._run import DISCARDED, FAILED, SUCCEEDED, Run, current, current_run
from ..errors import RunCancelledError, RunDiscardedError

MAX_RESULTS = 1_000
RESULT_AGE = 3600.0  # seconds
MAX_ERRORS = 20  # of one result: a task may be tried again without end

_PER_TASK = ("retry", "timeout", "expires_in")
_PER_QUEUE = tuple(name for name in OPTIONS if name not in ("priority", "on_commit"))
_PER_BACKEND = ("queues", "enqueue_on_commit", "max_results", "result_age")
_RESULT_FIELDS = tuple(field.name for field in fields(TaskResult))

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Task: TypeAlias = Task[..., Any]  # django-stubs' has parameters, Django's own takes none
else:
    _Task = Task


@dataclass(frozen=True, slots=True, kw_only=True)
class InprocTask(_Task):
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

    A result is kept in this process, with its arguments, its value and its newest 20 errors. Until a commit there is
    none to be found. One that was discarded or cancelled is FAILED, and its last error says why.

    Raises:
        InvalidTaskBackend: one of them is unknown, or its value not allowed.
    """

    task_class: type[InprocTask] = InprocTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._shared = _share(alias, params)

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

    def validate_task(self, task: Task[..., Any]) -> None:
        """Raise InvalidTask for what could not be run."""
        if isinstance(task.run_after, timedelta):  # documented by Django, and more than its own check can take
            replace(task, run_after=None)  # which has the rest checked
        elif isinstance(task.run_after, datetime | None):
            super().validate_task(task)
        else:
            raise InvalidTask(f"run_after must be a datetime or a timedelta, not {_report.shown(task.run_after)}.")
        try:
            self._shared.options(task)
            _when(task.run_after)
        except (TypeError, ValueError) as error:
            raise InvalidTask(str(error)) from error

    def enqueue(self, task: Task[..., Any], args: Any, kwargs: Any) -> TaskResult[..., Any]:
        """Enqueue *task* and return its result as of now. Never blocks, unless ``when_full`` asks for it.

        Raises:
            InvalidTask: it could not be run.
            TypeError, ValueError: the arguments are not JSON.
            QueueFullError, ShutdownError: as ``Job.perform_async`` does.
        """
        self.validate_task(task)
        execution = _Execution(type(self), self._shared, _ready(task, self.alias, args, kwargs))
        self._hand_over(execution)
        return execution.snapshot()

    def _hand_over(self, execution: _Execution) -> None:
        task = execution.result.task
        definition = self._shared.job(task.queue_name).__job__
        options = self._shared.options(task)
        when = _when(task.run_after)
        if when is None:
            definition.queue.accept(options, (execution,), {})
        else:
            definition.queue.accept_later(options, (execution,), {}, when)

    async def aenqueue(self, task: Task[..., Any], args: Any, kwargs: Any) -> TaskResult[..., Any]:
        """Enqueue *task* on the event loop's thread, or on another one where it could wait or needs that one.

        A full queue may make it wait; a transaction is that of a thread; and asynchronous receivers of
        ``task_enqueued`` cannot be called from inside of the loop.
        """
        self.validate_task(task)
        options = self._shared.options(task)
        _, asynchronous = task_enqueued._live_receivers(type(self))
        if asynchronous or options.on_commit or options.when_full in ("block", "caller_runs"):
            return await super().aenqueue(task, args, kwargs)
        return self.enqueue(task, args, kwargs)

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return the result with this id as of now.

        Raises:
            TaskResultDoesNotExist: there is none in this process, or it is no longer kept.
        """
        return self._shared.results.get(result_id).snapshot()

    async def aget_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return the result with this id as of now; without a thread in between."""
        return self.get_result(result_id)


def _ready(task: Task[..., Any], alias: str, args: Any, kwargs: Any) -> TaskResult[..., Any]:
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


def _changed(result: TaskResult[..., Any], **fields: Any) -> TaskResult[..., Any]:
    """Return another result with other fields; dataclasses.replace would check all of them, at ten times the cost."""
    changed: TaskResult[..., Any] = object.__new__(TaskResult)
    for name in _RESULT_FIELDS:
        object.__setattr__(changed, name, fields[name] if name in fields else getattr(result, name))
    return changed


def _when(run_after: datetime | timedelta | None) -> float | None:
    """Return when a task is due: a Moment for a datetime, in so many seconds for a timedelta; None means at once."""
    if run_after is None:
        return None
    if isinstance(run_after, timedelta):
        return _clock.seconds(max(run_after, timedelta()), "run_after")
    if timezone.is_naive(run_after):  # only where USE_TZ is off
        run_after = timezone.make_aware(run_after, timezone.get_default_timezone())
    return _clock.moment(run_after, "run_after")


class _Execution:
    """One enqueued task: the argument of its run, and the one who writes its result.

    Attributes:
        result: as of now. Each change makes another one.
    """

    __slots__ = ("_backend", "_lock", "_shared", "result")

    def __init__(self, backend: type[InprocBackend], shared: _Shared, result: TaskResult[..., Any]) -> None:
        self._backend = backend
        self._shared = shared
        self.result = result
        self._lock = threading.RLock()  # guards the change of result

    def __repr__(self) -> str:
        return f"<task {self.result.task.module_path} {self.result.id}>"

    def snapshot(self) -> TaskResult[..., Any]:
        """Return the result as of now for the application, which may refresh it and change its lists."""
        result = self.result
        return _changed(result, errors=list(result.errors), worker_ids=list(result.worker_ids))

    def _write(self, **fields: Any) -> bool:
        """Change the result; False if it is final, as when a shutdown has discarded what a worker just begins."""
        with self._lock:
            if self.result.is_finished:
                return False
            self.result = _changed(self.result, **fields)
            return True

    def _send(self, signal: Signal) -> None:
        result = self.snapshot()
        # Against what send_robust lets through: a SystemExit, and its own error about a receiver that is asynchronous.
        _report.shielded(
            _logger,
            lambda: "a receiver of django.tasks",
            lambda: signal.send_robust(self._backend, task_result=result),
        )

    def enqueued(self, run: Run[Any]) -> None:
        moment = run.enqueued_at
        self._write(enqueued_at=moment if settings.USE_TZ else moment.astimezone().replace(tzinfo=None))
        self._shared.results.add(self)
        self._send(task_enqueued)

    def call(self) -> Any:
        """Make an attempt."""
        result = self.result
        now = timezone.now()
        worker = f"{os.getpid()}-{threading.get_native_id()}"
        if not self._write(
            started_at=result.started_at or now,
            last_attempted_at=now,
            worker_ids=[*result.worker_ids, worker],
            status=TaskResultStatus.RUNNING,
        ):
            return None
        self._send(task_started)
        task = result.task
        context = (TaskContext(task_result=self.snapshot()),) if task.takes_context else ()
        current.set(current_run())  # a coroutine may be performed in another thread
        # With arguments of its own, or the next attempt would see what this one has done to them.
        return normalize_json(task.call(*context, *normalize_json(result.args), **normalize_json(result.kwargs)))

    def _errors_and(self, error: BaseException) -> list[TaskError]:
        """Return the errors so far and *error*."""
        path = _report.escaped(f"{type(error).__module__}.{type(error).__qualname__}")
        newest = TaskError(exception_class_path=path, traceback=_report.trace(error) + "\n")
        return [*self.result.errors, newest][-MAX_ERRORS:]

    def retried(self, error: BaseException) -> None:
        failed = not issubclass(type(error), Retry.Later)
        self._write(errors=self._errors_and(error) if failed else self.result.errors, status=TaskResultStatus.READY)

    def closed(self, run: Run[Any]) -> None:
        if run.state is SUCCEEDED:
            self._finish(TaskResultStatus.SUCCESSFUL, _return_value=run._outcome)
        elif run.state is FAILED:  # inside of its except, where Django's own receiver finds the traceback to log
            self._finish(TaskResultStatus.FAILED, errors=self._errors_and(run._outcome))
        else:
            error = _closing_error(run)
            errors = self._errors_and(error)
            try:
                raise error  # for that receiver
            except (RunDiscardedError, RunCancelledError):
                self._finish(TaskResultStatus.FAILED, errors=errors)
            finally:
                del error

    def _finish(self, status: TaskResultStatus, **fields: Any) -> None:
        self._write(finished_at=timezone.now(), **fields, status=status)
        self._shared.results.finished(self)
        self._send(task_finished)


def _closing_error(run: Run[Any]) -> RunDiscardedError | RunCancelledError:
    if run.state is DISCARDED:
        return RunDiscardedError(f"{run!r} was discarded: {run.reason}", reason=run.reason or "")
    return RunCancelledError(f"{run!r} was cancelled")


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
        self._most = most
        self._age = age
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
        oldest = time.monotonic() - self._age
        while self._finished and (len(self._finished) > self._most or self._finished[0][0] < oldest):
            self._by_id.pop(self._finished.popleft()[1], None)


class _Shared:
    """What the backend objects of one alias share: its options, its job classes, its results."""

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self.params = params
        self._alias = alias
        self._jobs: dict[str, type[Job]] = {}
        self._results: dict[int, _Results] = {}  # by process id, for a forked child has its own
        queues = params.get("QUEUES", [DEFAULT_TASK_QUEUE_NAME])
        try:
            self._read_options(params.get("OPTIONS", {}), queues)
        except (TypeError, ValueError) as error:
            raise InvalidTaskBackend(str(error)) from error
        self._plain_options = lru_cache(maxsize=256)(self._merged)
        for queue in queues:
            self.job(queue)

    def _read_options(self, given: object, queues: Collection[str]) -> None:
        owner = f"TASKS[{self._alias!r}]['OPTIONS']"
        own = dict(_mapping(owner, given))
        for name in own:
            if name not in (*_PER_QUEUE, *_PER_BACKEND):
                raise TypeError(
                    f"{owner}: unknown option {name!r}; there are {', '.join((*_PER_QUEUE, *_PER_BACKEND))}"
                )
        by_queue = _mapping(f"{owner}: queues", own.pop("queues", {}))
        for queue in by_queue:
            if not isinstance(queue, str) or (queues and queue not in queues):
                raise ValueError(f"{owner}: queues names {queue!r}, which is none of QUEUES, {list(queues)}")
        self._on_commit = _boolean(f"{owner}: enqueue_on_commit", own.pop("enqueue_on_commit", False))
        self._max_results = own.pop("max_results", MAX_RESULTS)
        if isinstance(self._max_results, bool) or not isinstance(self._max_results, int) or self._max_results < 0:
            shown = _report.shown(self._max_results)
            raise ValueError(f"{owner}: max_results must be an integer of at least 0, not {shown}")
        self._result_age = _clock.seconds(own.pop("result_age", RESULT_AGE), f"{owner}: result_age")
        self._base = merged(Options(), owner, own, _PER_QUEUE)
        self._by_queue = {
            queue: merged(
                self._base, f"{owner}['queues'][{queue!r}]", _mapping(f"{owner}: queues[{queue!r}]", one), _PER_QUEUE
            )
            for queue, one in by_queue.items()
        }

    @property
    def results(self) -> _Results:
        """Those of this process."""
        results = self._results.get(os.getpid())
        if results is None:
            # Two threads may be here at once: a single call of C code settles whose it is.
            results = self._results.setdefault(os.getpid(), _Results(self._max_results, self._result_age))
            for pid in [pid for pid in self._results if pid != os.getpid()]:
                del self._results[pid]
        return results

    def clear(self) -> None:
        """Let go of the job classes and the results."""
        self._jobs.clear()
        self._results.clear()

    def job(self, queue: str) -> type[Job]:
        """Return the job class of a queue; made now where QUEUES does not name it."""
        job = self._jobs.get(queue)
        if job is None:
            with _lock:
                job = self._jobs.get(queue) or self._make_job(queue)
                self._jobs[queue] = job
        return job

    def _make_job(self, queue: str) -> type[Job]:
        def perform(job: Job, execution: _Execution) -> Any:
            return execution.call()

        def body(namespace: dict[str, Any]) -> None:
            namespace.update(__module__=__name__, __qualname__="Tasks", perform=perform)

        options = self._by_queue.get(queue, self._base)
        keywords = {name: getattr(options, name) for name in _PER_QUEUE}
        job: type[Job] = types.new_class("Tasks", (Job,), {"name": f"tasks.{self._alias}.{queue}", **keywords}, body)
        job.__job__.observer = _Observer()
        return job

    def options(self, task: Task[..., Any]) -> Options:
        """Return the options of an enqueue of *task*.

        Raises:
            TypeError, ValueError: one of its own is wrong.
        """
        on_commit = getattr(task, "enqueue_on_commit", None)
        if on_commit is not None:
            _boolean("@task: enqueue_on_commit", on_commit)
        options = self._plain_options(task.queue_name, int(task.priority), on_commit=on_commit)
        own = {name: value for name in _PER_TASK if (value := getattr(task, name, None)) is not None}
        return merged(options, "@task", own, _PER_TASK) if own else options

    def _merged(self, queue: str, priority: int, *, on_commit: bool | None) -> Options:
        own = {"priority": priority, "on_commit": self._on_commit if on_commit is None else on_commit}
        return merged(self._by_queue.get(queue, self._base), "@task", own)


def _mapping(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict, not {_report.shown(value)}")
    return value


def _boolean(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {_report.shown(value)}")
    return value


_shared: dict[str, _Shared] = {}
_lock = threading.RLock()  # guards _shared, and the making of job classes


def _share(alias: str, params: Mapping[str, Any]) -> _Shared:
    with _lock:
        shared = _shared.get(alias)
        if shared is None or shared.params != params:
            shared = _shared[alias] = _Shared(alias, params)
        return shared


def _forget_shared(*, setting: str, **extra: Any) -> None:
    if setting == "TASKS":
        for shared in _shared.values():  # asgiref keeps the backend objects, in the context they were made in
            shared.clear()
        _shared.clear()


def _after_fork() -> None:
    """Make the lock anew: the thread that held it may not exist in this process."""
    global _lock
    _lock = threading.RLock()


setting_changed.connect(_forget_shared, dispatch_uid="inproc_jobs.tasks")
os.register_at_fork(after_in_child=_after_fork)
