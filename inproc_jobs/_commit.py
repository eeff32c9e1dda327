"""Enqueues that wait for a database transaction: the seam for a framework that knows of such."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .errors import DeadlockError

Defer = Callable[[Callable[[], object], str | None], object]

_defer: Defer | None = None
_waiting: dict[Any, int] = {}  # runs that wait for a commit, and the thread whose transaction it is


def defer_by(defer: Defer) -> None:
    """Have ``defer(call, database)`` make a call when the transaction of this thread commits, and drop it otherwise."""
    global _defer
    _defer = defer


def defer(run: Any, admit: Callable[[Any], object]) -> None:
    """Have ``admit(run)`` called when the transaction commits, or at once where there is none.

    Raises:
        RuntimeError: nobody here knows of transactions.
    """
    if _defer is None:
        raise RuntimeError(
            f"{run._queue.definition.name}: on_commit needs a framework that knows of transactions:"
            ' add "inproc_jobs.django" to INSTALLED_APPS'
        )
    _defer(_Admission(run, admit), run._options.database)


def check_wait(run: Any) -> None:
    """Raise DeadlockError if this thread is the one whose commit *run* waits for."""
    if _waiting.get(run) == threading.get_ident():
        raise DeadlockError(f"{run!r} is enqueued when the transaction of this thread commits: wait for it afterwards")


class _Admission:
    """Called on commit, it admits a run; let go of uncalled, as a rollback does, it refuses it."""

    __slots__ = ("_admit", "_run")

    def __init__(self, run: Any, admit: Callable[[Any], object]) -> None:
        self._run = run
        self._admit: Callable[[Any], object] | None = admit
        _waiting[run] = threading.get_ident()

    def __repr__(self) -> str:
        return f"<admission of {self._run!r}>"

    def __call__(self) -> None:
        """Admit the run; once."""
        admit, self._admit = self._admit, None
        if admit is not None:
            _waiting.pop(self._run, None)
            self._run._accept()
            admit(self._run)
            if self._run.should_stop:  # cancelled when there was nothing yet to take it out of
                self._run.cancel()

    def __del__(self) -> None:
        if self._admit is not None:
            _waiting.pop(self._run, None)
            self._run._refuse("rollback")
