"""The options of a job class and the settings of the process: their names, defaults and what is allowed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from . import _clock, _report
from ._retry import Retry, RetryPolicy

WhenFull = Literal["raise", "block", "caller_runs", "discard", "discard_oldest"]

MAX_PRIORITY = 100  # as in django.tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a job class; see ``Job`` for what each one does."""

    workers: int = 2
    max_queue: int = 10_000
    when_full: WhenFull = "raise"
    block_timeout: float = 1.0
    retry: RetryPolicy | None = None
    timeout: float | None = None
    interruptible: bool = False
    expires_in: float | None = None
    priority: int = 0

    @property
    def watched(self) -> bool:
        """Whether an attempt needs an eye on it while it runs."""
        return self.timeout is not None or self.interruptible


PER_CALL = ("priority", "when_full", "block_timeout", "retry", "timeout", "expires_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the process; see ``configure`` for what each one does."""

    shutdown_timeout: float = 8.0
    max_threads: int = 32
    max_scheduled: int = 1_000_000


def merged(base: Options, owner: str, given: Mapping[str, object], allowed: tuple[str, ...] | None = None) -> Options:
    """Return *base* with the options *given*, checked.

    Raises:
        TypeError, ValueError: an unknown option, a wrong type or range; names *owner*, the option and what is allowed.
    """
    known = allowed or tuple(field.name for field in fields(Options))
    return replace(base, **_checked(owner, "option", given, known))


def merged_settings(base: Settings, owner: str, given: Mapping[str, object]) -> Settings:
    """Return *base* with the settings *given*, checked; raises as ``merged`` does."""
    known = tuple(field.name for field in fields(Settings))
    return replace(base, **_checked(owner, "setting", given, known))


def _checked(owner: str, kind: str, given: Mapping[str, object], known: tuple[str, ...]) -> dict[str, Any]:
    for name in given:
        if name not in known:
            raise TypeError(f"{owner}: unknown {kind} {name!r}; it takes {', '.join(known)}")
    return {name: _CHECKS[name](f"{owner}: {name}", value) for name, value in given.items()}


def _whole(least: int, most: float = math.inf) -> Callable[[str, object], int]:
    span = f"from {least} to {most}" if most < math.inf else f"at least {least}"

    def check(what: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{what} must be an integer {span}, not {_report.shown(value)}")
        if not least <= value <= most:
            raise ValueError(f"{what} must be {span}, not {_report.shown(value)}")
        return value

    return check


def _seconds_or_none(what: str, value: object) -> float | None:
    if value is None:
        return None
    duration = _clock.seconds(value, what)
    if not duration:
        raise ValueError(f"{what} must be more than 0 seconds, or None for no limit")
    return duration


def _boolean(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {_report.shown(value)}")
    return value


def _when_full(what: str, value: object) -> WhenFull:
    for choice in get_args(WhenFull):
        if isinstance(value, str) and value == choice:
            return choice  # type: ignore[no-any-return]
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{what} must be one of {', '.join(map(repr, get_args(WhenFull)))}, not {_report.shown(value)}")


def _retry(what: str, value: object) -> RetryPolicy | None:
    if value is None or isinstance(value, Retry):
        return value
    if isinstance(value, type) or not callable(value):
        raise TypeError(
            f"{what} must be a Retry(...), a callable (attempt, error) -> seconds or None, or None,"
            f" not {_report.shown(value)}"
        )
    return value


def _duration(what: str, value: object) -> float:
    return _clock.seconds(value, what)


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "workers": _whole(1),
    "max_queue": _whole(1),
    "when_full": _when_full,
    "block_timeout": _duration,
    "retry": _retry,
    "timeout": _seconds_or_none,
    "interruptible": _boolean,
    "expires_in": _seconds_or_none,
    "priority": _whole(-MAX_PRIORITY, MAX_PRIORITY),
    "shutdown_timeout": _duration,
    "max_threads": _whole(1),
    "max_scheduled": _whole(1),
}


class Definition:
    """What the engine knows of one job class.

    Attributes:
        job: the class, or the function under ``@job``: the sender of its signals.
        name: unique among the living job classes of the process.
        options: checked.
        call: performs a run with its arguments and returns the value; a coroutine function where *awaited*.
        fits: raises TypeError if called with arguments that do not fit ``perform``.
        awaited: whether ``perform`` is a coroutine function.
        queue: this process's queue, made at the first enqueue.
    """

    __slots__ = ("__weakref__", "awaited", "call", "fits", "job", "name", "options", "queue")

    def __init__(
        self, job: Any, name: str, options: Options, perform: Callable[..., Any], call: Callable[[Any], Any], skip: int
    ) -> None:
        self.job = job
        self.name = name
        self.options = options
        self.call = call
        self.fits = signature_stub(perform, f"{perform.__qualname__}", skip)
        self.awaited = inspect.iscoroutinefunction(inspect.unwrap(perform))
        self.queue: Any = None

    def __repr__(self) -> str:
        return f"<Definition of {self.name}>"


def signature_stub(function: Callable[..., Any], name: str, skip: int = 0) -> Callable[..., None]:
    """Return a function with the parameters of *function*, less the first *skip*, that does nothing.

    To call it is the cheapest way to see whether arguments fit: Python itself binds them, at the cost of one call, where
    ``Signature.bind`` costs ten. What it raises names *name*.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (ValueError, TypeError):  # written in C, without a signature
        return _anything
    source = _lambda_source(parameters)
    stub: Callable[..., None] = eval(source, {"_given": None})  # noqa: S307 - made of identifiers alone
    stub.__name__ = "perform"
    stub.__qualname__ = name
    return stub


def _anything(*args: object, **kwargs: object) -> None:
    """Accept whatever is given."""


def _lambda_source(parameters: list[inspect.Parameter]) -> str:
    parts: list[str] = []
    kinds = [parameter.kind for parameter in parameters]
    for previous, parameter in zip([None, *parameters], [*parameters, None], strict=True):
        before = previous.kind if previous else None
        kind = parameter.kind if parameter else None
        if before is inspect.Parameter.POSITIONAL_ONLY and kind is not before:
            parts.append("/")
        if kind is inspect.Parameter.KEYWORD_ONLY and before is not kind and inspect.Parameter.VAR_POSITIONAL not in kinds:
            parts.append("*")
        if parameter is not None:
            star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
            default = "" if parameter.default is inspect.Parameter.empty else "=_given"
            parts.append(f"{star}{parameter.name}{default}")
    return f"lambda {', '.join(parts)}: None"
