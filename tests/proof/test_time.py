"""The wall clock jumps by hours while work is under way: delays do not notice, ``perform_at`` follows, moments agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import debian
import pytest

from inproc_jobs._timer import WALL_CHECK

SOURCE = Path(__file__).with_name("clock.c")
TIMEOUT = 30.0  # seconds for one script
LOAD = 0.7  # seconds that a busy machine may add
DELAY = 0.5  # seconds, of all that is shown not to move
HOURS = 3 * 3600  # seconds a clock jumps by

HEAD = f"""
import json, os, signal, struct, sys, threading, time
from datetime import UTC, datetime, timedelta
import inproc_jobs
from inproc_jobs import Job, Retry, configure, drain

DELAY, HOURS = {DELAY}, {HOURS}

def jump(seconds):
    wall, mono = time.time(), time.monotonic()
    before = struct.unpack("q", open(os.environ["CLOCK_SHIFT"], "rb").read())[0]
    with open(os.environ["CLOCK_SHIFT"], "r+b") as shift:
        shift.write(struct.pack("q", seconds))
    assert abs(time.time() - wall - (seconds - before)) < 1 and time.monotonic() - mono < 1, "the clock cannot be shifted"

def in_seconds(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)

def seconds_of(call):
    started = time.monotonic()
    call()
    return time.monotonic() - started

def show(what):
    os.write(1, json.dumps(what).encode() + b"\\n")
"""

Ran = tuple[Any, subprocess.CompletedProcess[str], float]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts the clock."""
    lacking = debian.lacking(("gcc",), ("gcc", "libc6-dev"))
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if lacking or not sys.platform.startswith("linux"):
        pytest.skip(lacking or "clock.c makes calls of Linux")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    return library


