"""Durations and moments as users give them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from inproc_jobs import Job

CENTURY = 100 * 365 * 86_400


class Mail(Job):
    def perform(self):
        pass


def short(value):
    """Name a test's parameter, shortly."""
    return repr(value)[:24]


@pytest.mark.parametrize("delay", [0, 0.0, 1000, 1000.5, timedelta(0), timedelta(days=1), CENTURY], ids=short)
def test_a_delay_is_a_number_of_seconds_or_a_timedelta(delay):
    """Both are accepted, zero included."""
    assert Mail.perform_in(delay) is not None


@pytest.mark.parametrize(
    ("delay", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (timedelta(seconds=-1), ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (float("-inf"), ValueError),
        (CENTURY + 1, ValueError),
        (10**400, ValueError),
        (timedelta.max, ValueError),
        (True, TypeError),
        (False, TypeError),
        (None, TypeError),
        ("60", TypeError),
        (Decimal(1), TypeError),
        (1j, TypeError),
        (datetime(2030, 1, 1, tzinfo=UTC), TypeError),
        ([1], TypeError),
    ],
    ids=short,
)
def test_a_wrong_delay_is_refused_with_what_is_allowed(delay, error):
    """The error names perform_in, what is allowed and what was given."""
    for enqueuer in (Mail, Mail.using(priority=1)):
        with pytest.raises(error, match=r"delay of perform_in must be .*seconds") as caught:
            enqueuer.perform_in(delay)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("when", "error", "said"),
    [
        (datetime(2030, 1, 1), TypeError, "naive"),
        (date(2030, 1, 1), TypeError, "aware datetime"),
        (1_900_000_000, TypeError, "aware datetime"),
        ("2030-01-01", TypeError, "aware datetime"),
        (None, TypeError, "aware datetime"),
        (timedelta(1), TypeError, "aware datetime"),
        (datetime.max.replace(tzinfo=UTC), ValueError, "century"),
    ],
    ids=short,
)
def test_a_wrong_moment_is_refused_with_what_is_allowed(when, error, said):
    """A naive datetime is a TypeError: the server's zone would decide what it means."""
    for enqueuer in (Mail, Mail.using(priority=1)):
        with pytest.raises(error, match=said) as caught:
            enqueuer.perform_at(when)
        assert "perform_at" in str(caught.value)


def test_the_oldest_moment_means_now():
    """The far past is no error."""
    assert Mail.perform_at(datetime.min.replace(tzinfo=UTC)).wait(10)


class Unprintable:
    def __repr__(self):
        raise SystemExit


def test_a_value_that_cannot_be_shown_is_refused_all_the_same():
    """A hostile repr does not replace the error."""
    with pytest.raises(TypeError, match="Unprintable"):
        Mail.perform_in(Unprintable())
