"""The backend of ``django.tasks``: all of ``inside_django_tasks.py``, and what takes processes of its own."""

from __future__ import annotations

import ast
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django_releases import installed
from process import HEAD, TIMEOUT, Process, run

django = pytest.importorskip("django")
without_tasks = pytest.mark.skipif(django.VERSION >= (6, 0), reason="django.tasks came with Django 6.0")
with_tasks = pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks came with Django 6.0")

INSIDE = Path(__file__).with_name("inside_django_tasks.py")
NAMES = [one.name for one in ast.parse(INSIDE.read_text()).body if getattr(one, "name", "").startswith("test_")]

SITE = """
from django.conf import settings
OPTIONS = {}
settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["inproc_jobs.django"],
    TASKS={"default": {"BACKEND": "inproc_jobs.django.tasks.InprocBackend", "OPTIONS": OPTIONS}},
)
import django
django.setup()
"""

TASKS = """
from django.tasks import task

@task
def tell(word, seconds=0.0):
    pause(seconds)
    say("done", word)
    return word

@task
def hang():
    say("hangs")
    threading.Semaphore(0).acquire()
"""


def run_inside(place: Path, first_on_path: Path | None = None) -> tuple[dict[str, list[str]], str]:
    """Run the tests that are inside, and return what was wrong with each by its name, and all that was written."""
    report = place / "report.xml"
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:logging", f"--junit-xml={report}", "-W", "error")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(INSIDE)],
        env={
            **os.environ,
            "TZ": "Europe/Vienna",
            "DATABASE": str(place / "db.sqlite3"),
            "PYTHONPATH": str(first_on_path or ""),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    troubles: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        said = [f"{case.get('name')}: {one.text}" for one in case if one.tag in ("failure", "error")]
        troubles.setdefault(case.get("name", "").split("[")[0], []).extend(said)
    return troubles, ended.stdout


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str]:
    return run_inside(tmp_path_factory.mktemp("inside"))


@with_tasks
@pytest.mark.parametrize("name", NAMES)
def test_inside(name: str, inside: tuple[dict[str, list[str]], str]):
    """A test of ``inside_django_tasks.py``: they share one process, for this one must know nothing of Django."""
    troubles, written = inside

    assert name in troubles, written
    assert not troubles[name], "\n\n".join(troubles[name])


@with_tasks
@pytest.mark.slow
def test_inside_with_django_6_0(tmp_path: Path):
    """All of them hold for Django 6.0, but those about options of a single task."""
    troubles, written = run_inside(tmp_path, installed("6.0")[0])

    assert sorted(troubles) == sorted(NAMES), written
    assert not any(troubles.values()), written


@without_tasks
def test_an_older_django_is_told_what_is_missing():
    """On Django 5.2 the module says what it needs, and the app works without it."""
    ended = run(f"{SITE.replace('TASKS=', 'UNUSED=')}\nimport inproc_jobs.django.tasks", head=HEAD)

    assert ended.status == 1
    assert ended.errors.splitlines()[-1] == (
        "ImportError: inproc_jobs.django.tasks needs django.tasks, which came with Django 6.0"
    )


@with_tasks
def test_defining_tasks_starts_nothing():
    """A module of tasks can be imported anywhere: no thread, and a process that ends as it would have."""
    ended = run(
        """
        say(*(thread.name for thread in threading.enumerate()))
        from inproc_jobs import _runtime
        say(_runtime._process.existing())
        """,
        head=HEAD + SITE + TASKS,
    )

    assert (ended.lines, ended.errors, ended.status) == (["MainThread", "None"], "", 0)


@with_tasks
def test_the_process_finishes_its_tasks_at_its_end():
    """Tasks that wait when the script ends are performed."""
    ended = run("for number in range(20): tell.enqueue(number, seconds=0.02)", head=HEAD + SITE + TASKS)

    assert (ended.numbers(), ended.errors, ended.status) == (list(range(20)), "", 0)


@with_tasks
def test_what_cannot_be_finished_at_the_end_is_named():
    """A task that hangs, and one behind it, are FAILED in Django's log when the deadline has passed."""
    ended = run(
        """
        import logging
        logging.basicConfig(format="%(levelname)s %(message)s")
        configure(shutdown_timeout=0.5)
        say(hang.enqueue().id, tell.enqueue(1).id)
        """,
        head=HEAD + SITE.replace("OPTIONS = {}", 'OPTIONS = {"workers": 1}') + TASKS,
    )

    ids = next(line.split() for line in ended.lines if line != "hangs")
    named = re.findall(r"^ERROR Task id=(\w+) path=__main__\.(\w+) state=FAILED$", ended.errors, re.M)
    assert sorted(named) == sorted(zip(ids, ("hang", "tell"), strict=True))
    assert len(re.findall(r"RunDiscardedError: <Run .*> was discarded: shutdown$", ended.errors, re.M)) == 2


