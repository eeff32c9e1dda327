"""What time it is, and how long a duration given by a user is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from . import _report

MAX_DELAY = 100 * 365 * 86_400.0  # seconds; a century is a mistake, not a delay


class Moment(float):
    """Seconds since the epoch by the wall clock, which can be set; a plain float is monotonic seconds."""

    __slots__ = ()


def now() -> float:
    """Return the monotonic seconds that delays and deadlines are counted in."""
    return time.monotonic()


def wall() -> float:
    """Return the wall clock's seconds since the epoch, which ``perform_at`` follows."""
    return time.time()


def seconds(value: object, what: str) -> float:
    """Return a duration given as a number of seconds or a timedelta as float seconds.

    Raises:
        TypeError: *value* is neither.
        ValueError: it is negative, not finite, or longer than a century.
    """
    if type(value) is float and 0.0 <= value <= MAX_DELAY:
        return value
    kind = type(value)  # not isinstance, which asks the value for its class
    number: Any = value
    if issubclass(kind, timedelta):
        number = timedelta.total_seconds(number)
    elif issubclass(kind, float):
        number = float.__float__(number)
    elif issubclass(kind, int) and kind is not bool:
        number = int.__int__(number)
    else:
        raise TypeError(f"{what} must be a number of seconds or a timedelta, not {_report.shown(value)}")
    if not 0 <= number <= MAX_DELAY:  # false for NaN, too
        raise ValueError(f"{what} must be from 0 seconds to 100 years, not {_report.shown(value)}")
    return float(number)


def moment(when: object, what: str) -> Moment:
    """Return an aware datetime as a moment of the wall clock.

    Raises:
        TypeError: *when* is not a datetime, or a naive one: the server's zone would decide what it means.
        ValueError: it lies more than a century ahead.
    """
    if not issubclass(type(when), datetime) or not isinstance(when, datetime):
        raise TypeError(f"{what} must be an aware datetime, not {_report.shown(when)}")
    if when.utcoffset() is None:
        raise TypeError(f"{what} must be an aware datetime, not the naive {_report.shown(when)}: give it a tzinfo")
    seconds = (when - _EPOCH).total_seconds()
    if seconds - wall() > MAX_DELAY:
        raise ValueError(f"{what} must lie within a century, not at {_report.shown(when)}")
    return Moment(seconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(wall_seconds: float) -> datetime:
    """Return seconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(wall_seconds, UTC)
