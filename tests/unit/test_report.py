"""How trouble looks in the log: once, without arguments, nothing that could forge a line, nothing kept alive."""

from __future__ import annotations

import asyncio
import linecache
import logging

import pytest

from inproc_jobs import Discard, Job, drain, job, signals

WAIT = 10.0  # seconds


def test_a_failing_job_leaves_its_traceback_on_stderr_once(python):
    """With no receiver and no configuration, a failure can be read on standard error, from the job's own code on."""
    done = python(
        """
        from inproc_jobs import Job, drain

        class Mail(Job):
            def perform(self, password):
                self.connect()

            def connect(self):
                raise OSError("no route to host")

        Mail.perform_async("s3cret").wait(10)
        drain(10)
        """
    )

    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert done.stderr.count("OSError: no route to host") == 2  # the message, and the traceback's last line
    assert "in connect" in done.stderr
    assert "Mail" in done.stderr
    assert "_worker.py" not in done.stderr
    assert "s3cret" not in done.stderr


def test_success_says_nothing(python):
    """A job that succeeds writes nothing at all."""
    done = python(
        """
        from inproc_jobs import Job

        class Mail(Job):
            def perform(self):
                pass

        Mail.perform_async().wait(10)
        """
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_log_line_shows_an_argument(caplog):
    """Whatever happens to a run, its arguments are not in the log by default."""
    caplog.set_level(logging.DEBUG, "inproc_jobs")

    class Mail(Job, workers=1, timeout=0.01, retry=lambda attempt, error: 0.0 if attempt < 2 else None):
        def perform(self, secret, *, other):
            if self.run.attempt == 1:
                deadline = 1000
                while not self.should_stop and deadline:
                    deadline -= 1
                    asyncio.run(_pause())
            raise ValueError("a failure")

    Mail.perform_async("s3cret", other="t0ken")
    Mail.perform_in(1000, "s3cret", other="t0ken").cancel()

    assert drain(WAIT)
    assert caplog.records
    formatter = logging.Formatter("%(message)s")
    for record in caplog.records:
        assert "s3cret" not in formatter.format(record)
        assert "t0ken" not in formatter.format(record)


async def _pause():
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.001)


@pytest.mark.parametrize(
    "text",
    [
        "one\nERROR forged",
        "one\r\nERROR forged",
        "\x1b[2J\x1b[31m",
        "a\x00b",
        "a\x85b",
        "a\u2028b\u2029c",
        "\u202eright to left",
        "\x9b31m",
        "\ud800",
    ],
    ids=ascii,
)
def test_control_characters_are_spelt_out(text, caplog):
    """No error text can forge a line, colour a terminal or turn a line around; the traceback's own lines stay lines."""

    class Mail(Job):
        def perform(self, error):
            raise error

    Mail.perform_async(ValueError(text))
    Mail.perform_async(Discard(text))

    assert drain(WAIT)
    assert len(caplog.records) == 2
    for record in caplog.records:
        written = logging.Formatter("%(message)s").format(record)
        for line in written.splitlines():
            assert line.isprintable()
            assert "forged" not in line or not line.startswith("ERROR forged")
    failed, discarded = sorted(caplog.records, key=lambda record: -record.levelno)
    assert len(discarded.getMessage().splitlines()) == 1
    assert len(failed.getMessage().splitlines()) == 1


@pytest.mark.parametrize("character", ["x", "ü", "\U0001f600", "\n"], ids=ascii)
def test_error_texts_are_cut_at_4_kib(character, caplog):
    """A text of megabytes does not reach the log, counted in bytes, after escaping."""

    class Mail(Job):
        def perform(self, error):
            raise error

    Mail.perform_async(ValueError(character * 1_000_000))

    assert drain(WAIT)
    (record,) = caplog.records
    assert len(record.getMessage().encode()) < 4096 + 300
    assert record.getMessage().endswith("...")


def test_the_traceback_of_a_chain_is_written_oldest_first(caplog):
    """Causes and contexts are shown as Python shows them."""

    @job
    def fail():
        try:
            int("x")
        except ValueError as error:
            raise LookupError("outer") from error

    fail.perform_async()

    assert drain(WAIT)
    (record,) = caplog.records
    written = logging.Formatter("%(message)s").format(record)
    assert written.index("ValueError: invalid literal") < written.index("direct cause") < written.rindex("LookupError")


def test_the_errors_of_a_group_are_in_the_log(caplog):
    """What failed inside a task group can be read, not only that something did."""

    @job
    async def fetch():
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail())

    fetch.perform_async()

    assert drain(WAIT)
    (record,) = caplog.records
    assert "the inner trouble" in logging.Formatter("%(message)s").format(record)


async def _fail():
    raise OSError("the inner trouble")


def test_the_notes_of_an_error_are_in_the_log(caplog):
    """A note added to an error is shown below it, escaped as its text is."""

    @job
    def fail():
        error = OSError("text")
        error.add_note("a note\nof two lines")
        raise error

    fail.perform_async()

    assert drain(WAIT)
    (record,) = caplog.records
    assert "a note" in logging.Formatter("%(message)s").format(record)


class Hostile(Exception):
    """Nothing of it can be shown."""

    def __str__(self):
        raise SystemExit

    def __repr__(self):
        raise KeyboardInterrupt

    @property
    def retry_after(self):
        raise MemoryError


def test_an_error_that_cannot_be_shown_is_logged_all_the_same(caplog):
    """An error whose str and repr raise is named by its class."""

    class Mail(Job, retry=lambda attempt, error: None):
        def perform(self):
            raise Hostile

    run = Mail.perform_async()

    assert run.wait(WAIT)
    (record,) = caplog.records
    assert "Hostile" in record.getMessage()
    assert run.id in record.getMessage()


