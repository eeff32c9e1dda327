"""Flask-Executor with threads, in a Flask request: outside of one it cannot be called."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from flask import Flask
from flask_executor import Executor

from .. import jobs
from . import WORKERS, Contender


def start() -> Contender:
    app = Flask("benchmark")
    app.config.update(EXECUTOR_TYPE="thread", EXECUTOR_MAX_WORKERS=WORKERS)
    executor = Executor(app)
    with app.app_context():
        enqueue = partial(executor.submit, jobs.act)
    return Contender(enqueue, version("Flask-Executor"), scope=app.test_request_context, close=executor.shutdown)
