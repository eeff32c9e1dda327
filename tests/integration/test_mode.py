"""INPROC_JOBS_MODE in the configuration of Flask and of Django."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

JOB = """
    import threading
    from inproc_jobs import Job

    class Mail(Job):
        def perform(self):
            return threading.current_thread() is threading.main_thread()
"""
FLASK = """
    from flask import Flask
    from inproc_jobs.flask import InprocJobs

    app = Flask("site")
    app.config["INPROC_JOBS_MODE"] = {mode!r}
    InprocJobs(app)
"""
DJANGO = """
    import django
    from django.conf import settings

    settings.configure(INSTALLED_APPS=["inproc_jobs.django"], INPROC_JOBS_MODE={mode!r})
    django.setup()
"""


def python(*parts: str) -> subprocess.CompletedProcess[str]:
    code = "".join(map(textwrap.dedent, parts))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("framework", [FLASK, DJANGO], ids=["flask", "django"])
@pytest.mark.parametrize(
    ("mode", "said", "warns"),
    [("inline", "succeeded True", True), ("fake", "queued", True), ("real", "succeeded False", False)],
)
def test_the_mode_is_that_of_the_configuration(framework: str, mode: str, said: str, warns: bool):
    """Runs are performed in the caller's thread, not at all, or in a worker's; and what is no test is warned."""
    tell = """
        run = Mail.perform_async()
        result = [run.result(5)] if MODE != "fake" else []
        print(run.state, *result)
    """

    ended = python(JOB, framework.format(mode=mode), f"MODE = {mode!r}", tell)

    assert ended.stdout.strip() == said, ended.stderr
    assert ("no test runs" in ended.stderr) is warns


@pytest.mark.parametrize("framework", [FLASK, DJANGO], ids=["flask", "django"])
def test_a_mode_that_is_none_is_refused(framework: str):
    """A misspelt mode ends the start, with what is allowed."""
    ended = python(framework.format(mode="Inline"))

    assert ended.returncode == 1
    assert "INPROC_JOBS_MODE must be one of 'real', 'inline', 'fake', not 'Inline'" in ended.stderr


def test_override_settings_changes_the_mode():
    """In Django's tests the mode holds as long as the override."""
    tell = """
        from django.test import override_settings

        with override_settings(INPROC_JOBS_MODE="inline"):
            print(Mail.perform_async().result(5))
        print(Mail.perform_async().result(5))
    """

    ended = python(JOB, DJANGO.format(mode="real"), tell)

    assert ended.stdout.split() == ["True", "False"], ended.stderr
