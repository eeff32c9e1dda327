"""The retry policy: whether there is another attempt, and when."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from inproc_jobs import Retry


def short(value):
    """Name a test's parameter, shortly."""
    return repr(value)[:24]


def test_without_jitter_the_wait_doubles_up_to_its_bound():
    """backoff, 2 * backoff, 4 * backoff and so on, never beyond backoff_max."""
    retry = Retry(attempts=100, backoff=1.5, backoff_max=10, jitter=False)

    assert [retry(attempt, OSError()) for attempt in (1, 2, 3, 4, 5, 99)] == [1.5, 3.0, 6.0, 10.0, 10.0, 10.0]


def test_full_jitter_draws_from_zero_to_the_wait():
    """With jitter the wait lies anywhere between 0 and what it would be without."""
    retry = Retry(backoff=8, backoff_max=20)

    drawn = [retry(1, OSError()) for _ in range(500)]
    bounded = [retry(4, OSError()) for _ in range(500)]

    assert 0 <= min(drawn) < 2
    assert 6 < max(drawn) <= 8
    assert 15 < max(bounded) <= 20


def test_a_huge_number_of_attempts_overflows_nothing():
    """The exponent is bounded."""
    assert Retry(attempts=10**9, jitter=False)(10**8, OSError()) == 300.0


def test_the_last_attempt_gives_up():
    """Attempts includes the first."""
    retry = Retry(attempts=2, jitter=False)

    assert retry(1, OSError()) == 1.0
    assert retry(2, OSError()) is None
    assert Retry(attempts=1)(1, OSError()) is None


def test_on_and_give_up_on_choose_the_errors():
    """Only errors of on, and none of give_up_on; a class alone or a list will do."""
    retry = Retry(on=OSError, give_up_on=[FileNotFoundError], backoff=0)

    assert retry(1, ConnectionError()) == 0
    assert retry(1, FileNotFoundError()) is None
    assert retry(1, ValueError()) is None


def test_by_default_a_systemexit_is_not_tried_again():
    """On defaults to Exception."""
    assert Retry()(1, SystemExit()) is None
    assert Retry()(1, ValueError()) is not None


@pytest.mark.parametrize(("asked", "seconds"), [(7, 7.0), (0.5, 0.5), (timedelta(minutes=10), 600.0), (0, 0.0)])
def test_retry_after_of_the_error_is_honoured(asked, seconds):
    """An error that says how long to wait is obeyed, exactly and beyond backoff_max."""
    error = OSError()
    error.retry_after = asked

    assert Retry(backoff=1, backoff_max=2)(1, error) == seconds


@pytest.mark.parametrize("asked", [-1, float("nan"), "soon", True, None, 10**400], ids=short)
def test_a_retry_after_that_makes_no_sense_is_ignored(asked):
    """Then the policy's own wait holds."""
    error = OSError()
    error.retry_after = asked

    assert Retry(backoff=1, jitter=False)(1, error) == 1.0


def test_retry_after_does_not_prolong_the_attempts():
    """An error that asks for another attempt gets none after the last."""
    error = OSError()
    error.retry_after = 1

    assert Retry(attempts=1)(1, error) is None


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("attempts", 0, ValueError),
        ("attempts", -1, ValueError),
        ("attempts", sys.maxsize + 1, ValueError),
        ("attempts", True, TypeError),
        ("attempts", 2.0, TypeError),
        ("attempts", "3", TypeError),
        ("attempts", None, TypeError),
        ("on", "OSError", TypeError),
        ("on", (int,), TypeError),
        ("on", (OSError(),), TypeError),
        ("on", None, TypeError),
        ("give_up_on", int, TypeError),
        ("backoff", -1, ValueError),
        ("backoff", float("nan"), ValueError),
        ("backoff", True, TypeError),
        ("backoff", "1", TypeError),
        ("backoff_max", float("inf"), ValueError),
        ("backoff_max", None, TypeError),
        ("jitter", 1, TypeError),
        ("jitter", None, TypeError),
    ],
    ids=short,
)
def test_a_wrong_field_is_refused_by_name(field, value, error):
    """The error names Retry, the field and what is allowed."""
    with pytest.raises(error, match=rf"Retry.*{field} must be"):
        Retry(**{field: value})


def test_fields_go_by_name_only():
    """Retry(3) would not say what three means."""
    with pytest.raises(TypeError):
        Retry(3)
    with pytest.raises(TypeError, match="atempts"):
        Retry(atempts=3)


def test_a_policy_does_not_change():
    """A policy may be shared between classes: it is frozen."""
    retry = Retry()

    with pytest.raises(AttributeError):
        retry.attempts = 7
    assert retry == Retry()
    assert "attempts=5" in repr(retry)


@pytest.mark.parametrize(("delay", "error"), [(-1, ValueError), ("1", TypeError), (float("nan"), ValueError)])
def test_later_refuses_a_wrong_delay(delay, error):
    """Retry.Later names what it takes."""
    with pytest.raises(error, match=r"delay of Retry\.Later must be"):
        Retry.Later(delay)


def test_later_takes_seconds_or_a_timedelta():
    """Both give float seconds."""
    assert Retry.Later(30).delay == Retry.Later(timedelta(seconds=30)).delay == 30.0


def test_equal_policies_have_one_hash():
    """A policy may be a key, as what is frozen may."""
    assert len({Retry(attempts=3), Retry(attempts=3), Retry(attempts=4)}) == 2
