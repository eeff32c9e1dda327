"""The pytest plugin: a runtime of its own for each test, and the mode that a marker names.

    @pytest.mark.inproc_jobs("inline")            # or "fake", "real"
    def test_sign_up(client): ...

    def test_mails(client, inproc_jobs):          # fake(), unless a marker says otherwise
        inproc_jobs.assert_enqueued(MailJob, "ada@example.org")

A test that leaves a run at work, or a thread, behind fails and names it. Without a marker and without the fixture the
mode is that of the ini option ``inproc_jobs_mode``, which is "real".
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

MODES = ("real", "inline", "fake")
THREADS = "inproc_jobs-worker"  # what the names of threads that perform runs begin with
ENDING = 5.0  # seconds that a thread may take to end after the test


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini("inproc_jobs_mode", 'how runs are performed in tests: "real", "inline" or "fake"', default="real")


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and check the ini option."""
    config.addinivalue_line("markers", 'inproc_jobs(mode): how runs are performed: "real", "inline" or "fake"')
    _check(config.getini("inproc_jobs_mode"), "inproc_jobs_mode")


@pytest.fixture(autouse=True)
def _inproc_jobs(request: pytest.FixtureRequest) -> Iterator[Any]:
    testing = importlib.import_module("inproc_jobs.testing")  # once it is needed
    before = set(threading.enumerate())
    with getattr(testing, _mode(request))() as mode:
        yield mode
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith(THREADS):
            thread.join(ENDING)
            if thread.is_alive():
                pytest.fail(f"the test has left {thread.name} at work behind", pytrace=False)


@pytest.fixture
def inproc_jobs(_inproc_jobs: Any) -> Any:
    """Runs are recorded: ``assert_enqueued``, ``enqueued``, ``run_all``; None in the modes "inline" and "real"."""
    return _inproc_jobs


def _mode(request: pytest.FixtureRequest) -> str:
    marker = request.node.get_closest_marker("inproc_jobs")
    if marker is not None:
        if len(marker.args) != 1 or marker.kwargs:
            raise pytest.UsageError(f"{request.node.nodeid}: inproc_jobs takes one mode: {', '.join(MODES)}")
        return _check(marker.args[0], f"{request.node.nodeid}: the marker inproc_jobs")
    if "inproc_jobs" in request.fixturenames:
        return "fake"
    return str(request.config.getini("inproc_jobs_mode"))


def _check(mode: object, what: str) -> str:
    if mode not in MODES:
        raise pytest.UsageError(f"{what} must be one of {', '.join(MODES)}, not {mode!r}")
    return str(mode)
