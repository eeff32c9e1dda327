"""Options of a class, options of a call, settings of the process: what is allowed, and what an error says."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest

from inproc_jobs import Job, Retry, configure, job
from inproc_jobs._runtime import settings

NAN, INFINITE = float("nan"), float("inf")


def short(value):
    """Name a test's parameter, shortly."""
    return repr(value)[:24]


WRONG = [
    ("workers", 0, ValueError),
    ("workers", -1, ValueError),
    ("workers", True, TypeError),
    ("workers", 2.0, TypeError),
    ("workers", "2", TypeError),
    ("workers", None, TypeError),
    ("workers", NAN, TypeError),
    ("max_queue", 0, ValueError),
    ("max_queue", None, TypeError),
    ("max_queue", 1e3, TypeError),
    ("when_full", "explode", ValueError),
    ("when_full", "", ValueError),
    ("when_full", None, TypeError),
    ("when_full", ["raise"], TypeError),
    ("block_timeout", -1, ValueError),
    ("block_timeout", NAN, ValueError),
    ("block_timeout", None, TypeError),
    ("block_timeout", True, TypeError),
    ("retry", 5, TypeError),
    ("retry", True, TypeError),
    ("retry", Retry, TypeError),
    ("retry", OSError, TypeError),
    ("timeout", 0, ValueError),
    ("timeout", -1, ValueError),
    ("timeout", NAN, ValueError),
    ("timeout", INFINITE, ValueError),
    ("timeout", 10**400, ValueError),
    ("timeout", "30", TypeError),
    ("timeout", True, TypeError),
    ("interruptible", 1, TypeError),
    ("interruptible", None, TypeError),
    ("interruptible", "yes", TypeError),
    ("expires_in", 0, ValueError),
    ("expires_in", timedelta(seconds=-1), ValueError),
    ("expires_in", "1h", TypeError),
    ("priority", 101, ValueError),
    ("priority", -101, ValueError),
    ("priority", 1.5, TypeError),
    ("priority", True, TypeError),
    ("priority", None, TypeError),
    ("name", 5, TypeError),
    ("name", None, TypeError),
    ("name", "", ValueError),
    ("name", "two\nlines", ValueError),
    ("name", "\x1b[31m", ValueError),
]
PER_CALL = {"priority", "when_full", "block_timeout", "retry", "timeout", "expires_in"}


@pytest.mark.parametrize(("option", "value", "error"), WRONG, ids=short)
def test_a_wrong_option_is_refused_when_the_class_is_made(option, value, error):
    """The error names the class, the option and what is allowed, before anything runs."""
    with pytest.raises(error, match=rf"Mail.*{option} must be"):

        class Mail(Job, **{option: value}):
            def perform(self):
                pass

    with pytest.raises(error, match=rf"mail.*{option} must be"):

        @job(**{option: value})
        def mail():
            pass


@pytest.mark.parametrize(("option", "value", "error"), [one for one in WRONG if one[0] in PER_CALL], ids=short)
def test_a_wrong_option_of_a_call_is_refused(option, value, error):
    """using() checks as the class does, and names the job."""

    class Mail(Job):
        def perform(self):
            pass

    with pytest.raises(error, match=rf"Mail.*{option} must be"):
        Mail.using(**{option: value})


def test_an_unknown_option_is_refused_with_those_there_are():
    """A misspelt option is a TypeError that lists all the names."""
    with pytest.raises(TypeError, match=r"Mail.*'wokers'") as caught:

        class Mail(Job, wokers=4):
            def perform(self):
                pass

    for known in ("workers", "max_queue", "when_full", "retry", "priority", "name"):
        assert known in str(caught.value)
    with pytest.raises(TypeError, match=r"mail.*'wokers'"):

        @job(wokers=4)
        def mail():
            pass


@pytest.mark.parametrize("option", ["workers", "max_queue", "interruptible", "name", "wokers"])
def test_an_option_of_the_class_is_refused_for_a_call(option):
    """using() takes what makes sense for one call, and says what that is."""

    class Mail(Job):
        def perform(self):
            pass

    with pytest.raises(TypeError, match=option) as caught:
        Mail.using(**{option: 1})
    assert "priority" in str(caught.value)


def test_the_defaults_are_those_of_the_documentation():
    """DESIGN's defaults: two workers, 10,000 waiting runs, no retry, no timeout."""

    class Mail(Job):
        def perform(self):
            pass

    options = Mail.__job__.options

    assert (options.workers, options.max_queue, options.when_full, options.block_timeout) == (2, 10_000, "raise", 1.0)
    assert (options.retry, options.timeout, options.interruptible) == (None, None, False)
    assert (options.expires_in, options.priority) == (None, 0)


