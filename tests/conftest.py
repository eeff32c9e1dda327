"""What every test stands on: a runtime of its own, gates, and a look at what it leaves behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from gates import TIMEOUT, Gate, until

import inproc_jobs
from inproc_jobs import _carriers, _commit, _lifecycle, _options, _runtime, _threads, signals


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


_opened = 0  # descriptors by what several tests share, so far

# Left by `nohup` and by a shell's `&`: all that a test starts would ignore them too, and none could be stopped by Ctrl-C.
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

_lifecycle.watch_signals()  # as the first job class of a process does; what it lays is no test's


def descriptors() -> dict[int, str]:
    """Return the open descriptors of this process and what each is."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that has listed them
            found[int(name)] = os.readlink(f"/dev/fd/{name}")
    return found


def threads_of_the_system() -> int:
    """Return how many threads there are, those included that have not come to their first line yet. Only Linux tells."""
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0


def hooks() -> list[object]:
    """Return what the interpreter calls, and what the package calls, at certain moments."""
    return [
        sys.excepthook,
        threading.excepthook,
        sys.unraisablehook,
        *(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)),
        _carriers.carriers,
        _threads._farewells,
        _commit._defer,
    ]


def settings_now() -> dict[str, Any]:
    """Return the settings of the process."""
    return {name: getattr(_runtime._process.settings, name) for name in _options.SETTINGS}


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what the collection has made out of garbage collections: one took up to 0.4 s, which a test's clock counts."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Count the descriptors of what several tests share."""
    global _opened
    before = len(descriptors())
    value = yield
    if fixturedef.scope != "function":
        _opened += len(descriptors()) - before
    return value


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """See that the test leaves no descriptor open."""
    before = len(descriptors()) - _opened

    yield

    if len(descriptors()) - _opened > before:
        gc.collect()  # what hangs in a cycle is the collector's to close
    assert len(descriptors()) - _opened <= before, f"the test has left descriptors open: {descriptors()}"


@pytest.fixture(autouse=True)
def fresh(closed: None) -> Iterator[None]:
    """Give the test a runtime that accepts work, and see that it leaves nothing behind.

    No thread, hook, receiver or child process; the settings are put back.
    """
    inproc_jobs.restart()
    settings = settings_now()
    hooks_before = hooks()
    threads_before = set(threading.enumerate())
    started_before = threads_of_the_system()
    receivers_before = {name: dict(getattr(signals, name).receivers) for name in signals.__all__}

    yield

    inproc_jobs.shutdown(timeout=TIMEOUT)
    for thread in set(threading.enumerate()) - threads_before:
        if isinstance(thread, threading._DummyThread):
            continue  # a raw thread that asked for its name: Pythons before 3.13 list it for ever
        with suppress(RuntimeError):  # it is being started, by what has just been told to end
            thread.join(TIMEOUT)
            assert not thread.is_alive(), f"the test has left {thread.name} behind"
    until(lambda: threads_of_the_system() <= started_before)  # one that begins late would be found in the next test
    inproc_jobs.configure(**settings)
    inproc_jobs.restart()
    receivers_after = {name: dict(getattr(signals, name).receivers) for name in signals.__all__}
    assert receivers_after == receivers_before, "the test has left a receiver connected"
    assert hooks() == hooks_before, "the test has left a hook behind"
    assert not multiprocessing.active_children(), "the test has left a child behind"
