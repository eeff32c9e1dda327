"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import importlib.util

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import threading
import pytest
from inproc_jobs import Job, RunState, job, stats
from inproc_jobs.testing import assert_enqueued, assert_not_enqueued, enqueued

class Mail(Job):
    def perform(self, to="ada@example.org"):
        return to
"""


@pytest.fixture
def run_tests(pytester: pytest.Pytester):
    """Run a file of tests and return how many passed, failed and so on, and the output."""

    def run(source: str, *arguments: str):
        pytester.makepyfile(test_it=HEAD + source)
        result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *arguments)
        outcomes = result.parseoutcomes()
        outcomes.pop("warning", None)
        outcomes.pop("warnings", None)
        return outcomes, result.stdout.str()

    return run


def test_modes_by_marker(run_tests):
    """A marker names the mode; of a test, a class or a module."""
    outcomes, _ = run_tests("""
@pytest.mark.inproc_jobs("inline")
def test_inline():
    assert Mail.perform_async().state is RunState.SUCCEEDED

@pytest.mark.inproc_jobs("fake")
class TestFake:
    def test_fake(self):
        Mail.perform_async()
        assert_enqueued(Mail)

def test_real():
    assert Mail.perform_async().result(5) == "ada@example.org"
""")

    assert outcomes == {"passed": 3}


def test_the_fixture(run_tests):
    """The fixture records, unless a marker says otherwise."""
    outcomes, _ = run_tests("""
def test_fake(inproc_jobs):
    Mail.perform_async()
    inproc_jobs.assert_enqueued(Mail)
    assert len(inproc_jobs.run_all()) == 1

@pytest.mark.inproc_jobs("inline")
def test_inline(inproc_jobs):
    assert inproc_jobs is None
    assert Mail.perform_async().state is RunState.SUCCEEDED
""")

    assert outcomes == {"passed": 2}


def test_the_ini_option(run_tests):
    """inproc_jobs_mode is the mode of all tests that say nothing."""
    source = "def test_it(): assert Mail.perform_async().state is RunState.SUCCEEDED"

    assert run_tests(source, "-o", "inproc_jobs_mode=inline")[0] == {"passed": 1}


def test_each_test_has_a_runtime_of_its_own(run_tests):
    """Counts begin anew, and what a test has delayed does not run in the next."""
    outcomes, _ = run_tests("""
@pytest.mark.parametrize("number", range(3))
def test_counts(number):
    assert stats()[Mail.__job__.name].scheduled == 0
    Mail.perform_in(60)
    assert Mail.perform_async().wait(5)
    assert stats()[Mail.__job__.name].succeeded == 1
""")

    assert outcomes == {"passed": 3}


def test_a_run_that_is_left_at_work_is_named(run_tests):
    """A test that leaves a run at work fails, and the next one does not."""
    outcomes, output = run_tests("""
import inproc_jobs._modes
inproc_jobs._modes.TIMEOUT = 0.1
over = threading.Event()

@job
def hang():
    over.wait(10)

def test_first():
    hang.perform_async()

def test_second():
    over.set()
""")

    assert outcomes == {"passed": 2, "errors": 1}
    assert "still at work after 0.1 s: <Run" in output
    assert "hang: " in output


@pytest.mark.parametrize(
    "assertion",
    [
        "assert_enqueued(Mail)",
        "inproc_jobs.assert_enqueued(Mail)",
        "Mail.perform_async(); assert_not_enqueued()",
        "Mail.perform_async(); inproc_jobs.assert_not_enqueued(Mail)",
    ],
)
def test_the_traceback_of_an_assertion_ends_in_the_test(run_tests, assertion):
    """What the kit does to find out is of no interest to whoever reads it."""
    outcomes, output = run_tests(f"def test_it(inproc_jobs):\n    {assertion}\n")

    assert outcomes == {"failed": 1}
    assert f"    {assertion}" in output
    assert "testing.py" not in output


def test_wrong_markers(run_tests):
    """A mode that is none is an error that says which there are."""
    wrong = ['"Inline"', "", '"inline", "fake"', "5", 'mode="inline"']
    tests = [f"@pytest.mark.inproc_jobs({one})\ndef test_{number}(): pass\n" for number, one in enumerate(wrong)]

    outcomes, output = run_tests("".join(tests))

    assert outcomes == {"errors": len(wrong)}
    assert output.count("real, inline, fake") >= len(wrong)


def test_a_wrong_ini_option(pytester):
    """It ends the run of the tests at once."""
    result = pytester.runpytest_subprocess("-o", "inproc_jobs_mode=threads")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "must be one of real, inline, fake" in result.stderr.str()


def test_unittest(run_tests):
    """Tests of unittest have it too."""
    outcomes, _ = run_tests("""
import unittest

class Case(unittest.TestCase):
    @pytest.mark.inproc_jobs("inline")
    def test_it(self):
        self.assertEqual(Mail.perform_async().result(), "ada@example.org")
""")

    assert outcomes == {"passed": 1}


@pytest.mark.parametrize(
    ("plugin", "arguments", "source"),
    [
        (
            "xdist",
            ("-n", "2"),
            "@pytest.mark.parametrize('n', range(4))\ndef test_it(n): Mail.perform_async().result(5)",
        ),
        ("pytest_randomly", ("-p", "randomly"), "def test_it(): Mail.perform_async().result(5)"),
        (
            "pytest_asyncio",
            (),
            "@pytest.mark.asyncio\nasync def test_it(): assert await Mail.perform_async() == 'ada@example.org'",
        ),
        (
            "pytest_asyncio",
            (),
            "@pytest.mark.asyncio\nasync def test_it(inproc_jobs): Mail.perform_async(); assert_enqueued(Mail)",
        ),
    ],
    ids=["xdist", "randomly", "asyncio", "asyncio-fake"],
)
def test_beside_other_plugins(run_tests, plugin, arguments, source):
    """The plugin gets on with the others that people use."""
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed")

    outcomes, output = run_tests(source, *arguments)

    assert set(outcomes) == {"passed"}, output


def test_beside_pytest_django(pytester):
    """In a TestCase and a TransactionTestCase of Django, on_commit included."""
    if importlib.util.find_spec("pytest_django") is None:
        pytest.skip("pytest_django is not installed")
    pytester.makepyfile(
        site_settings="""
SECRET_KEY = "x"
INSTALLED_APPS = ["inproc_jobs.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
""",
        test_it=HEAD
        + """
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

def write(text):
    with transaction.atomic():
        Mail.perform_on_commit(text)

class Plain(TestCase):
    @pytest.mark.inproc_jobs("fake")
    def test_not_committed(self):
        write("a")
        assert enqueued() == []

    @pytest.mark.inproc_jobs("inline")
    def test_captured(self):
        with self.captureOnCommitCallbacks(execute=True):
            write("a")
        assert stats()[Mail.__job__.name].succeeded == 1

class Transactions(TransactionTestCase):
    @pytest.mark.inproc_jobs("fake")
    def test_committed(self):
        write("a")
        assert_enqueued(Mail, "a")

@pytest.mark.django_db
def test_queries(inproc_jobs, django_assert_num_queries):
    with django_assert_num_queries(1):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        Mail.perform_async("a")
        inproc_jobs.run_all()
""",
    )

    result = pytester.runpytest_subprocess("--ds=site_settings", "-p", "no:randomly", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=4)
