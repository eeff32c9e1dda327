"""The runners that are measured: one file each, with ``start() -> Contender``. Importing a file imports its library."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

WORKERS = 2
ROOM = 1_000_000  # waiting jobs; no measurement is to meet a bound

# By module; inproc_jobs without a framework, as in a plain script, in a Flask request, where it carries the app, and as
# the backend of a Django site's tasks.
NAMES = {
    "bare": "bare ThreadPoolExecutor",
    "inproc": "inproc_jobs",
    "inproc_flask": "inproc_jobs, Flask request",
    "inproc_django": "inproc_jobs, django.tasks",
    "flask_executor": "Flask-Executor, Flask request",
    "huey_memory": "huey, MemoryHuey",
    "dramatiq_stub": "dramatiq, StubBroker",
    "apscheduler_pool": "APScheduler 3, thread pool",
    "django_tasks_local": "django-tasks-local, django.tasks",
}


@dataclass(frozen=True)
class Contender:
    """A started runner with two workers.

    Attributes:
        enqueue: enqueues ``jobs.act`` with the arguments given, the way a user would.
        version: of its library.
        scope: what calls stand in: nothing, or a request of its own each time it is entered.
        polls: whether its workers look for work from time to time only, so that idle starts take long.
        close: ends it.
    """

    enqueue: Callable[..., Any]
    version: str = ""
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext
    polls: bool = False
    close: Callable[[], Any] = lambda: None


def start(module: str) -> Contender:
    """Start the contender of *module*. Raises ImportError if its library is not installed."""
    started: Contender = importlib.import_module(f"benchmarks.contenders.{module}").start()
    return started