class HostileArgument:
    """An argument that must never be looked at."""

    def __repr__(self):
        raise SystemExit

    __str__ = __hash__ = __bool__ = __len__ = __repr__

    def __eq__(self, other):
        raise SystemExit


def test_arguments_are_never_looked_at():
    """An argument's own methods are not called, whatever happens to the run."""

    class Mail(Job, workers=1):
        def perform(self, one, *, two):
            return 3

    runs = [Mail.perform_async(HostileArgument(), two=HostileArgument()) for _ in range(5)]
    assert Mail.perform_in(1000, HostileArgument(), two=HostileArgument()).cancel()

    assert [run.result(WAIT) for run in runs] == [3] * 5


class BrokenHandler(logging.Handler):
    """A log handler that raises."""

    def handle(self, record):
        raise SystemExit("the disk is full")


def test_a_broken_logger_harms_nobody():
    """A handler that raises costs its log line, not the run's outcome or the worker."""

    class Mail(Job, workers=1):
        def perform(self, *, fail):
            if fail:
                raise OSError

    logger = logging.getLogger("inproc_jobs")
    handler = BrokenHandler()
    logger.addHandler(handler)
    try:
        bad = Mail.perform_async(fail=True)
        good = Mail.perform_async(fail=False)
        assert drain(WAIT)
    finally:
        logger.removeHandler(handler)

    assert (bad.state.value, good.state.value) == ("failed", "succeeded")


def test_records_carry_the_run_and_the_job(caplog):
    """Structured logging finds the run's id and the job's name on each record, and no frame."""

    class Mail(Job):
        def perform(self):
            raise OSError

    run = Mail.perform_async()

    assert run.wait(WAIT)
    (record,) = caplog.records
    assert (record.run_id, record.job, record.exc_info) == (run.id, Mail.__job__.name, None)
    assert record.name.startswith("inproc_jobs")


def test_names_of_code_cannot_forge_a_line(caplog):
    """A template's file may be called anything: its name, its functions and its lines are spelt out and cut."""

    class Render(Job):
        def perform(self):
            source = "def page():\n    raise ValueError('no') #" + "x" * 10_000 + "\npage()"
            exec(compile(source, "a.html\nERROR forged\x1b[2J", "exec"))

    assert Render.perform_async().wait(WAIT)

    (record,) = caplog.records
    assert record.exc_text is not None
    assert "a.html\\nERROR forged\\x1b[2J" in record.exc_text
    assert not any(line.startswith("ERROR") for line in record.exc_text.splitlines())
    assert "\x1b" not in record.exc_text


@pytest.mark.parametrize("end", ["\n", "\r", "\x1b[2K"])
def test_lines_of_source_cannot_forge_a_line(end, caplog):
    """What a template engine gives as the source of its code may hold anything, a line's end included."""
    made: dict = {}
    exec(compile("def fail():\n    raise ValueError('x')\n", "mail.html", "exec"), made)
    lines = ["def fail():\n", f"    raise ValueError('x')  # a{end}ERROR root: b\n"]
    linecache.cache["mail.html"] = (0, None, lines, "mail.html")
    try:
        job(name="template")(made["fail"]).perform_async().wait(WAIT)
        drain(WAIT)
    finally:
        del linecache.cache["mail.html"]

    (record,) = caplog.records
    assert "raise ValueError('x')" in record.exc_text
    assert not [line for line in record.exc_text.split("\n") if line.startswith("ERROR root")]
    assert end == "\n" or end not in record.exc_text


def test_many_notes_are_cut(caplog):
    """Ten thousand notes on an error are no reason for a log of megabytes."""

    class Mail(Job):
        def perform(self):
            error = ValueError("no")
            for number in range(10_000):
                error.add_note(f"note {number}")
            raise error

    assert Mail.perform_async().wait(WAIT)

    (record,) = caplog.records
    assert record.exc_text.count("note ") == 8
    assert record.exc_text.endswith("... and 9992 more notes")


def test_a_broken_record_factory_harms_no_run():
    """A logging set-up that raises costs its own lines and nothing else."""

    def broken(*args, **kwargs):
        raise RuntimeError("no records today")

    class Mail(Job):
        def perform(self, fail):
            if fail:
                raise OSError

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(broken)
    try:
        runs = [Mail.perform_async(fail) for fail in (True, False, True)]
        assert all(run.wait(WAIT) for run in runs)
    finally:
        logging.setLogRecordFactory(before)

    assert [run.state.value for run in runs] == ["failed", "succeeded", "failed"]


def test_a_chain_of_errors_that_leads_back_to_itself_is_written_once(caplog):
    """Two errors may be each other's cause."""

    class Mail(Job):
        def perform(self):
            first, second = ValueError("first"), LookupError("second")
            first.__cause__, second.__cause__ = second, first
            raise first

    assert Mail.perform_async().wait(WAIT)

    (record,) = caplog.records
    assert record.exc_text.count("ValueError: first") == 1
    assert record.exc_text.count("LookupError: second") == 1


def test_a_ctrl_c_in_the_main_thread_goes_through_a_receiver():
    """A receiver that is struck by it does not swallow it: it is for the program, not for the receiver."""

    def struck(sender, run, **extra):
        raise KeyboardInterrupt

    class Mail(Job):
        def perform(self):
            pass

    with signals.job_enqueued.connected_to(struck), pytest.raises(KeyboardInterrupt):
        Mail.perform_async()

    assert drain(WAIT)
