"""The options of a job class and the settings of the process: their names, defaults and what is allowed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from . import _clock, _report
from ._retry import Retry, RetryPolicy

WhenFull = Literal["raise", "block", "caller_runs", "discard", "discard_oldest"]

MAX_PRIORITY = 100  # as in django.tasks
MAX_WORKERS = 10_000  # more threads than any process should have; each permit is kept in a list
MAX_RUNS = 1_000_000_000  # a bound beyond any memory


class Options:
    """The options of a job class, never changed; see ``Job`` for what each one does.

    No dataclass: making one at import costs more than the rest of this module.
    """

    __slots__ = (
        "block_timeout",
        "database",
        "expires_in",
        "interruptible",
        "max_queue",
        "on_commit",
        "plain",
        "priority",
        "retry",
        "timeout",
        "watched",
        "when_full",
        "workers",
    )

    def __init__(
        self,
        *,
        workers: int = 2,
        max_queue: int = 10_000,
        when_full: WhenFull = "raise",
        block_timeout: float = 1.0,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        interruptible: bool = False,
        expires_in: float | None = None,
        priority: int = 0,
        on_commit: bool = False,
        database: str | None = None,
    ) -> None:
        self.workers: int = workers
        self.max_queue: int = max_queue
        self.when_full: WhenFull = when_full
        self.block_timeout: float = block_timeout
        self.retry: RetryPolicy | None = retry
        self.timeout: float | None = timeout
        self.interruptible: bool = interruptible
        self.expires_in: float | None = expires_in
        self.priority: int = priority
        self.on_commit: bool = on_commit
        self.database: str | None = database
        self.watched: bool = timeout is not None or interruptible  # whether an attempt needs an eye on it while it runs
        self.plain: bool = not self.watched and expires_in is None  # whether an attempt is only a call
        if interruptible:  # not at the first interrupt: a fork beside an import leaves the child a closed lock
            importlib.import_module("inproc_jobs._native")

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={getattr(self, name)!r}' for name in OPTIONS)})"


class Settings:
    """The settings of the process, never changed; see ``configure`` for what each one does."""

    __slots__ = ("max_scheduled", "max_threads", "shutdown_timeout")

    def __init__(self, *, shutdown_timeout: float = 8.0, max_threads: int = 32, max_scheduled: int = 200_000) -> None:
        self.shutdown_timeout: float = shutdown_timeout
        self.max_threads: int = max_threads
        self.max_scheduled: int = max_scheduled

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in SETTINGS)})"


OPTIONS = (
    "workers",
    "max_queue",
    "when_full",
    "block_timeout",
    "retry",
    "timeout",
    "interruptible",
    "expires_in",
    "priority",
    "on_commit",
    "database",
)
SETTINGS = ("shutdown_timeout", "max_threads", "max_scheduled")
PER_CALL = ("priority", "when_full", "block_timeout", "retry", "timeout", "expires_in", "on_commit", "database")
PREFIX = "INPROC_JOBS_"  # of the settings in a framework's configuration
MODE_KEY = PREFIX + "MODE"  # which of them is the testing kit's
MODES = ("real", "inline", "fake")


def merged(base: Options, owner: str, given: Mapping[str, object], allowed: tuple[str, ...] | None = None) -> Options:
    """Return *base* with the options *given*, checked.

    Raises:
        TypeError, ValueError: an unknown option, a wrong type or range; names *owner*, the option and what is allowed.
    """
    checked = _checked(owner, "option", given, allowed or (*OPTIONS, "name"))
    return Options(**{name: getattr(base, name) for name in OPTIONS} | checked)


def config_key(setting: str) -> str:
    """Return what a framework's configuration calls a setting."""
    return PREFIX + setting.upper()


def from_config(owner: str, config: Mapping[str, object]) -> dict[str, object]:
    """Return the settings in a framework's configuration, unchecked, by their own names; without the mode.

    Raises:
        TypeError: a key that begins with ``INPROC_JOBS_`` is none.
    """
    keys = {config_key(name): name for name in SETTINGS}
    for key in config:
        if isinstance(key, str) and key.startswith(PREFIX) and key not in keys and key != MODE_KEY:
            raise TypeError(f"{owner}: unknown key {_report.shown(key)}; there are {', '.join(keys)}, {MODE_KEY}")
    return {name: config[key] for key, name in keys.items() if key in config}


