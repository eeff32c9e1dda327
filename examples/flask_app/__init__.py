"""A small Flask app whose slow work runs in background jobs; this file is its factory."""

from __future__ import annotations

from flask import Flask
from flask.typing import ResponseReturnValue

from inproc_jobs.errors import RejectedError
from inproc_jobs.flask import InprocJobs

from .pages import pages

inproc_jobs = InprocJobs()


def create_app() -> Flask:
    """Make the app; ``FLASK_SMTP_PORT=2525`` in the environment sets ``SMTP_PORT``, and so on."""
    app = Flask(__name__)
    app.config.from_mapping(
        SMTP_HOST="127.0.0.1",
        SMTP_PORT=1025,
        INBOX=None,  # the folder in which serve.py keeps the mails it receives
        MAX_CONTENT_LENGTH=8 * 1024 * 1024,  # bytes
        INPROC_JOBS_SHUTDOWN_TIMEOUT=8.0,  # seconds to finish accepted jobs when the server stops
    )
    app.config.from_prefixed_env()
    inproc_jobs.init_app(app)
    app.register_blueprint(pages)
    app.register_error_handler(RejectedError, busy)
    return app


def busy(error: RejectedError) -> ResponseReturnValue:
    """Answer when a job was not accepted, because its queue is full or the server stops."""
    return "Busy: please try again in a moment.", 503, {"Retry-After": "5"}
