"""The database around a job: connections as around a request, and enqueues that wait for a commit."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import blinker
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections, reset_queries, transaction

from .. import _carriers, _commit, _report, _runtime, _threads
from .._run import current_run
from ..signals import job_enqueued

_logger = logging.getLogger(__name__)
_thread = threading.local()  # inside: whether an attempt is being made in this thread

# Their frames lie between an enqueue and the receiver that looks for the place of it.
_OURS = tuple(str(Path(module.__file__ or "").parent) for module in (sys.modules["inproc_jobs"], blinker))


class EnqueuedInTransactionWarning(RuntimeWarning):
    """A run was enqueued inside a transaction: it may start before the commit, or although there is none."""


def wire() -> None:
    """See to the connections of jobs from now on."""
    _carriers.carry(_carry_connections)
    # So that the ORM's asynchronous calls use the connections of the worker's thread, which are seen to.
    _carriers.run_coroutines_by(lambda function, argument: async_to_sync(function)(argument))
    _threads.before_thread_ends(connections.close_all)
    _commit.defer_by(_on_commit)
    _watch_transactions()
    setting_changed.connect(_setting_changed, dispatch_uid="inproc_jobs.db")


def _carry_connections() -> _carriers.Entrance:
    return _request_like


@contextmanager
def _request_like() -> Iterator[None]:
    """Treat the connections of a worker's thread as Django does at the start and the end of a request.

    Not those of another thread, whose caller is in the midst of something: ``perform_now`` and ``caller_runs``.
    """
    if getattr(_thread, "inside", False) or not _runtime.on_worker_thread():
        yield
        return
    _thread.inside = True
    try:
        reset_queries()
        close_old_connections()
        yield
    finally:
        _thread.inside = False
        trouble = _report.guarded(close_old_connections)
        if trouble is not None:  # no reason to have the job fail, or try it again
            _report.log(_logger, logging.ERROR, "closing connections: %s", _report.describe(trouble))


def _on_commit(call: Callable[[], object], database: str | None) -> None:
    using = DEFAULT_DB_ALIAS if database is None else database
    connection = connections[using]
    if connection.connection is None and not connection.in_atomic_block:
        call()  # without opening a connection for it
    else:
        transaction.on_commit(call, using=using)


def _setting_changed(*, setting: str, **extra: Any) -> None:
    if setting == "DEBUG":
        _watch_transactions()


def _watch_transactions() -> None:
    """Look at each enqueue under DEBUG, and at none otherwise, where it would cost."""
    if settings.DEBUG:
        job_enqueued.connect(_warn_in_transaction)
    else:
        job_enqueued.disconnect(_warn_in_transaction)


def _warn_in_transaction(job: Any, *, run: Any, **extra: Any) -> None:
    """Warn about a run that is enqueued inside ``atomic``, once for each place in the code."""
    if current_run() is run:  # perform_now: it is to see what the transaction has done
        return
    open_ones = [one.alias for one in connections.all(initialized_only=True) if _in_users_transaction(one)]
    if not open_ones:
        return
    frame = _outside(sys._getframe())
    warnings.warn_explicit(
        f"{run!r} is enqueued inside a transaction of the database {open_ones[0]!r}: it may start before the commit and"
        " miss what it needs, or run although there is a rollback. Use perform_on_commit(...) or on_commit=True.",
        EnqueuedInTransactionWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _in_users_transaction(connection: Any) -> bool:
    """Return whether *connection* is in a transaction other than the one that Django's TestCase is in throughout."""
    return any(not getattr(block, "_from_testcase", False) for block in getattr(connection, "atomic_blocks", ()))


def _outside(frame: FrameType) -> FrameType:
    while frame.f_code.co_filename.startswith(_OURS) and frame.f_back is not None:
        frame = frame.f_back
    return frame
