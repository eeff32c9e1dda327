"""inproc_jobs itself in a Flask request, its extension active."""

from __future__ import annotations

from dataclasses import replace

from flask import Flask

from inproc_jobs.flask import InprocJobs

from . import Contender, inproc


def start() -> Contender:
    app = Flask("benchmark")
    InprocJobs(app)
    return replace(inproc.start(), scope=app.test_request_context)
