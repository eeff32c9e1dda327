"""Every server, stopped in every way; a short selection by default, the whole table with ``-m whole``."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from columns import DEADLINE, NotApplicable, Stop, columns, judge
from live import Row, Server
from rows import ROOT, ROWS, missing

BY_NAME = {row.name: row for row in ROWS}
SHORT = [
    ("gunicorn sync", "term"),
    ("gunicorn gthread", "term"),
    ("gunicorn gthread", "late"),
    ("gunicorn gthread", "group int"),
    ("gunicorn sync grace", "stuck"),
    ("uvicorn", "term"),
    ("uvicorn 2", "term"),
    ("uvicorn lifespan", "hung"),
    ("uwsgi die-on-term", "term"),
    ("uwsgi die-on-term", "locked"),
    ("uwsgi 2 lazy", "group"),
    ("uwsgi debian no threads", "refused"),
    ("script", "term"),
    ("script", "twice"),
    ("script shell", "end"),
    ("gevent before", "term"),
]
# In CI, on the Python for which the group "servers" is installed. Debian's uWSGI has a Python of its own.
NEEDED = {"granian wsgi", *(name for name, _ in SHORT if "debian" not in name)}
WHOLE = [(row.name, column) for row in ROWS for column in columns(row)]


GRACE = [
    ("gunicorn sync", "--graceful-timeout", "gunicorn's graceful_timeout"),
    ("uwsgi die-on-term", "--worker-reload-mercy", "uWSGI's worker-reload-mercy"),
    ("granian wsgi", "--workers-kill-timeout", "granian's workers_kill_timeout"),
    *(
        pytest.param(name, "--graceful-timeout", "gunicorn's graceful_timeout", marks=pytest.mark.whole)
        for name in ("gunicorn gthread", "gunicorn gevent", "gunicorn uvicorn")
    ),
]


def skip_if_missing(row: Row) -> None:
    if (needed := missing(row)) is not None:
        if row.name in NEEDED and os.environ.get("CI") and sys.version_info >= (3, 13):
            pytest.fail(f"{needed} is not installed")
        pytest.skip(f"{needed} is not installed")


def assert_good(row: Row, column: str) -> None:
    skip_if_missing(row)
    try:
        judge(row, column)
    except NotApplicable as error:
        pytest.skip(str(error))
    except AssertionError:
        if column in row.limits:
            pytest.xfail(row.limits[column])
        raise


@pytest.mark.parametrize(("name", "column"), SHORT)
def test_a_server_stops_on_time_and_loses_nothing(name: str, column: str):
    """What it accepted is done, and it ends as it would have without us."""
    assert_good(BY_NAME[name], column)


@pytest.mark.parametrize(("name", "option", "setting"), GRACE)
@pytest.mark.parametrize("seconds", [2, 20])
def test_a_grace_period_that_is_too_short_is_told_once(
    name: str, option: str, setting: str, seconds: int, tmp_path: Path
):
    """Where the server would kill before the deadline, the first enqueue of a process says what to set."""
    row = dataclasses.replace(BY_NAME[name], command=(*BY_NAME[name].command, option, str(seconds)))
    skip_if_missing(row)
    with Server(row, tmp_path, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=1, seconds=0)
        server.tell("chain", first=1, n=2, seconds=0)
        server.await_done(3)
        Stop(row.stop)(server)
        ended = server.ended(10)

    told = [line for line in ended.errors.splitlines() if f"shutdown_timeout is {DEADLINE:g} s" in line]
    assert len(told) == (seconds < DEADLINE)
    assert all(f"kills this process {seconds} s after" in line and setting in line for line in told)


def test_the_hooks_of_gunicorn_that_the_docs_show(tmp_path: Path):
    """The gunicorn.conf.py of the docs shuts down in the worker and tells the report."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "deploying.md").read_text(), re.DOTALL)
    config = tmp_path / "hooks.conf.py"
    config.write_text(next(block for block in blocks if "def worker_exit" in block))
    row = BY_NAME["gunicorn sync"]
    row = dataclasses.replace(row, command=(*row.command, "--config", str(config)))
    skip_if_missing(row)
    with Server(row, tmp_path, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=10, seconds=0.3)
        Stop(row.stop)(server)
        ended = server.ended(10)

    assert ended.done == Counter(range(10))
    assert re.search(r"jobs: \d+ finished, 0 discarded", ended.errors), ended.errors
    assert ended.status == 0


def test_the_docs_name_every_server():
    """No server of the table is without a word in the page about deploying."""
    page = (ROOT / "docs" / "deploying.md").read_text().lower()

    assert not {row.family for row in ROWS if row.family not in page}


@pytest.mark.whole
@pytest.mark.parametrize(("name", "column"), WHOLE)
def test_every_server_stops_on_time_and_loses_nothing(name: str, column: str):
    """The whole table, a cell at a time; ``python tests/servers`` prints it."""
    assert_good(BY_NAME[name], column)
