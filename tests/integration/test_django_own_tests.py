"""Django's own tests of ``django.tasks``, from its source distribution, run against our backend in place of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django_releases import installed, own_tests

django = pytest.importorskip("django")
if django.VERSION < (6, 0):
    pytest.skip("django.tasks came with Django 6.0", allow_module_level=True)

# Those that say what the immediate backend is not able to do, or that an exception reaches the caller.
FAIL = {
    "test_cannot_get_result": "asserts that results cannot be retrieved: here they can",
    "test_cannot_refresh_result": "asserts that results cannot be refreshed: here they can",
    "test_cannot_pass_run_after": "asserts that run_after is refused: here it is not",
    "test_throws_keyboard_interrupt": "asserts that a task's KeyboardInterrupt reaches the caller: here it is its failure",
}

# Both have a task's run behind them when enqueue() returns, as those tests expect.
BACKENDS = """
import inproc_jobs
from django.tasks.backends.base import BaseTaskBackend
from inproc_jobs import _report
from inproc_jobs.django.tasks import InprocBackend

class ThreadsBackend(InprocBackend):
    def enqueue(self, task, args, kwargs):
        result = super().enqueue(task, args, kwargs)
        assert inproc_jobs.drain(10)
        return self.get_result(result.id)

class InlineBackend(InprocBackend):
    aenqueue = BaseTaskBackend.aenqueue  # in a thread, for the task runs in it

    def _hand_over(self, execution):
        task = execution.result.task
        job = self._shared.job(task.queue_name).__job__
        try:
            job.queue.perform_now(self._shared.options(task), (execution,), {})
        except BaseException:
            assert execution.result.is_finished
"""

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = False
INSTALLED_APPS = ["inproc_jobs.django"]
DATABASES = {
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{alias}.sqlite3"} for alias in ("default", "other")
}
"""

RUN = """
import json
import django
from django.test.runner import DiscoverRunner

class Runner(DiscoverRunner):
    def suite_result(self, suite, result, **kwargs):
        failed = [getattr(test, "test_case", test) for test, _ in result.failures + result.errors]
        names = sorted({test.id().split(".")[-1] for test in failed})
        print(json.dumps({"version": django.__version__, "ran": result.testsRun, "failed": names}))

django.setup()
Runner(verbosity=0).run_tests(["tasks"])
"""


def run_own_tests(place: Path, version: str, backend: str, first_on_path: Path | None = None) -> tuple[dict, str]:
    """Run the tests of that *version* and return what they answer, and what they write about failures."""
    for file in own_tests(version).glob("*.py"):
        text = file.read_text().replace("django.tasks.backends.immediate.ImmediateBackend", f"backends.{backend}")
        text = text.replace(
            "from django.tasks.backends.immediate import ImmediateBackend",
            f"from backends import {backend} as ImmediateBackend",
        )
        (place / "tasks").mkdir(exist_ok=True)
        (place / "tasks" / file.name).write_text(text)
    for name, text in (("backends", BACKENDS), ("settings", SETTINGS), ("run", RUN)):
        (place / f"{name}.py").write_text(text)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(first_on_path or "")}
    ended = subprocess.run(
        [sys.executable, "run.py"], cwd=place, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


@pytest.mark.parametrize("backend", ["ThreadsBackend", "InlineBackend"])
def test_the_installed_django_finds_its_backend_replaced(backend: str, tmp_path: Path):
    """All of Django's own tests pass, on worker threads and in the caller's, but for those named above."""
    answer, errors = run_own_tests(tmp_path, django.__version__, backend)

    assert answer["failed"] == sorted(FAIL), errors
    assert answer["version"] == django.__version__
    assert answer["ran"] >= 75


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ThreadsBackend", "InlineBackend"])
def test_django_6_0_finds_its_backend_replaced(backend: str, tmp_path: Path):
    """The same for the newest 6.0, which knows no task_class."""
    folder, version = installed("6.0")

    answer, errors = run_own_tests(tmp_path, version, backend, folder)

    assert answer["failed"] == sorted(FAIL), errors
    assert answer["version"] == version
    assert answer["ran"] >= 75