@pytest.fixture
def run(library: Path, tmp_path: Path) -> Callable[..., Ran]:
    """Run a script in a process whose clock it can ``jump``; return what it showed, how and when it ended."""

    def run(script: str) -> Ran:
        shift = tmp_path / "shift"
        shift.write_bytes(bytes(8))
        ended = subprocess.run(
            [sys.executable, "-c", HEAD + textwrap.dedent(script)],
            env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        at = time.monotonic()
        assert ended.stdout, ended.stderr
        return json.loads(ended.stdout), ended, at

    return run


@pytest.mark.parametrize("hours", [HOURS, -HOURS], ids=["forward", "back"])
def test_delays_and_deadlines_do_not_move(run: Callable[..., Ran], hours: int):
    """perform_in, retries, timeouts, waits, blocked enqueues and drains take their time, whatever the wall clock does."""
    took, ended, _ = run(
        f"""
        first = []

        class Timed(Job):
            def perform(self):
                return time.monotonic()

        class Again(Job, retry=Retry(attempts=2, backoff=DELAY, jitter=False)):
            def perform(self):
                if self.run.attempt == 1:
                    first.append(time.monotonic())
                    raise OSError
                return time.monotonic()

        class Overrunning(Job, timeout=DELAY):
            def perform(self):
                started = time.monotonic()
                while not self.should_stop:
                    threading.Event().wait(0.01)
                return time.monotonic() - started

        class Held(Job, workers=1, max_queue=1, when_full="block", block_timeout=DELAY, expires_in=1000):
            def perform(self):
                inside.set()
                go.wait()

        inside, go = threading.Event(), threading.Event()
        Held.perform_async()
        inside.wait()
        waiting = Held.perform_async()
        started = time.monotonic()
        delayed, again, overrunning = Timed.perform_in(DELAY), Again.perform_async(), Overrunning.perform_async()
        while not first:
            threading.Event().wait(0.001)

        jump({hours})

        took = {{
            "wait": seconds_of(lambda: waiting.wait(DELAY)),
            "perform_in": delayed.result(10) - started,
            "retry": again.result(10) - first[0],
            "timeout": overrunning.result(10),
        }}
        try:
            started = time.monotonic()
            Held.perform_async()
        except inproc_jobs.errors.QueueFullError:
            took["block_timeout"] = time.monotonic() - started
        took["drain"] = seconds_of(lambda: drain(DELAY))
        go.set()
        waiting.wait(10)
        show([took, waiting.state])
        """
    )

    seconds, state = took
    assert ended.returncode == 0, ended.stderr
    assert sorted(seconds) == ["block_timeout", "drain", "perform_in", "retry", "timeout", "wait"]
    assert all(DELAY - 0.01 <= one < DELAY + LOAD for one in seconds.values()), seconds
    assert state == "succeeded"  # and not expired


def test_perform_at_follows_the_wall_clock_forward(run: Callable[..., Ran]):
    """What the clock's jump has made due starts within WALL_CHECK seconds; what it has not waits on."""
    (late, due, far), ended, _ = run(
        """
        class At(Job):
            def perform(self):
                return time.monotonic()

        due, far = At.perform_at(in_seconds(HOURS - 3600)), At.perform_at(in_seconds(HOURS + 3600))
        due.wait(0.1)

        jump(HOURS)

        started = time.monotonic()
        show([due.result(10) - started, due.state, far.state])
        """
    )

    assert ended.returncode == 0, ended.stderr
    assert late < WALL_CHECK + LOAD
    assert (due, far) == ("succeeded", "scheduled")


def test_perform_at_follows_the_wall_clock_back(run: Callable[..., Ran]):
    """After a jump back a moment comes later by as much, a drain knows that it is not due, and it comes in the end."""
    (early, drained, late), ended, _ = run(
        """
        class At(Job):
            def perform(self):
                return time.monotonic()

        run = At.perform_at(in_seconds(0.3))

        jump(-HOURS)

        drained = seconds_of(lambda: drain(5))
        early = run.wait(2.0)
        jump(0)
        started = time.monotonic()
        show([early, drained, run.result(10) - started])
        """
    )

    assert ended.returncode == 0, ended.stderr
    assert not early
    assert drained < LOAD
    assert late < WALL_CHECK + LOAD


@pytest.mark.parametrize("hours", [(HOURS, -HOURS), (-HOURS, HOURS)], ids=["forward", "back"])
def test_the_moments_of_a_run_agree(run: Callable[..., Ran], hours: tuple[int, int]):
    """enqueued_at <= started_at <= finished_at, as far apart as it took, and the statistics say the same."""
    (moments, elapsed, longest), ended, _ = run(
        f"""
        class Held(Job, workers=1):
            def perform(self):
                inside.set()
                go.wait()

        inside, go = threading.Event(), threading.Event()
        before = time.monotonic()
        run = Held.perform_in(0.05)

        jump({hours[0]})
        inside.wait()
        jump({hours[1]})
        go.set()

        run.wait(10)
        elapsed = time.monotonic() - before
        stats = inproc_jobs.stats()["__main__.Held"]
        show([[str(one) for one in (run.enqueued_at, run.started_at, run.finished_at)], elapsed,
              max(stats.wait.max, stats.run.max)])
        """
    )

    enqueued, started, finished = map(datetime.fromisoformat, moments)
    assert ended.returncode == 0, ended.stderr
    assert enqueued <= started <= finished
    assert 0.04 < (finished - enqueued).total_seconds() <= elapsed
    assert longest <= elapsed


@pytest.mark.parametrize("hours", [HOURS, -HOURS], ids=["forward", "back"])
def test_a_stop_ends_at_its_deadline(run: Callable[..., Ran], hours: int):
    """The clock jumps while the process drains after SIGTERM: a hung job holds it until the deadline, and no longer."""
    signalled, ended, at = run(
        f"""
        class Hung(Job):
            def perform(self):
                inside.set()
                threading.Event().wait()

        configure(shutdown_timeout=DELAY)
        inside = threading.Event()
        Hung.perform_async()
        inside.wait()

        @inproc_jobs.signals.shutdown_started.connect
        def leap(sender, **extra):
            jump({hours})

        show(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
        """
    )

    assert ended.returncode == -15, ended.stderr
    assert "discarded" in ended.stderr
    assert DELAY - 0.01 <= at - signalled < DELAY + 1.0 + LOAD
