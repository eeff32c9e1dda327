"""The error tree: one root, and each also what a caller of the standard library would catch."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import pickle
import queue

import pytest

from inproc_jobs import errors


def public():
    """Every public class of the module."""
    return [value for name, value in vars(errors).items() if inspect.isclass(value) and not name.startswith("_")]


def test_every_error_has_the_one_root():
    """Who catches InprocJobsError catches all."""
    for error in public():
        assert issubclass(error, errors.InprocJobsError)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.QueueFullError, queue.Full),
        (errors.QueueFullError, errors.RejectedError),
        (errors.ShutdownError, RuntimeError),
        (errors.ShutdownError, errors.RejectedError),
        (errors.RunCancelledError, concurrent.futures.CancelledError),
        (errors.RunDiscardedError, RuntimeError),
        (errors.RunTimeoutError, TimeoutError),
        (errors.DeadlockError, RuntimeError),
        (errors.WrongProcessError, RuntimeError),
    ],
)
def test_each_error_is_also_the_class_a_caller_would_catch(error, base):
    """An except clause for the standard library's class works."""
    assert issubclass(error, base)


def test_a_cancelled_run_is_not_mistaken_for_a_cancelled_task():
    """RunCancelledError is no asyncio.CancelledError: awaiting a cancelled run does not cancel the task that awaits."""
    assert not issubclass(errors.RunCancelledError, asyncio.CancelledError)


@pytest.mark.parametrize("error", public(), ids=lambda error: error.__name__)
def test_errors_survive_pickling(error):
    """A test runner or a process pool may send an error to another process."""
    copy = pickle.loads(pickle.dumps(error("what to do next")))

    assert type(copy) is error
    assert str(copy) == "what to do next"


def test_the_docstring_draws_the_tree():
    """The module's docstring names every error there is."""
    for error in public():
        assert error.__name__ in errors.__doc__
