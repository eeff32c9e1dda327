"""Whether a failed attempt is followed by another, and when."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from . import _clock, _report


class Discard(Exception):
    """Raise ``Discard("why")`` in ``perform`` to end the run without retry; the text becomes ``run.reason``."""


class Retry:
    """A policy of retries with exponential backoff and full jitter.

    Before attempt *n* + 1 it waits a random time between 0 and ``min(backoff_max, backoff * 2 ** (n - 1))`` seconds
    ("full jitter": Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), or just that time without
    jitter. An error with a ``retry_after`` attribute (a number of seconds or a timedelta) says itself how long to wait.
    ``raise Retry.Later(30)`` in ``perform`` needs no policy.

    Attributes:
        attempts: how often a run is tried in all, the first one included.
        on: classes of errors that are worth another attempt.
        give_up_on: classes among them that are not.
        backoff: seconds before the second attempt, doubled before each one after.
        backoff_max: the longest wait, in seconds.
        jitter: whether the wait is drawn at random, so that many failed runs do not come back at once.

    Raises:
        TypeError, ValueError: a field of a wrong type or range, when the policy is made.
    """

    class Later(Exception):
        """Raise ``Retry.Later(30)`` in ``perform`` to try the run again in 30 s, with or without a retry policy.

        It is no failure and knows no limit: the job itself decides when to stop asking.

        Attributes:
            delay: seconds until the next attempt.
        """

        def __init__(self, delay: float | timedelta) -> None:
            self.delay: float = _clock.seconds(delay, "the delay of Retry.Later")
            super().__init__(f"again in {self.delay:g} s")

    __slots__ = ("attempts", "backoff", "backoff_max", "give_up_on", "jitter", "on")

    attempts: int
    on: tuple[type[BaseException], ...]
    give_up_on: tuple[type[BaseException], ...]
    backoff: float
    backoff_max: float
    jitter: bool

    def __init__(
        self,
        *,
        attempts: int = 5,
        on: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
        give_up_on: type[BaseException] | Iterable[type[BaseException]] = (),
        backoff: float | timedelta = 1.0,
        backoff_max: float | timedelta = 300.0,
        jitter: bool = True,
    ) -> None:
        if type(attempts) is bool or not issubclass(type(attempts), int):
            raise TypeError(f"Retry: attempts must be an integer, not {_report.shown(attempts)}")
        attempts = int.__int__(attempts)
        if not 1 <= attempts <= sys.maxsize:
            raise ValueError(f"Retry: attempts must be from 1 to {sys.maxsize}, not {_report.shown(attempts)}")
        if type(jitter) is not bool:
            raise TypeError(f"Retry: jitter must be True or False, not {_report.shown(jitter)}")
        fields = {
            "attempts": attempts,
            "on": _error_classes(on, "on"),
            "give_up_on": _error_classes(give_up_on, "give_up_on"),
            "backoff": _clock.seconds(backoff, "Retry: backoff"),
            "backoff_max": _clock.seconds(backoff_max, "Retry: backoff_max"),
            "jitter": jitter,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Retry cannot be changed: make another one with {name}={_report.shown(value)}")

    def __repr__(self) -> str:
        return f"Retry({', '.join(f'{name}={getattr(self, name)!r}' for name in sorted(self.__slots__))})"

    def __eq__(self, other: object) -> bool:
        return type(other) is Retry and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds to wait after *attempt* (counted from 1) failed with *error*, or None to give up."""
        if attempt >= self.attempts or not issubclass(type(error), self.on) or issubclass(type(error), self.give_up_on):
            return None
        asked = retry_after(error)
        if asked is not None:
            return asked
        # The exponent is capped because a float overflows at 2 ** 1024; backoff_max is long reached by then.
        longest = min(self.backoff_max, self.backoff * 2.0 ** min(attempt - 1, 64))
        # os.urandom, because importing random takes longer than the rest of this package's floor.
        return longest * int.from_bytes(os.urandom(7)) / 2**56 if self.jitter else longest


RetryPolicy = Retry | Callable[[int, Any], "float | None"]


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that *error* itself asks to wait, or None if it asks for none that make sense."""
    asked = getattr(error, "retry_after", None)
    if asked is None:
        return None
    try:
        return _clock.seconds(asked, "retry_after")
    except (TypeError, ValueError):
        return None


def _error_classes(value: object, name: str) -> tuple[type[BaseException], ...]:
    classes: Any = (value,) if issubclass(type(value), type) else value
    if not issubclass(type(classes), tuple | list | set | frozenset) or not all(
        issubclass(type(one), type) and issubclass(one, BaseException) for one in classes
    ):
        raise TypeError(f"Retry: {name} must be a tuple of exception classes, not {_report.shown(value)}")
    return tuple(classes)
