"""The settings of Django and the checks: what is wrong is said before the first job runs, by ``manage.py`` or the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_site import Site, run
from postgres import Postgres

SQLITE = "django.db.backends.sqlite3"

# What a server does with a site.
SERVE = """
from django.core.wsgi import get_wsgi_application
get_wsgi_application()
import threading, inproc_jobs._runtime
print("serves with", inproc_jobs._runtime.settings(), threading.active_count())
"""

# What pieces of code begin with.
BEGIN = """
@contextlib.contextmanager
def changed(**changes):
    "Change settings that override_settings warns about, for nothing here connects to what they name."
    before = {name: getattr(settings, name) for name in changes}
    for name, value in changes.items():
        setattr(settings, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)

def found(*tags):
    return sorted([message.id, message.msg] for message in checks.run_checks(tags=tags or ["inproc_jobs"]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(begin=BEGIN, DATABASES=files(tmp_path_factory.mktemp("checks"))) as site:
        yield site


def files(folder: Path) -> dict[str, object]:
    return {"default": {"ENGINE": SQLITE, "NAME": str(folder / "db")}}


WRONG = {
    "a value": ({"INPROC_JOBS_MAX_THREADS": 0}, "settings: INPROC_JOBS_MAX_THREADS must be from 1 to 10000, not 0"),
    "a name": ({"INPROC_JOBS_MAX_THREAD": 8}, "settings: unknown key 'INPROC_JOBS_MAX_THREAD'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_manage_py_check_finds_a_wrong_setting(wrong, tmp_path):
    """A wrong setting is an error of the system check, not a traceback."""
    settings, message = WRONG[wrong]

    ended = run("-m", "django", "check", DATABASES=files(tmp_path), **settings)

    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout
    assert f"(inproc_jobs.E001) {message}" in ended.stdout


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_does_not_start_with_a_wrong_setting(wrong, tmp_path):
    """A server makes no checks, so the same error is raised there."""
    settings, message = WRONG[wrong]

    ended = run("-c", SERVE, DATABASES=files(tmp_path), **settings)

    assert ended.returncode == 1
    assert f"django.core.exceptions.ImproperlyConfigured: {message}" in ended.stdout


def test_the_settings_are_those_of_the_process(tmp_path):
    """INPROC_JOBS_* are read when Django starts, which starts no thread."""
    ended = run("-c", SERVE, DATABASES=files(tmp_path), INPROC_JOBS_MAX_THREADS=3, INPROC_JOBS_SHUTDOWN_TIMEOUT=2.5)

    assert re.search(r"^serves with Settings\(shutdown_timeout=2.5, max_threads=3, .*\) 1$", ended.stdout, re.M)


def test_commands_are_quiet_and_start_no_thread(tmp_path):
    """A site without faults gets no message, and no command of Django's starts anything of this package."""
    commands = ["check", "migrate", "makemigrations --check", "showmigrations", "shell -c pass", "jobs"]
    manage = (
        "import threading; from django.core.management import execute_from_command_line as manage\n"
        f"for command in {commands}: manage(['', *command.split()])\n"
        "print('threads:', threading.active_count())"
    )

    ended = run("-W", "error", "-c", manage, DATABASES=files(tmp_path))

    assert ended.returncode == 0, ended.stdout
    assert "inproc_jobs." not in ended.stdout
    assert ended.stdout.endswith("threads: 1\n")


def test_overridden_settings_take_effect_and_are_undone(site):
    """override_settings changes how many threads there are, from the next enqueue on, and back."""
    seen = site.call("""
        @job(workers=4)
        def hold(gate):
            gate()

        def at_once(expected):
            "Return how many threads have taken four runs when the *expected* ones have."
            gate = Gate()
            runs = [hold.perform_async(gate) for _ in range(4)]
            gate.entered(expected)
            busy = inproc_jobs.stats()[hold.__job__.name].busy
            gate.open()
            for run in runs:
                run.result(WAIT)
            return busy

        limits = []
        limit = lambda: limits.append(inproc_jobs._runtime.settings().max_threads)
        limit()
        with override_settings(INPROC_JOBS_MAX_THREADS=1):
            limit()
            one = at_once(1)
            with override_settings(INPROC_JOBS_MAX_THREADS=2, INPROC_JOBS_SHUTDOWN_TIMEOUT=1.0):
                limit()
            limit()
        limit()
        return [limits, one, at_once(4)]
    """)

    assert seen == [[32, 1, 2, 1, 32], 1, 4]


def test_an_overridden_setting_that_is_wrong_is_found(site):
    """It is not applied, and the check says what is wrong with it."""
    seen = site.call("""
        with override_settings(INPROC_JOBS_MAX_THREADS=0):
            wrong = [found(), inproc_jobs._runtime.settings().max_threads]
        with override_settings(INPROC_JOBS_THREADS=8):
            unknown = found()
        return [wrong, unknown, found(), inproc_jobs._runtime.settings().max_threads]
    """)

    (wrong, kept), unknown, after, restored = seen
    assert wrong == [["inproc_jobs.E001", "settings: INPROC_JOBS_MAX_THREADS must be from 1 to 10000, not 0"]]
    assert [identifier for identifier, _ in unknown] == ["inproc_jobs.E001"]
    assert (kept, after, restored) == (32, [], 32)


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        (":memory:", True),
        ("file::memory:", True),
        ("file:x?mode=memory", True),
        ("file:x?mode=memory&cache=shared", False),
        ("file::memory:?cache=shared", False),
        ("memory.sqlite3", False),
    ],
)
def test_sqlite_in_memory_is_warned_about(site, name, warned):
    """Each thread would have a database of its own."""
    messages = site.call(
        """
        with changed(DATABASES={"x": {"ENGINE": "django.db.backends.sqlite3", "NAME": name}}):
            return found()
        """,
        name=name,
    )

    assert [identifier for identifier, _ in messages] == ["inproc_jobs.W001"] * warned
    assert not warned or "the database 'x' is SQLite in memory" in messages[0][1]


@pytest.mark.parametrize(
    ("pool", "holds"),
    [
        (True, 4),
        ({"min_size": 2}, 2),
        ({"min_size": 2, "max_size": 7}, 7),
        ({"max_size": 8}, None),
        ({"min_size": 8}, None),
        (False, None),
        (None, None),
    ],
)
def test_a_pool_smaller_than_the_threads_is_warned_about(site, pool, holds):
    """Where psycopg's pool has fewer connections than there may be threads, some would wait for one."""
    messages = site.call(
        """
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "OPTIONS": {"pool": pool}}
        with changed(DATABASES={"x": database}), override_settings(INPROC_JOBS_MAX_THREADS=8):
            return found()
        """,
        pool=pool,
    )

    expected = (
        f"the database 'x': its pool holds {holds} connections, and there may be 8 worker threads in each process"
    )
    assert messages == ([] if holds is None else [["inproc_jobs.W002", expected]])


def test_a_server_with_too_few_connections_is_warned_about():
    """With --database the check asks the server how many connections it allows."""
    with Postgres(max_connections=12) as server:
        few, enough = (
            run(
                *("-m", "django", "check", "--database", "default"),
                DATABASES={"default": server.database},
                INPROC_JOBS_MAX_THREADS=threads,
            )
            for threads in (13, 12)
        )
        left = server.connections_left()

    assert (few.returncode, enough.returncode, left) == (0, 0, 0)
    assert (
        "(inproc_jobs.W002) the database 'default': its server allows 12 connections,"
        " and there may be 13 worker threads in each process"
    ) in few.stdout
    assert "inproc_jobs" not in enough.stdout


def test_a_server_that_is_not_there_is_no_matter_of_this_check(tmp_path):
    """Django's own checks say what they have to say about it."""
    nowhere = {"ENGINE": "django.db.backends.postgresql", "HOST": str(tmp_path), "NAME": "x", "USER": "x"}

    ended = run("-m", "django", "check", "--database", "default", DATABASES={"default": nowhere})

    assert "inproc_jobs" not in ended.stdout.split("Traceback")[0]


def test_more_workers_than_threads_are_warned_about(site):
    """A job class cannot have more workers at once than the process has threads."""
    messages = site.call("""
        @job(workers=5, name="five")
        def five():
            pass

        with override_settings(INPROC_JOBS_MAX_THREADS=4):
            few = found()
        return [few, found()]
    """)

    assert messages == [[["inproc_jobs.W003", "five: workers=5, and there are at most 4 worker threads"]], []]


def test_an_unknown_database_of_a_job_is_an_error(site):
    """A run that waits for a transaction of it could not be enqueued."""
    messages = site.call("""
        @job(database="nowhere", name="lost")
        def lost():
            pass

        return found()
    """)

    assert messages == [["inproc_jobs.E003", "lost: database='nowhere' is none of 'default'"]]


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ({"opt": {}}, True),
        ({"opt": {"enable-threads": True}}, False),
        ({"opt": {"threads": "2"}}, False),
        ({"opt": {}, "has_threads": 1}, False),  # 2.0.31 has them with Python 3.13, without being told
        ({"opt": {}, "has_threads": 0}, True),
    ],
)
def test_uwsgi_without_threads_is_an_error(site, attributes, fault):
    """Without threads of Python's no job would ever run; uWSGI is not ours, so a stand-in has its name here."""
    messages = site.call(
        """
        sys.modules["uwsgi"] = types.SimpleNamespace(**attributes)
        try:
            return found()
        finally:
            del sys.modules["uwsgi"]
        """,
        attributes=attributes,
    )

    assert [identifier for identifier, _ in messages] == ["inproc_jobs.E002"] * fault