def test_subclasses_inherit_options_and_may_change_them():
    """What a base class sets holds for its subclasses, unless they say otherwise; the name is each one's own."""
    retry = Retry(attempts=3)

    class Base(Job, workers=7, retry=retry, priority=5, name="base"):
        def perform(self):
            pass

    class Mail(Base, priority=-5):
        pass

    class Urgent(Mail, retry=None):
        pass

    assert (Mail.__job__.options.workers, Mail.__job__.options.retry, Mail.__job__.options.priority) == (7, retry, -5)
    assert (Urgent.__job__.options.workers, Urgent.__job__.options.retry) == (7, None)
    assert Base.__job__.options.priority == 5
    assert Mail.__job__.name.endswith("Mail")


def test_durations_may_be_timedeltas():
    """A timedelta is converted once, when the class is made."""

    class Mail(Job, timeout=timedelta(minutes=1), expires_in=timedelta(hours=1), block_timeout=timedelta(0)):
        def perform(self):
            pass

    options = Mail.__job__.options

    assert (options.timeout, options.expires_in, options.block_timeout) == (60.0, 3600.0, 0.0)


def test_a_class_attribute_is_no_option():
    """Only class keywords are options: an attribute of such a name is the user's own."""

    class Mail(Job):
        workers = 99

        def perform(self):
            return self.workers

    assert Mail.__job__.options.workers == 2
    assert Mail.perform_async().result(10) == 99


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("shutdown_timeout", -1, ValueError),
        ("shutdown_timeout", NAN, ValueError),
        ("shutdown_timeout", "8", TypeError),
        ("shutdown_timeout", None, TypeError),
        ("shutdown_timeout", True, TypeError),
        ("max_threads", 0, ValueError),
        ("max_threads", 1.0, TypeError),
        ("max_threads", "32", TypeError),
        ("max_threads", True, TypeError),
        ("max_scheduled", 0, ValueError),
        ("max_scheduled", None, TypeError),
    ],
    ids=short,
)
def test_a_wrong_setting_is_refused_and_changes_nothing(setting, value, error):
    """Configure names the setting and what is allowed; a call with one wrong setting changes none."""
    before = settings()
    with pytest.raises(error, match=rf"configure.*{setting} must be"):
        configure(**{"max_threads": 5, setting: value})

    assert settings() == before


def test_an_unknown_setting_is_refused_with_those_there_are():
    """A misspelt setting is a TypeError that lists all the names."""
    with pytest.raises(TypeError, match=r"configure.*'max_thread'.*shutdown_timeout.*max_threads"):
        configure(max_thread=3)


def test_a_name_belongs_to_one_class():
    """A second class of the same name is refused, and both are named."""

    class Mail(Job, name="the mail"):
        def perform(self):
            pass

    with pytest.raises(ValueError, match=r"'the mail' is taken by .*Mail.*name=") as caught:

        class Letter(Job, name="the mail"):
            def perform(self):
                pass

    assert "Letter" in str(caught.value)
    assert Mail.__job__.name == "the mail"


def test_a_reloaded_class_takes_its_predecessors_place(gate):
    """Making the same class once more, as a reload does, is no clash; what was enqueued before still runs."""

    def load(version):
        class Mail(Job, workers=1):
            def perform(self):
                gate()
                return version

        return Mail

    first = load(1)
    run = first.perform_async()
    gate.entered()

    second = load(2)
    again = second.perform_async()
    gate.open()

    assert (run.result(10), again.result(10)) == (1, 2)
    assert first.__job__.name == second.__job__.name


def test_a_name_is_free_again_when_its_class_is_gone():
    """The package keeps no job class alive that nobody refers to."""

    class Mail(Job, name="a passing name"):
        def perform(self):
            pass

    del Mail
    gc.collect()

    class Letter(Job, name="a passing name"):
        def perform(self):
            pass

    assert Letter.__job__.name == "a passing name"


def test_the_repr_of_options_shows_them_all():
    """What a class ended up with can be read in a debugger."""

    class Mail(Job, workers=7):
        def perform(self):
            pass

    shown = repr(Mail.__job__.options)

    assert shown.startswith("Options(")
    assert "workers=7" in shown
    assert "max_queue=10000" in shown
