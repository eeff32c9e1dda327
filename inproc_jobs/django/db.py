"""The database around a job: connections as around a request, and enqueues that wait for a commit. Caches too."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import blinker
import django
from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync
from django.conf import settings
from django.core.cache import caches
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, reset_queries, transaction

from .. import _carriers, _commit, _report, _runtime, _threads
from .._run import RUNNING, current_run
from ..signals import job_enqueued

_logger = logging.getLogger(__name__)
_thread = threading.local()  # run: the one being performed in this thread; last_error: as below, when last looked at
_last_error = object()  # another one after each attempt in which a connection had an error that may be the server's

# Their frames lie between an enqueue and the receiver that looks for the place of it.
_OURS = tuple(
    f"{folder}{os.sep}"
    for folder in (
        Path(__file__).parent.parent,
        Path(blinker.__file__).parent,
        Path(django.__file__).parent / "tasks",
    )
)


class EnqueuedInTransactionWarning(RuntimeWarning):
    """A run was enqueued inside a transaction: it may start before the commit, or although there is none."""


def wire() -> None:
    """See to the connections of jobs from now on."""
    _carriers.carry(_always, _RequestLike)
    _carriers.run_coroutines_by(_run_coroutine)
    # The event loop of whoever enqueues is no affair of the job's.
    _carriers.leave_behind(
        *(one for kind in (AsyncToSync, SyncToAsync) for one in vars(kind).values() if isinstance(one, ContextVar))
    )
    _threads.before_thread_ends(_close_all)
    _commit.defer_by(_on_commit)
    _watch_transactions()
    setting_changed.connect(_setting_changed, dispatch_uid="inproc_jobs.db")


def _always() -> bool:
    return True  # nothing comes from the caller, but each attempt is tidied up after


class _RequestLike:
    """Treats the connections of a worker's thread as Django does at the start and the end of a request.

    Not those of another thread, whose caller is in the midst of something, nor those of an attempt that this one is
    inside of: ``perform_now`` and ``caller_runs``. No generator: contextlib would assign to a job's frozen error.
    """

    __slots__ = ("_heeded",)

    def __init__(self, _: object) -> None:
        self._heeded = False

    def __enter__(self) -> None:
        outer = getattr(_thread, "run", None)
        # Not RUNNING where an interrupt has struck at the end of its attempt.
        inside = outer is not None and outer.state is RUNNING
        self._heeded = not inside and _runtime.on_worker_thread()
        if self._heeded:
            _thread.run = current_run()
            _unshare_locals()
            reset_queries()
            _tidy_all()

    def __exit__(self, *error: object) -> None:
        if self._heeded:
            _tidy_all()
            _log_trouble(_report.guarded(caches.close_all))
            _thread.run = None


def _unshare_locals() -> None:
    """Drop what asgiref has in a copied context: it is the enqueuing thread's, with its caches and its event loop.

    Before 3.12 every thread sees it, and since then one that has got the identifier of a thread that has ended.
    """
    for variable, value in copy_context().items():
        if variable.name == "asgiref.local":
            variable.set({} if isinstance(value, dict) else None)


def _tidy_all() -> None:
    """Close those connections of this thread that Django would close, and leave no transaction open in the others."""
    global _last_error
    seen, _thread.last_error = getattr(_thread, "last_error", None), _last_error
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            _last_error = object()
        elif seen is not _thread.last_error:
            connection.errors_occurred = True  # has Django ask whether it is usable: a server's restart ends them all
        _log_trouble(_report.guarded(partial(_tidy, connection)))


def _log_trouble(trouble: BaseException | None) -> None:
    if trouble is not None:  # no reason to have the job fail, or try it again
        _report.log(_logger, logging.ERROR, "closing a connection: %s", _report.describe(trouble))


def _tidy(connection: Any) -> None:
    if connection.in_atomic_block:
        _report.log(
            _logger,
            logging.ERROR,
            "%r has left a transaction of the database %r open: it is rolled back",
            _thread.run,
            connection.alias,
        )
        connection.close()
        del connections[connection.alias]  # closed inside of a block, it would never open again
        return
    connection.close_if_unusable_or_obsolete()
    # Raw SQL, or an interrupt amidst Django's own, may have begun a transaction that Django knows nothing of. Where
    # there is none the drivers ask no server, but for MySQL's.
    if connection.connection is not None and _report.guarded(connection.connection.rollback) is not None:
        connection.close()


def _close_all() -> None:
    """Close the connections of a thread that ends; also those to SQLite in memory, which Django keeps open."""
    for connection in connections.all(initialized_only=True):
        _report.guarded(connection.close)
        if connection.connection is not None:
            _report.guarded(connection.connection.close)


def _run_coroutine(function: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any) -> Any:
    """Call a coroutine function such that the ORM's asynchronous calls use the connections of this thread."""
    passing = not connections.all(initialized_only=True) and not _runtime.on_worker_thread()
    try:
        return async_to_sync(function)(argument)
    finally:
        if passing:  # a thread made for perform_now on an event loop's, which nobody else will see to
            _close_all()


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
    # Where DEBUG was set without a word, as Django's test runner does; and perform_now is to see what is not committed.
    if not settings.DEBUG or current_run() is run:
        return
    awaited = (run._options.database or DEFAULT_DB_ALIAS) if run._options.on_commit else None
    for connection in connections.all(initialized_only=True):
        if _in_users_transaction(connection) and connection.alias != awaited:
            _warn(job.__job__.name, connection.alias)


def _warn(name: str, alias: str) -> None:
    frame = _outside(sys._getframe())
    other = "" if alias == DEFAULT_DB_ALIAS else f" with database={alias!r}"
    # Nothing in the text that differs from run to run: by it the warnings of a place are told apart.
    warnings.warn_explicit(
        f"{name} is enqueued inside a transaction of the database {alias!r}: it may start before the commit and miss"
        f" what it needs, or run although there is a rollback. Use perform_on_commit(...) or on_commit=True{other}.",
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
