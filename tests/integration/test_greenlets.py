"""Processes that gevent or eventlet has patched, before or after our package was imported."""

from __future__ import annotations

import importlib.util

import pytest
from process import HEAD, run

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch(os=False)",  # two greenlets may then write to one descriptor
}

# eventlet says that it is deprecated, and how many locks are not green.
QUIET = "import warnings; warnings.simplefilter('ignore')\n"


def skip_without(module: str) -> None:
    """Skip the test where *module* is not there. It is not imported: eventlet patches what it can, and warns."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def patched(by: str, when: str) -> str:
    """Return the head of a script that *by* has patched, *when*."""
    skip_without(by)
    return QUIET + (PATCHES[by] + HEAD if when == "before" else f"{HEAD}\n{PATCHES[by]}\n")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("by", PATCHES)
def test_queues_timer_results_and_drain(by: str, when: str):
    """Runs wait together, delays and retries come due, results arrive in and outside of jobs, and a drain drains."""
    ended = run(
        """
        class Sums(Job, workers=1, retry=Retry(attempts=2, backoff=0.05)):
            def perform(self, number):
                if self.run.attempt == 1:
                    raise OSError("again")
                return number + 1

        class Asks(Job, workers=1):
            def perform(self, number):
                return Sums.perform_async(number).result(10)

        for number in range(10):
            Slow.perform_async(number, 0.2)
        late = Slow.perform_in(0.3, 10)
        say("asked", Asks.perform_async(1).result(10), late.wait(10))
        say("drained", inproc_jobs.drain(10))
        Slow.perform_async(11)
        report = inproc_jobs.shutdown(10)
        say("report", report.finished, report.failed, len(report.discarded))
        """,
        head=patched(by, when),
    )

    assert ended.numbers() == list(range(12))
    assert [line for line in ended.lines if not line.startswith("done")] == [
        "asked 2 True",
        "drained True",
        "report 1 0 0",
    ]
    assert ended.status == 0
    assert "Traceback" not in ended.errors


def test_threads_that_are_patched_without_queues_are_refused():
    """Where the first job would stop all other greenlets, the first enqueue says what to patch."""
    skip_without("gevent")
    ended = run(
        """
        try:
            Slow.perform_async(1)
        except inproc_jobs.errors.RejectedError as error:
            say(error)
        """,
        head=f"from gevent import monkey; monkey.patch_all(queue=False)\n{HEAD}",
    )

    assert len(ended.lines) == 1
    assert "patch both, or neither" in ended.lines[0]
    assert ended.status == 0


def test_a_greenlet_that_asks_for_the_exit_does_not_cut_the_work_short():
    """What a greenlet raises while the exit waits for work, as gunicorn's do, is no reason to leave it."""
    ended = run(
        """
        import gevent

        def leave():
            while signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # until the exit waits
                pause(0.01)
            for seconds in (0.1, 0.2):
                gevent.spawn_later(seconds, sys.exit, 0)

        gevent.spawn(leave)
        for number in range(10):
            Slow.perform_async(number, 0.1)
        """,
        head=patched("gevent", "before"),
    )

    assert ended.numbers() == list(range(10))
    assert (ended.status, ended.errors) == (0, "")
