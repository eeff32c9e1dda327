"""The site's process: takes a piece of code as a line of JSON, runs it, and answers with what it returned."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import linecache
import logging
import os
import sys
import textwrap
import threading
import traceback
from functools import partial
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created
from django.test.runner import DiscoverRunner

import inproc_jobs
from inproc_jobs import _threads

# What a piece of code finds, besides what is public below.
WORDS = """
import asyncio, contextvars, types, zoneinfo

from asgiref.sync import async_to_sync, sync_to_async
from django.core import checks
from django.db import DatabaseError, connection, transaction
from django.test import AsyncClient, Client, TestCase, TransactionTestCase, override_settings
from django.utils import timezone, translation

from django_site.models import Entry
from inproc_jobs import Job, Retry, current_run, drain, errors, job, signals
"""

WAIT = 10.0  # seconds
TIME_LIMIT = 60.0  # seconds for one piece of code

logged: list[str] = []  # by this package, in the piece of code at hand
_troubles: list[str] = []  # which nobody would see: in finalizers and threads
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what anybody prints is no answer


class _Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(f"{record.levelname} {record.getMessage()}")


class Gate:
    """Holds jobs inside until it is opened."""

    def __init__(self) -> None:
        self._inside = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> None:
        self._inside.release()
        assert self._open.wait(WAIT), "nobody opened the gate"

    def entered(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._inside.acquire(timeout=WAIT), "nobody came to the gate"

    def open(self) -> None:
        self._open.set()


def open_connections(alias: str = "default") -> int:
    """Return how many times the file of an SQLite database is open in this process."""
    file = os.stat(settings.DATABASES[alias]["NAME"])
    count = 0
    for descriptor in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            count += os.path.samestat(os.fstat(int(descriptor)), file)
    return count


@contextlib.contextmanager
def database(**changes: object) -> Any:
    """Have connections made with other settings than those of the site, in all threads."""
    own = connections.settings["default"]
    before = {name: own[name] for name in changes}
    connections.close_all()
    own.update(changes)
    try:
        yield
    finally:
        connections.close_all()
        own.update(before)


@contextlib.contextmanager
def created() -> Any:
    """Yield a list that gets the name of the thread of each connection that is made."""
    threads: list[str] = []

    def note(**extra: object) -> None:
        threads.append(threading.current_thread().name)

    connection_created.connect(note)
    try:
        yield threads
    finally:
        connection_created.disconnect(note)


@contextlib.contextmanager
def connected(signal: Any, receiver: Any) -> Any:
    """Have *receiver* called."""
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@contextlib.contextmanager
def lingering(seconds: float) -> Any:
    """Have threads that start now end after so many idle seconds."""
    defaults = _threads.Threads._serve.__kwdefaults__
    assert defaults is not None
    defaults.update(linger=seconds)
    try:
        yield
    finally:
        defaults.update(linger=_threads.LINGER)


def workers() -> list[threading.Thread]:
    """Return the threads of the pool that live."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(_threads.NAME)]


def run_cases(*cases: type) -> list[str]:
    """Run Django's test cases as ``manage.py test`` does, and return what failed."""
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    suite = runner.test_suite(test for case in cases for test in runner.test_loader.loadTestsFromTestCase(case))
    before = runner.setup_databases(aliases=runner.get_databases(suite))
    try:
        result = runner.run_suite(suite)
    finally:
        runner.teardown_databases(before)
        runner.teardown_test_environment()
    assert result.testsRun, "no test was found"
    return [trace for _, trace in (*result.failures, *result.errors)]


def _call_back(name: str) -> object:
    _tell(call=name)
    return json.loads(sys.stdin.readline())["answer"]


def _tell(**what: object) -> None:
    print(json.dumps(what), file=_answers, flush=True)


def _perform(code: str, values: dict[str, Any], functions: list[str]) -> object:
    source = f"def snippet():\n{textwrap.indent(code, '    ')}"
    linecache.cache["<the test>"] = (len(source), None, source.splitlines(keepends=True), "<the test>")
    names = {**globals(), "__name__": "snippet"}
    exec(WORDS, names)
    names.update(values)
    names.update((name, partial(_call_back, name)) for name in functions)
    exec(compile(source, "<the test>", "exec"), names)
    return names["snippet"]()


def _clean_up() -> None:
    inproc_jobs.shutdown(WAIT)
    for thread in workers():
        thread.join(WAIT)
        assert not thread.is_alive(), f"{thread.name} was left behind"
    for alias in connections:
        apps.get_model("django_site", "Entry").objects.using(alias).all().delete()
    connections.close_all()
    gc.collect()
    for alias in connections:
        if connections[alias].vendor == "sqlite":
            assert not open_connections(alias), f"the file of {alias} was left open"
    assert not _troubles, "\n".join(_troubles)


def _serve() -> None:
    django.setup()
    sys.unraisablehook = lambda trouble: _troubles.append(
        f"{trouble.err_msg}: {trouble.object!r}: {trouble.exc_value!r}"
    )
    threading.excepthook = lambda trouble: _troubles.append(f"{trouble.thread}: {trouble.exc_value!r}")
    logging.getLogger("inproc_jobs").addHandler(_Keep())
    for alias in connections:
        with connections[alias].schema_editor() as editor:
            editor.create_model(apps.get_model("django_site", "Entry"))
    connections.close_all()
    while line := sys.stdin.readline():
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        logged.clear()
        _troubles.clear()
        inproc_jobs.restart()
        try:
            try:
                value = _perform(**json.loads(line))
            finally:
                _clean_up()
            _tell(value=value)
        except BaseException:
            _tell(error=traceback.format_exc())
        faulthandler.cancel_dump_traceback_later()


_serve()
