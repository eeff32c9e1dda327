"""What users write and call: ``Job``, ``@job``, and the ways to enqueue."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Never, ParamSpec, Protocol, TypeVar, overload

from . import _clock, _report
from ._definition import Definition
from ._options import PER_CALL, Options, WhenFull, merged
from ._retry import RetryPolicy
from ._run import Run, current_run
from ._runtime import define

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MAX_NAME = 1000  # characters; every line of the log about a run shows it

_KEEP: Any = object()  # the default of an option that is not given: the base class's, or the class's

_logger = logging.getLogger("inproc_jobs.job")


class Performs(Protocol[P, R_co]):
    """A class with a ``perform``; only ever the type of ``cls``, so that each enqueue is checked against it."""

    def perform(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Do the job."""


class Enqueuer(Generic[P, R_co]):
    """The ways to enqueue one job with options of its own; what ``using`` returns. Immutable, and may be kept."""

    __slots__ = ("_definition", "_options")

    def __init__(self, definition: Definition, options: Options) -> None:
        self._definition = definition
        self._options = options

    def __repr__(self) -> str:
        return f"<Enqueuer of {self._definition.name}>"

    def perform_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R_co]:
        """Enqueue a run; see ``Job.perform_async``."""
        self._definition.fits(*args, **kwargs)
        run: Run[R_co] = self._definition.queue.accept(self._options, args, kwargs)
        return run

    def perform_in(self, delay: float | timedelta, /, *args: P.args, **kwargs: P.kwargs) -> Run[R_co]:
        """Enqueue a run for later; see ``Job.perform_in``."""
        self._definition.fits(*args, **kwargs)
        seconds = _clock.seconds(delay, "the delay of perform_in")
        run: Run[R_co] = self._definition.queue.accept_later(self._options, args, kwargs, seconds)
        return run

    def perform_at(self, when: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Run[R_co]:
        """Enqueue a run for a moment; see ``Job.perform_at``."""
        self._definition.fits(*args, **kwargs)
        moment = _clock.moment(when, "the moment of perform_at")
        run: Run[R_co] = self._definition.queue.accept_later(self._options, args, kwargs, moment)
        return run

    def perform_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R_co]:
        """Enqueue a run when the transaction commits; see ``Job.perform_on_commit``."""
        return _perform_on_commit(self._definition, self._options, args, kwargs)

    def perform_now(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Perform a run here and now; see ``Job.perform_now``."""
        self._definition.fits(*args, **kwargs)
        value: R_co = self._definition.queue.perform_now(self._options, args, kwargs)
        return value


class Job:
    """The base of job classes: write ``perform``, and options as keywords of the class.

        class MailJob(Job, workers=4, retry=Retry(on=(OSError,))):
            def perform(self, to: str) -> None: ...

        MailJob.perform_async("ada@example.org")

    Each attempt is made on a fresh instance, in a worker's thread.

    Options, inherited by subclasses:
        workers: the most threads at work on this class at once; 2.
        max_queue: the most runs that wait; 10,000. Retries and due schedules come in above it.
        when_full: what an enqueue beyond it does. "raise" a QueueFullError; "block" up to ``block_timeout``, then
            raise; "caller_runs" performs it in the caller's thread; "discard" discards the new run, "discard_oldest" an
            older one, with the reason "queue_full".
        block_timeout: seconds that "block" waits; 1.0. On an event loop's thread it does not wait at all.
        retry: a ``Retry``, or a callable ``(attempt, error) -> seconds or None``; None, the default, tries once.
        timeout: seconds after which an attempt is reported as overrunning and ``checkpoint()`` raises; its thread then
            no longer counts against ``workers``. A thread cannot be stopped from outside: None, the default, sets no
            limit.
        interruptible: whether, past the timeout or the shutdown deadline, the error is raised in the thread itself, at
            its next bytecode. It cannot interrupt a call into C (a socket without a timeout, a query), and it can
            strike between any two lines: use it only where a job cut short anywhere leaves nothing half done.
        expires_in: seconds, from the enqueue or the due time, after which a run that has not started is discarded with
            the reason "expired".
        priority: from -100 to 100, higher first; 0.
        on_commit: whether an enqueue waits for the caller's database transaction and is dropped with it (Django).
        database: the alias of the database whose transaction that is; None, the default, means the default one.
        name: by which stats and logs know it, unique; ``module.QualName``.

    Raises:
        TypeError, ValueError: when the class is made: an unknown option, a wrong type or range, a ``perform`` that is a
            static or class method or a generator.
    """

    __job__: ClassVar[Definition]

    def __init_subclass__(
        cls,
        *,
        workers: int = _KEEP,
        max_queue: int = _KEEP,
        when_full: WhenFull = _KEEP,
        block_timeout: float | timedelta = _KEEP,
        retry: RetryPolicy | None = _KEEP,
        timeout: float | timedelta | None = _KEEP,
        interruptible: bool = _KEEP,
        expires_in: float | timedelta | None = _KEEP,
        priority: int = _KEEP,
        on_commit: bool = _KEEP,
        database: str | None = _KEEP,
        name: str = _KEEP,
        **unknown: Never,
    ) -> None:
        super().__init_subclass__()
        given = _given(
            workers=workers,
            max_queue=max_queue,
            when_full=when_full,
            block_timeout=block_timeout,
            retry=retry,
            timeout=timeout,
            interruptible=interruptible,
            expires_in=expires_in,
            priority=priority,
            on_commit=on_commit,
            database=database,
            **unknown,
        )
        perform = inspect.getattr_static(cls, "perform")
        if isinstance(perform, staticmethod | classmethod):
            raise TypeError(f"{cls.__qualname__}: perform must be a plain method, not a {type(perform).__name__}")
        if not callable(perform) or not hasattr(perform, "__get__") or not hasattr(perform, "__qualname__"):
            raise TypeError(f"{cls.__qualname__}: perform must be a method, not {_report.shown(perform)}")
        if cls.__init__ is not Job.__init__ and _needs_arguments(cls):
            raise TypeError(f"{cls.__qualname__}: __init__ must take no arguments, for each attempt makes an instance")
        options = merged(cls.__job__.options, cls.__qualname__, given)
        cls.__job__ = _define(cls, cls, name, options, cls.perform, cls._call, skip=1)
        if perform is Job.__dict__["perform"]:
            cls.__job__.fits = _abstract(cls)

    @classmethod
    def _call(cls, run: Run[Any]) -> Any:
        if run._kwargs is None:
            return cls().perform(*run._args)
        return cls().perform(*run._args, **run._kwargs)

    def perform(self, *args: Any, **kwargs: Any) -> Any:
        """Do the job. What it returns is the run's result; what it raises is the run's failure."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no perform")

    @classmethod
    def perform_async(cls: type[Performs[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Enqueue a run with these arguments for ``perform`` and return it at once.

        Costs some microseconds and never blocks, unless ``when_full="block"``. Safe from any thread, a signal handler
        or a ``__del__``. Arguments are kept as they are, not copied: do not change them afterwards.

        Raises:
            TypeError: the arguments do not fit ``perform``.
            QueueFullError: ``max_queue`` runs wait, and ``when_full`` says "raise" or "block".
            ShutdownError: the process is past its shutdown.
            RejectedError: the base of both; by itself where no job could ever run (uWSGI without threads).
        """
        definition: Definition = cls.__job__  # type: ignore[attr-defined]
        definition.fits(*args, **kwargs)
        run: Run[R] = definition.queue.accept(definition.options, args, kwargs)
        return run

    @classmethod
    def perform_in(cls: type[Performs[P, R]], delay: float | timedelta, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Enqueue a run that starts in *delay*, seconds or a timedelta, counted on the monotonic clock.

        Never blocks, holds no thread, and ``max_queue`` does not matter when it is due. Lives in memory: what is not
        due before the process stops is discarded, and named.

        Raises:
            TypeError, ValueError: a *delay* that is no duration, negative or not finite; arguments that do not fit.
            ScheduleFullError: ``max_scheduled`` runs of the process wait for their time or their retry.
            ShutdownError: the process is past its shutdown.
        """
        definition: Definition = cls.__job__  # type: ignore[attr-defined]
        definition.fits(*args, **kwargs)
        seconds = _clock.seconds(delay, "the delay of perform_in")
        run: Run[R] = definition.queue.accept_later(definition.options, args, kwargs, seconds)
        return run

    @classmethod
    def perform_at(cls: type[Performs[P, R]], when: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Enqueue a run that starts at *when*, an aware datetime; it follows the wall clock, should that be set.

        A moment that has passed means at once. Otherwise as ``perform_in``.

        Raises:
            TypeError: *when* is no datetime, or a naive one.
        """
        definition: Definition = cls.__job__  # type: ignore[attr-defined]
        definition.fits(*args, **kwargs)
        moment = _clock.moment(when, "the moment of perform_at")
        run: Run[R] = definition.queue.accept_later(definition.options, args, kwargs, moment)
        return run

    @classmethod
    def perform_on_commit(cls: type[Performs[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Enqueue a run when the database transaction of this thread commits; at once where there is none.

        What the job reads is then there to be read. After a rollback nothing happens: the run was never accepted, and
        ends as discarded with the reason "rollback". Needs a framework that knows of transactions: Django.

        Raises:
            TypeError: the arguments do not fit ``perform``.
            RuntimeError: ``inproc_jobs.django`` is not among the installed apps.
            QueueFullError, ShutdownError: as ``perform_async`` does; inside a transaction, out of its commit.
        """
        definition: Definition = cls.__job__  # type: ignore[attr-defined]
        return _perform_on_commit(definition, definition.options, args, kwargs)

    @classmethod
    def perform_now(cls: type[Performs[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Perform a run here, in this thread, and return its value: as a worker would, but without queue and retry.

        So it has a context of its own, signals, stats and a line in the log when it fails, which a plain call of
        ``perform`` has not.

        Raises:
            BaseException: what the job raises.
            RunDiscardedError: it raises ``Discard``.
            TypeError: the arguments do not fit ``perform``.
            ShutdownError: the process is past its shutdown.
        """
        definition: Definition = cls.__job__  # type: ignore[attr-defined]
        definition.fits(*args, **kwargs)
        value: R = definition.queue.perform_now(definition.options, args, kwargs)
        return value

    @classmethod
    def using(
        cls: type[Performs[P, R]],
        *,
        priority: int = _KEEP,
        when_full: WhenFull = _KEEP,
        block_timeout: float | timedelta = _KEEP,
        retry: RetryPolicy | None = _KEEP,
        timeout: float | timedelta | None = _KEEP,
        expires_in: float | timedelta | None = _KEEP,
        on_commit: bool = _KEEP,
        database: str | None = _KEEP,
        **unknown: Never,
    ) -> Enqueuer[P, R]:
        """Return the ways to enqueue with other options than the class's, for one call or many.

        Raises:
            TypeError, ValueError: an unknown option, a wrong type or range.
        """
        given = _given(
            priority=priority,
            when_full=when_full,
            block_timeout=block_timeout,
            retry=retry,
            timeout=timeout,
            expires_in=expires_in,
            on_commit=on_commit,
            database=database,
            **unknown,
        )
        return Enqueuer(*_options_of_call(cls.__job__, given))  # type: ignore[attr-defined]

    @property
    def run(self) -> Run[Any]:
        """The run this instance performs."""
        run = current_run()
        if run is None:
            raise RuntimeError(f"{type(self).__qualname__}.run is there only while a run of it is being performed")
        return run

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry ``run_id`` and ``job``, and whose messages begin with them.

        Set it up by its name: ``logging.getLogger("inproc_jobs.job")``.
        """
        run = current_run()
        extra = {"job": self.__job__.name, "run_id": run.id if run is not None else None}
        return _RunLogger(_logger, extra)

    def checkpoint(self) -> None:
        """Raise if the run should stop: it was cancelled, is past its timeout, or the process is past its deadline.

        Call it between the steps of a long job: it is how a thread is stopped. Outside of a run it does nothing.
        """
        run = current_run()
        if run is not None:
            run.checkpoint()

    @property
    def should_stop(self) -> bool:
        """Whether ``checkpoint`` would raise."""
        run = current_run()
        return run is not None and run.should_stop


def _needs_arguments(job: type[Job]) -> bool:
    try:
        inspect.signature(job.__init__).bind(None)
    except TypeError:
        return True
    return False


def _abstract(job: type[Job]) -> Callable[..., None]:
    """Return what refuses an enqueue of a class that has nothing to perform."""

    def refuse(*_: object, **__: object) -> None:
        raise TypeError(
            f"{job.__qualname__} defines no perform: write one, or enqueue a class derived from it that has one"
        )

    return refuse


Job.__job__ = Definition(Job, "inproc_jobs.Job", Options(), Job.perform, Job._call, 1)
Job.__job__.fits = _abstract(Job)


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        extra: Mapping[str, object] = self.extra or {}
        prefix = f"[{extra['job']} {extra['run_id']}] "
        if args:  # only then is the message a format
            prefix = prefix.replace("%", "%%")
        super().log(level, f"{prefix}{msg}", *args, **kwargs)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class JobFunction(Enqueuer[P, R_co]):
    """A function under ``@job``: called, it is the plain function; enqueued, it is a job. The sender of its signals."""

    __slots__ = ("__dict__", "__weakref__", "function")

    def __init__(self, function: Callable[P, R_co], name: str, options: Options) -> None:
        self.function: Callable[P, R_co] = function
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(self, attribute, getattr(function, attribute, None))
        definition = _define(self, function, name, options, function, self._call, skip=0)
        super().__init__(definition, options)
        self.__job__ = definition

    def __repr__(self) -> str:
        return f"<job {self._definition.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself, here and now; nothing of it is a job."""
        return self.function(*args, **kwargs)

    def _call(self, run: Run[Any]) -> Any:
        return self.function(*run._args, **(run._kwargs or {}))

    def using(
        self,
        *,
        priority: int = _KEEP,
        when_full: WhenFull = _KEEP,
        block_timeout: float | timedelta = _KEEP,
        retry: RetryPolicy | None = _KEEP,
        timeout: float | timedelta | None = _KEEP,
        expires_in: float | timedelta | None = _KEEP,
        on_commit: bool = _KEEP,
        database: str | None = _KEEP,
        **unknown: Never,
    ) -> Enqueuer[P, R_co]:
        """Return the ways to enqueue with other options; see ``Job.using``."""
        given = _given(
            priority=priority,
            when_full=when_full,
            block_timeout=block_timeout,
            retry=retry,
            timeout=timeout,
            expires_in=expires_in,
            on_commit=on_commit,
            database=database,
            **unknown,
        )
        return Enqueuer(*_options_of_call(self._definition, given))


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(
    *,
    workers: int = ...,
    max_queue: int = ...,
    when_full: WhenFull = ...,
    block_timeout: float | timedelta = ...,
    retry: RetryPolicy | None = ...,
    timeout: float | timedelta | None = ...,
    interruptible: bool = ...,
    expires_in: float | timedelta | None = ...,
    priority: int = ...,
    on_commit: bool = ...,
    database: str | None = ...,
    name: str = ...,
) -> _Decorator: ...
def job(function: Any = None, /, *, name: str = _KEEP, **options: Any) -> Any:
    """Make a job of a function; the options are those of ``Job``.

        @job(workers=1)
        def thumbnail(path: str) -> None: ...

        thumbnail.perform_async("a.png")     # a job
        thumbnail("a.png")                   # a plain call

    Raises:
        TypeError, ValueError: an option of a wrong name, type or range; a generator function.
    """

    def decorate(function: Callable[P, R]) -> JobFunction[P, R]:
        if not callable(function) or isinstance(function, type) or not hasattr(function, "__qualname__"):
            raise TypeError(f"@job takes a function, not {_report.shown(function)}; for a class, derive it from Job")
        if isinstance(function, staticmethod | classmethod):
            raise TypeError(
                f"@job takes a function, not a {type(function).__name__}: put @job on a function of the module"
            )
        return JobFunction(function, name, merged(Options(), function.__qualname__, options))

    return decorate if function is None else decorate(function)


def _perform_on_commit(
    definition: Definition, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Run[Any]:
    definition.fits(*args, **kwargs)
    if not options.on_commit:
        options = merged(options, definition.name, {"on_commit": True})
    run: Run[Any] = definition.queue.accept(options, args, kwargs)
    return run


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not _KEEP}


def _options_of_call(definition: Definition, given: dict[str, Any]) -> tuple[Definition, Options]:
    if not given:
        return definition, definition.options
    return definition, merged(definition.options, f"{definition.name}.using", given, PER_CALL)


def _define(
    sender: Any,
    place: Any,
    name: Any,
    options: Options,
    perform: Callable[..., Any],
    call: Callable[[Run[Any]], Any],
    *,
    skip: int,
) -> Definition:
    """Check what is to be performed and make it known."""
    default = f"{place.__module__}.{place.__qualname__}"
    if name is _KEEP:
        name = default
    if not issubclass(type(name), str):
        raise TypeError(f"{place.__qualname__}: name must be a string, not {_report.shown(name)}")
    name = str.__str__(name)
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(
            f"{place.__qualname__}: name must be printable, of 1 to {MAX_NAME} characters, not {_report.shown(name)}"
        )
    function = inspect.unwrap(perform)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{default}: a generator cannot be performed, for nobody would take what it yields")
    definition = Definition(sender, name, options, perform, call, skip)
    if definition.awaited:
        importlib.import_module("asyncio")  # here, so that those without coroutines do not load it
    define(definition)
    return definition