def test_a_site_does_not_start_under_uwsgi_without_threads(tmp_path):
    """It makes no checks, so the same error is raised there."""
    stand_in = "import sys, types; sys.modules['uwsgi'] = types.SimpleNamespace(opt={})"

    ended = run("-c", f"{stand_in}\n{SERVE}", DATABASES=files(tmp_path))

    assert ended.returncode == 1
    assert "ImproperlyConfigured: uWSGI runs without threads" in ended.stdout
    assert "Start it with --enable-threads." in ended.stdout


def test_manage_py_jobs_lists_and_checks(tmp_path):
    """`manage.py jobs` names the job classes with their options and exits with 1 where a check finds an error."""
    (tmp_path / "errands.py").write_text(
        "from inproc_jobs import Job, job\n"
        "class Mail(Job, workers=3):\n"
        "    def perform(self): ...\n"
        "@job(database='nowhere')\n"
        "def errand(): ...\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom django.core.management import *\n"

    good = run("-m", "django", "jobs", DATABASES=files(tmp_path))
    bad = run("-c", f"{code}execute_from_command_line(['', 'jobs', 'errands'])", DATABASES=files(tmp_path))

    assert good.returncode == 0, good.stdout
    assert "No job classes" in good.stdout
    assert bad.returncode == 1
    assert re.search(r"^errands\.Mail\n    workers +3  \(set\)\n    max_queue +10000\n", bad.stdout, re.M)
    assert "(inproc_jobs.E003) errands.errand: database='nowhere' is none of 'default'" in bad.stdout