def mode_of(owner: str, config: Mapping[str, object]) -> str:
    """Return the mode of the testing kit in a framework's configuration, checked."""
    mode = config.get(MODE_KEY, "real")
    for known in MODES:
        if issubclass(type(mode), str) and str.__str__(mode) == known:
            return known
    allowed = ", ".join(map(repr, MODES))
    raise ValueError(f"{owner}: {MODE_KEY} must be one of {allowed}, not {_report.shown(mode)}")


def merged_settings(
    base: Settings, owner: str, given: Mapping[str, object], label: Callable[[str], str] = str
) -> Settings:
    """Return *base* with the settings *given*, checked; as ``merged``, but errors call a setting by its *label*."""
    checked = _checked(owner, "setting", given, SETTINGS, label)
    return Settings(**{name: getattr(base, name) for name in SETTINGS} | checked)


def _checked(
    owner: str, kind: str, given: Mapping[str, object], known: tuple[str, ...], label: Callable[[str], str] = str
) -> dict[str, Any]:
    for name in given:
        if name not in known:
            raise TypeError(f"{owner}: unknown {kind} {_report.shown(name)}; there are {', '.join(known)}")
    return {name: _CHECKS[name](f"{owner}: {label(name)}", value) for name, value in given.items()}


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    span = f"from {least} to {most}"

    def check(what: str, value: object) -> int:
        if type(value) is bool or not issubclass(type(value), int):  # isinstance would ask the value for its class
            raise TypeError(f"{what} must be an integer {span}, not {_report.shown(value)}")
        number = int.__int__(value)  # type: ignore[arg-type]
        if not least <= number <= most:
            raise ValueError(f"{what} must be {span}, not {_report.shown(value)}")
        return number

    return check


def _seconds_or_none(what: str, value: object) -> float | None:
    if value is None:
        return None
    duration = _clock.seconds(value, what)
    if not duration:
        raise ValueError(f"{what} must be more than 0 seconds, or None for no limit")
    return duration


def _boolean(what: str, value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{what} must be True or False, not {_report.shown(value)}")
    return value


def _when_full(what: str, value: object) -> WhenFull:
    for choice in get_args(WhenFull):
        if issubclass(type(value), str) and str.__str__(value) == choice:
            return choice  # type: ignore[no-any-return]
    kind = ValueError if issubclass(type(value), str) else TypeError
    raise kind(f"{what} must be one of {', '.join(map(repr, get_args(WhenFull)))}, not {_report.shown(value)}")


def _retry(what: str, value: object) -> RetryPolicy | None:
    if value is None or issubclass(type(value), Retry):
        return value  # type: ignore[return-value]
    if issubclass(type(value), type) or not callable(value):
        raise TypeError(
            f"{what} must be a Retry(...), a callable (attempt, error) -> seconds or None, or None,"
            f" not {_report.shown(value)}"
        )
    return value


def _alias(what: str, value: object) -> str | None:
    if value is not None and not issubclass(type(value), str):
        raise TypeError(
            f"{what} must be the alias of a database, or None for the default one, not {_report.shown(value)}"
        )
    return None if value is None else str.__str__(value)


def _duration(what: str, value: object) -> float:
    return _clock.seconds(value, what)


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "workers": _whole(1, MAX_WORKERS),
    "max_queue": _whole(1, MAX_RUNS),
    "when_full": _when_full,
    "block_timeout": _duration,
    "retry": _retry,
    "timeout": _seconds_or_none,
    "interruptible": _boolean,
    "expires_in": _seconds_or_none,
    "priority": _whole(-MAX_PRIORITY, MAX_PRIORITY),
    "on_commit": _boolean,
    "database": _alias,
    "shutdown_timeout": _duration,
    "max_threads": _whole(1, MAX_WORKERS),
    "max_scheduled": _whole(1, MAX_RUNS),
}