@with_tasks
def test_a_forked_child_has_results_of_its_own():
    """The child knows none of its parent's results, has its own, and performs its own tasks only."""
    ended = run(
        """
        import warnings
        from django.tasks.exceptions import TaskResultDoesNotExist
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which is what is tested
        parents = tell.enqueue("parent", seconds=0.5)
        child = os.fork()
        if child == 0:
            try:
                parents.refresh()
            except TaskResultDoesNotExist:
                say("unknown")
            own = tell.enqueue("child")
            inproc_jobs.drain(5)
            own.refresh()
            say("child", own.status, own.return_value)
            os._exit(0)
        os.waitpid(child, 0)
        inproc_jobs.drain(5)
        parents.refresh()
        say("parent", parents.status, parents.return_value)
        """,
        head=HEAD + SITE + TASKS,
    )

    assert ended.lines == [
        "unknown",
        "done child",
        "child SUCCESSFUL child",
        "done parent",
        "parent SUCCESSFUL parent",
    ]
    assert (ended.errors, ended.status) == ("", 0)


@with_tasks
def test_a_fork_beside_threads_that_ask_for_results_holds_nothing_up():
    """Whatever lock of ours a thread of the parent holds at the fork, the child enqueues and gets its result.

    They only ask for results: the locks of Django's signals and of asgiref would stay held in the child.
    """
    ended = run(
        """
        import faulthandler, warnings
        from datetime import timedelta
        from django.tasks import task_backends
        warnings.simplefilter("ignore", DeprecationWarning)
        backend = task_backends["default"]
        parents = tell.using(run_after=timedelta(hours=1)).enqueue(0).id

        def ask():
            while True: backend.get_result(parents)

        for _ in range(3): threading.Thread(target=ask, daemon=True).start()
        for number in range(30):
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(10, exit=True)
                own = tell.enqueue(number)
                inproc_jobs.drain(5)
                own.refresh()
                os._exit(own.status != "SUCCESSFUL")
            assert os.waitpid(child, 0)[1] == 0
        os._exit(0)
        """,
        head=HEAD + SITE + TASKS,
        timeout=60,
    )

    assert (ended.errors, ended.status) == ("", 0)
    assert ended.numbers() == list(range(30))


@with_tasks
@pytest.mark.parametrize(("task", "number"), [("give", 2_000), ("fail", 400)])
def test_memory_is_bounded_by_the_results_that_are_kept(task: str, number: int):
    """10,000 tasks leave no more behind than the first 2,000 did: as many results as max_results allows."""
    ended = run(
        f"""
        import gc, logging, resource
        logging.disable()

        def measure():
            for number in range({number}):
                {task}.enqueue([number] * 5)
            assert inproc_jobs.drain(20)
            gc.collect()
            say(sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

        for _ in range(5): measure()
        """,
        head=HEAD + SITE.replace("OPTIONS = {}", f"OPTIONS = {{'max_results': {number // 2}}}") + MEMORY_TASKS,
        timeout=60,
    )

    (blocks_before, kilobytes_before), *_, (blocks, kilobytes) = (map(int, line.split()) for line in ended.lines)
    assert (ended.errors, ended.status) == ("", 0)
    assert blocks < blocks_before + 1_000
    assert kilobytes < kilobytes_before + 4_000


MEMORY_TASKS = """
from django.tasks import task

@task
def give(value):
    return value

@task
def fail(value):
    raise ValueError("x" * 20_000)
"""

APP = f"""
import os, sys, threading
{SITE}
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.tasks import task
from django.urls import path

@task
def tell(number, seconds):
    threading.Event().wait(seconds)
    os.write(1, f"done {{number}}\\n".encode())

def enqueue(request, first):
    results = [tell.enqueue(number, 0.02) for number in range(first, first + 5)]
    return HttpResponse(f"{{os.getpid()}} {{results[0].status}}")

settings.ROOT_URLCONF = __name__
settings.ALLOWED_HOSTS = ["*"]
urlpatterns = [path("<int:first>", enqueue)]
app = get_wsgi_application()
"""

CONF = """
import os, threading
control_socket_disable = True

def when_ready(server):
    os.write(1, f"ready with {threading.active_count()} thread\\n".encode())

def post_worker_init(worker):
    os.write(1, b"worker\\n")
"""


@with_tasks
def test_a_preloaded_app_starts_nothing_in_gunicorns_master(tmp_path: Path):
    """The master that has imported the tasks has no thread; each worker performs what it enqueues, to the end."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONF)
    command = (sys.executable, "-m", "gunicorn", "--config", "conf.py", "--bind", f"unix:{tmp_path}/socket")
    with Process(*command, "--preload", "--workers", "2", "app:app", cwd=str(tmp_path), chatty=True) as server:
        server.wait_for("ready with 1 thread")
        for _ in range(2):  # a signal that comes while gunicorn still starts them passes one by
            server.wait_for("worker")
        workers = {}
        for first in range(0, 100, 5):
            pid, status = get(tmp_path / "socket", f"/{first}").split()
            assert status in ("READY", "RUNNING")
            workers[pid] = True
        server.signal(signal.SIGTERM)
        ended = server.ended()

    assert ended.numbers() == list(range(100))
    assert str(server.pid) not in workers
    assert ended.status == 0


def get(place: Path, path: str) -> str:
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(TIMEOUT)
    connection.sock.connect(str(place))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()
