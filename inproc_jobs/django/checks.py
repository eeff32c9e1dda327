"""The system checks: what is wrong, or bound to go wrong, before the first job runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Concern
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from .. import _runtime
from .._definition import Definition
from . import conf

TAG = "inproc_jobs"
POOL_SIZE = 4  # connections of psycopg's pool where max_size is not given; psycopg_pool's default for min_size


def wire() -> None:
    """Have ``manage.py check`` make the checks."""
    for check in (check_settings, check_databases, check_uwsgi, check_jobs):
        register(check, TAG)
    register(check_connections, Tags.database)


def are_made() -> bool:
    """Return whether ``manage.py`` is what sets Django up; a server makes no checks."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "django.core.management":
        frame = frame.f_back
    return frame is not None


def insist() -> None:
    """Raise ImproperlyConfigured for what would keep every job from running as it should."""
    for message in (*check_settings(None), *check_uwsgi(None)):
        raise ImproperlyConfigured(message.msg if message.hint is None else f"{message.msg}. {message.hint}")


def check_settings(app_configs: Sequence[AppConfig] | None, **extra: Any) -> list[CheckMessage]:
    """E001: a setting is unknown or wrong."""
    trouble = conf.find_trouble()
    return [] if trouble is None else [Error(trouble, id="inproc_jobs.E001")]


def check_databases(app_configs: Sequence[AppConfig] | None, **extra: Any) -> list[CheckMessage]:
    """W001: each thread would have a database of its own. W002: fewer connections than threads."""
    found: list[CheckMessage] = []
    most = _runtime.settings().max_threads
    for alias, database in settings.DATABASES.items():
        if database.get("ENGINE", "").endswith("sqlite3") and _in_memory(str(database.get("NAME", ""))):
            found.append(
                Concern(
                    f"the database {alias!r} is SQLite in memory: each worker's thread sees an empty one of its own",
                    hint="Use a file, or cache=shared in its name.",
                    id="inproc_jobs.W001",
                )
            )
        pool = database.get("OPTIONS", {}).get("pool")
        if pool:
            size = pool.get("max_size") or pool.get("min_size", POOL_SIZE) if isinstance(pool, dict) else POOL_SIZE
            if size < most:
                found.append(_too_few(alias, f"its pool holds {size} connections", most))
    return found


def _in_memory(name: str) -> bool:
    return (":memory:" in name or "mode=memory" in name) and "cache=shared" not in name


def check_connections(
    app_configs: Sequence[AppConfig] | None, databases: Iterable[str] | None = None, **extra: Any
) -> list[CheckMessage]:
    """W002, with the limit that the server itself gives: ``manage.py check --database default``."""
    found: list[CheckMessage] = []
    most = _runtime.settings().max_threads
    for alias in databases or ():
        connection = connections[alias]
        question = _QUESTIONS.get(connection.vendor)
        if question is None:
            continue
        try:
            with connection.cursor() as cursor:
                cursor.execute(question)
                limit = int(cursor.fetchone()[-1])
        except DatabaseError:  # not there, or not ours to ask: Django's own checks say so
            continue
        if limit < most:
            found.append(_too_few(alias, f"its server allows {limit} connections", most))
    return found


_QUESTIONS = {"postgresql": "SHOW max_connections", "mysql": "SHOW VARIABLES LIKE 'max_connections'"}


def _too_few(alias: str, limit: str, most: int) -> CheckMessage:
    return Concern(
        f"the database {alias!r}: {limit}, and there may be {most} worker threads in each process",
        hint="Lower INPROC_JOBS_MAX_THREADS, or allow more connections.",
        id="inproc_jobs.W002",
    )


def check_uwsgi(app_configs: Sequence[AppConfig] | None, **extra: Any) -> list[CheckMessage]:
    """E002: uWSGI runs no threads of Python's unless told to."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return []
    options: dict[str, Any] = uwsgi.opt
    # Later ones say it themselves, and have threads with some Pythons in any case.
    if getattr(uwsgi, "has_threads", "enable-threads" in options or "threads" in options):
        return []
    return [
        Error(
            "uWSGI runs without threads, so no job would ever run",
            hint="Start it with --enable-threads.",
            id="inproc_jobs.E002",
        )
    ]


def check_jobs(app_configs: Sequence[AppConfig] | None, **extra: Any) -> list[CheckMessage]:
    """W003: more workers than threads. E003: an unknown database."""
    return [message for definition in _runtime.definitions() for message in _check_job(definition)]


def _check_job(definition: Definition) -> Iterable[CheckMessage]:
    options = definition.options
    most = _runtime.settings().max_threads
    if options.workers > most:
        yield Concern(
            f"{definition.name}: workers={options.workers}, and there are at most {most} worker threads",
            hint="Lower workers, or raise INPROC_JOBS_MAX_THREADS.",
            obj=definition.job,
            id="inproc_jobs.W003",
        )
    if options.database is not None and options.database not in settings.DATABASES:
        yield Error(
            f"{definition.name}: database={options.database!r} is none of {', '.join(map(repr, settings.DATABASES))}",
            obj=definition.job,
            id="inproc_jobs.E003",
        )
