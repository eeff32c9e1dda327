"""The Flask extension: settings from the app's config, an app context around each attempt, and ``flask jobs``."""

from __future__ import annotations

import importlib
import weakref

import click
import flask.globals
from flask import Flask
from flask.cli import with_appcontext

from . import _lifecycle, _runtime
from ._carriers import carry, leave_behind
from ._listing import listing
from ._options import MODE_KEY, config_key, from_config, mode_of
from .signals import (
    job_cancelled,
    job_discarded,
    job_enqueued,
    job_failed,
    job_overran,
    job_rejected,
    job_retried,
    job_started,
    job_succeeded,
    shutdown_finished,
    shutdown_started,
)

__all__ = [
    "InprocJobs",
    "job_cancelled",
    "job_discarded",
    "job_enqueued",
    "job_failed",
    "job_overran",
    "job_rejected",
    "job_retried",
    "job_started",
    "job_succeeded",
    "shutdown_finished",
    "shutdown_started",
]

_app_context = flask.globals._cv_app
_apps: weakref.WeakSet[Flask] = weakref.WeakSet()  # those with the extension


class InprocJobs:
    """Runs jobs beside a Flask app: ``InprocJobs(app)``, or ``init_app(app)`` in an application factory.

    Each attempt of a job runs in an app context of its own, of the app that was current at the enqueue; never in the
    request's. Outside of any app context it is the app with this extension, if there is only one.
    ``teardown_appcontext`` functions run after each attempt. The extension keeps no state; it can serve several apps.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings from *app*'s config and add ``flask jobs``. Starts nothing.

        Config keys, which are settings of the process; the last app to set one decides:
            INPROC_JOBS_SHUTDOWN_TIMEOUT: seconds, from the first sign of a stop, to finish accepted work; 8.0.
            INPROC_JOBS_MAX_THREADS: the most worker threads of all job classes together; 32.
            INPROC_JOBS_MAX_SCHEDULED: the most runs that may wait for their time or their next attempt; 200,000.
            INPROC_JOBS_MODE: "real", or for tests "inline" or "fake"; see ``inproc_jobs.testing``.

        Raises:
            RuntimeError: *app* has the extension already.
            TypeError, ValueError: a key that begins with INPROC_JOBS_ is unknown, or its value is not allowed.
        """
        if "inproc_jobs" in app.extensions:
            raise RuntimeError(
                f"{app!r} already has InprocJobs: call InprocJobs(app) or init_app(app) once for each app, not both"
            )
        mode = mode_of("app.config", app.config)
        _runtime.apply_settings("app.config", from_config("app.config", app.config), config_key)
        if MODE_KEY in app.config:
            importlib.import_module("inproc_jobs.testing").use(mode)
        app.extensions["inproc_jobs"] = self
        app.cli.add_command(jobs_cli)
        _apps.add(app)
        _lifecycle.watch_signals()


def _app() -> Flask | None:
    """Return the app that enqueues."""
    context = _app_context.get(None)  # current_app takes twice as long, and ten times outside of any context
    if context is not None:
        return context.app
    apps = list(_apps)
    return apps[0] if len(apps) == 1 else None


carry(_app, Flask.app_context)
# The caller's own contexts must not follow: they are torn down by the time the job runs. Flask 3.2 merges the two.
leave_behind(*filter(None, (getattr(flask.globals, name, None) for name in ("_cv_app", "_cv_request"))))


@click.command("jobs")
@with_appcontext
def jobs_cli() -> None:
    """List the job classes with their options."""
    for line in listing():
        click.echo(line)
