"""Whether a failed attempt is followed by another, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import _clock, _report


class Discard(Exception):
    """Raise ``Discard("why")`` in ``perform`` to end the run without retry; the text becomes ``run.reason``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A policy of retries with exponential backoff and full jitter.

    Before attempt *n* + 1 it waits a random time between 0 and ``min(backoff_max, backoff * 2 ** (n - 1))`` seconds
    ("full jitter": Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), or just that time without
    jitter. An error with a ``retry_after`` attribute (a number of seconds or a timedelta) says itself how long to wait.

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
            self.delay = _clock.seconds(delay, "the delay of Retry.Later")
            super().__init__(f"again in {self.delay:g} s")

    attempts: int = 5
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    backoff: float = 1.0
    backoff_max: float = 300.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"Retry: attempts must be an integer, not {_report.shown(self.attempts)}")
        if self.attempts < 1:
            raise ValueError(f"Retry: attempts must be at least 1, not {self.attempts}")
        for name in ("on", "give_up_on"):
            object.__setattr__(self, name, _error_classes(getattr(self, name), name))
        for name in ("backoff", "backoff_max"):
            object.__setattr__(self, name, _clock.seconds(getattr(self, name), f"Retry: {name}"))
        if not isinstance(self.jitter, bool):
            raise TypeError(f"Retry: jitter must be True or False, not {_report.shown(self.jitter)}")

    def __call__(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds to wait after *attempt* (counted from 1) failed with *error*, or None to give up."""
        if attempt >= self.attempts or not issubclass(type(error), self.on) or issubclass(type(error), self.give_up_on):
            return None
        asked = retry_after(error)
        if asked is not None:
            return asked
        # The exponent is capped because a float overflows at 2 ** 1024; backoff_max is long reached by then.
        longest = min(self.backoff_max, self.backoff * 2.0 ** min(attempt - 1, 64))
        return random.uniform(0, longest) if self.jitter else longest  # noqa: S311 - spreading load, no secret


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
    classes = (value,) if isinstance(value, type) else value
    if not isinstance(classes, tuple | list | set | frozenset) or not all(
        isinstance(one, type) and issubclass(one, BaseException) for one in classes
    ):
        raise TypeError(f"Retry: {name} must be a tuple of exception classes, not {_report.shown(value)}")
    return tuple(classes)
