"""What of exit, signals and fork can be looked at without ending a process; the rest is in tests/integration."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from inproc_jobs import Job, restart, shutdown

WAIT = 10.0


class Idle(Job):
    def perform(self):
        pass


def test_no_listener_is_left_however_quickly_shutdowns_follow_each_other():
    """Each shutdown ends one thread that listens to signals, also while the one before has not ended yet."""
    for _ in range(300):
        Idle.perform_in(60)
        shutdown(0)
        restart()

    shutdown(0)
    deadline = time.monotonic() + WAIT  # the last may still be on its way up
    while (left := [one for one in threading.enumerate() if one.name == "inproc_jobs-signals"]) and (
        time.monotonic() < deadline
    ):
        threading.Event().wait(0.01)
    assert not left


def test_what_waits_for_its_time_is_listened_for(python):
    """From the first thing that there is to finish on, a thread acts on signals, and the shutdown ends it."""
    done = python(
        """
        import threading
        from inproc_jobs import Job, shutdown

        class Later(Job):
            def perform(self):
                pass

        def listens():
            return "inproc_jobs-signals" in [thread.name for thread in threading.enumerate()]

        before = listens()
        Later.perform_in(60)
        for _ in range(1000):
            threading.Event().wait(0.01)
            if listens():
                break
        print(before, listens())
        shutdown(0)
        print(listens())
        """
    )

    assert done.stdout == "False True\nFalse\n"


# Servers, as far as they can be seen from inside; the real ones are in tests/servers.

HEAD = """
import os, signal, sys, threading
from types import SimpleNamespace

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def define():
    global Slow, inproc_jobs
    import inproc_jobs

    class Slow(inproc_jobs.Job):
        def perform(self, number, seconds=0.1):
            threading.Event().wait(seconds)
            say("done", number)
"""


def test_uwsgi_without_threads_is_refused_by_name(python):
    """Where the server lets no thread run, the first enqueue says what to set, instead of a job that never starts."""
    done = python(
        HEAD
        + """
sys.modules["uwsgi"] = SimpleNamespace(has_threads=0, opt={})
define()
for _ in range(2):
    try:
        Slow.perform_async(1)
    except inproc_jobs.errors.RejectedError as error:
        say(error)
"""
    )

    said = "uWSGI runs no threads: start it with --enable-threads (enable-threads = true) or --threads"
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [said] * 2, "")


@pytest.mark.parametrize("patched", ["import gevent.monkey", "import eventlet.patcher"], ids=["gevent", "eventlet"])
def test_threads_that_are_patched_by_half_are_refused_by_name(python, patched):
    """Greenlets that wait for a queue of C's would stop all others for ever."""
    done = python(
        HEAD
        + f"""
import _thread
sys.modules[{patched.split()[1]!r}] = SimpleNamespace()
start = _thread.start_new_thread
define()
_thread.start_new_thread = lambda *given: start(*given)
try:
    Slow.perform_async(1)
except inproc_jobs.errors.RejectedError as error:
    say(error)
"""
    )

    said = "threads are patched but queues are not, and the first would stop all others: patch both, or neither"
    assert (done.returncode, done.stdout, done.stderr) == (0, said + "\n", "")


def test_a_debugger_that_patches_threads_is_none_of_our_business(python):
    """Without gevent or eventlet, a start_new_thread written in Python starts threads."""
    done = python(
        HEAD
        + """
import _thread
start = _thread.start_new_thread
define()
_thread.start_new_thread = lambda *given: start(*given)
Slow.perform_async(1)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", "")


@pytest.mark.parametrize("theirs", [True, False], ids=["a hook of the application's", "none"])
def test_uwsgi_is_given_a_door_of_its_own(python, theirs):
    """Its exit finishes what was accepted, calls the hook that was there before, and leaves its signals alone."""
    done = python(
        HEAD
        + f"""
server = SimpleNamespace(opt={{}})
if {theirs}:
    server.atexit = lambda: say("theirs")
sys.modules["uwsgi"] = server
define()
for number in range(3):
    Slow.perform_async(number, 0)
class Other(inproc_jobs.Job):
    def perform(self):
        say("other")
Other.perform_async()
Slow.perform_async(3)
say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
server.atexit()
say("left")
say(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
Slow.perform_async(4)
server.atexit()
"""
    )

    lines = done.stdout.splitlines()
    left = lines.index("left")
    assert sorted(line for line in lines[:left] if line != "True") == sorted(
        ["done 0", "done 1", "done 2", "done 3", "other", *(["theirs"] if theirs else [])]
    )
    assert "True" in lines
    assert lines[left + 1].split() == ["1", "2", "3", "15"]
    assert lines[left + 2 :] == ["done 4", *(["theirs"] if theirs else [])]
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("teardown", [True, False], ids=["with Python's exit", "without"])
def test_uwsgi_that_skips_pythons_exit(python, teardown):
    """Then its own exit is the last chance to name what could not be finished."""
    done = python(
        HEAD
        + f"""
server = SimpleNamespace(opt={{}} if {teardown} else {{"skip-atexit-teardown": True}})
sys.modules["uwsgi"] = server
define()
inproc_jobs.configure(shutdown_timeout=0.2)
Slow.perform_async(1, 0)
Slow.perform_in(1000, 2)
server.atexit()
say("skipped")
os._exit(0)
"""
    )

    assert done.stdout.splitlines() == ["done 1", "skipped"]
    assert done.stderr.count("discarded>: shutdown") == (0 if teardown else 1)


GRACE = "shutdown_timeout is 8 s, but the server kills this process {} s after it has told it to stop: set {} to more than that, or shutdown_timeout to less"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("uwsgi.opt['worker-reload-mercy'] = b'5'", GRACE.format(5, "uWSGI's worker-reload-mercy")),
        ("uwsgi.opt['worker-reload-mercy'] = b'8'", ""),
        ("uwsgi.opt['worker-reload-mercy'] = b'soon'", ""),
        ("uwsgi.opt['worker-reload-mercy'] = True", GRACE.format(1, "uWSGI's worker-reload-mercy")),
        ("", ""),
    ],
)
def test_a_grace_period_of_uwsgis_that_is_too_short_is_said_once(python, server, said):
    """Whoever deploys learns of it from the log, not from lost jobs."""
    done = python(
        HEAD
        + f"""
uwsgi = sys.modules["uwsgi"] = SimpleNamespace(opt={{}})
{server}
define()
Slow.perform_async(1, 0)
class Other(inproc_jobs.Job):
    def perform(self):
        pass
Other.perform_async()
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", said and said + "\n")


@pytest.mark.parametrize(
    ("grace", "said"),
    [
        (3, GRACE.format(3, "gunicorn's graceful_timeout")),
        (7.5, GRACE.format(7.5, "gunicorn's graceful_timeout")),
        (8, ""),
        (30, ""),
        (None, ""),
    ],
)
def test_a_grace_period_of_gunicorns_that_is_too_short_is_said_once(python, grace, said):
    """Its worker has a handler whose object knows the settings."""
    done = python(
        HEAD
        + f"""
class Worker:
    cfg = SimpleNamespace(graceful_timeout={grace})
    def handle(self, number, frame):
        pass
signal.signal(signal.SIGUSR1, Worker().handle)
define()
Slow.perform_async(1, 0)
class Other(inproc_jobs.Job):
    def perform(self):
        pass
Other.perform_async()
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", said and said + "\n")


def test_the_first_process_of_a_container_ends_by_its_status(python):
    """Process 1 has no default action that could end it: it exits as a shell would report the signal."""
    done = python(
        HEAD
        + """
kill, me = os.kill, os.getpid()
os.getpid = lambda: 1
define()
Slow.perform_async(1)
kill(me, signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "done 1\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_raises_its_signals_again_waits_for_its_jobs(python, number):
    """A uvicorn puts back the handlers it found when it was started, maybe the deadly default, and raises what it caught."""
    done = python(
        HEAD
        + f"""
class Server:
    def __init__(self):
        self._captured_signals = []
    def handle_exit(self, number, frame):
        self._captured_signals.append(number)

server = Server()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, server.handle_exit)
define()
Slow.perform_async(1)
signal.raise_signal({number.value})
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.SIG_DFL)
for captured in reversed(server._captured_signals):
    signal.raise_signal(captured)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-number, "done 1\n", "")


@pytest.mark.parametrize("name", ["inproc_jobs-signals", "inproc_jobs-stop"])
def test_a_signal_is_acted_on_where_no_thread_is_to_be_had(python, name):
    """The main thread does it then, be it late; the jobs are finished all the same."""
    done = python(
        HEAD
        + f"""
import _thread
start = _thread.start_new_thread
def refuse(main, arguments):
    if arguments[-1] == {name!r}:
        raise RuntimeError("can't start new thread")
    return start(main, arguments)
_thread.start_new_thread = refuse
define()
Slow.perform_async(1)
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


# The exit, beside what else there is.


def test_an_executor_of_the_applications_is_joined_as_without_us(python):
    """The interpreter waits for other people's threads; only ours are taken off its list."""
    done = python(
        HEAD
        + """
from concurrent.futures import ThreadPoolExecutor
define()
executor = ThreadPoolExecutor(1)
executor.submit(threading.Event().wait, 0.3)
executor.submit(say, "theirs")
Slow.perform_async(1)
"""
    )

    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (0, ["done 1", "theirs"], "")


def test_an_exit_callback_of_the_applications_may_take_its_time(python):
    """The watchdog watches the wait for our work, and nothing after it."""
    done = python(
        HEAD
        + """
import atexit
define()
inproc_jobs.configure(shutdown_timeout=1)
atexit.register(say, "theirs")
atexit.register(threading.Event().wait, 2.2)
Slow.perform_async(1)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\ntheirs\n", "")


@pytest.mark.parametrize("end", ["signal.raise_signal(signal.SIGTERM); threading.Event().wait(10)", "pass"])
def test_a_child_that_is_forked_while_the_watchdog_stands_by_ends_by_itself(python, end):
    """The thread of the watchdog is not there in the child, and neither we nor Python's own exit wait for it."""
    done = python(
        HEAD
        + f"""
stopping = threading.Event()
define()
inproc_jobs.configure(shutdown_timeout=1)
inproc_jobs.signals.shutdown_started.connect(lambda *_, **__: stopping.set(), weak=False)
Slow.perform_async(1, 60)
signal.raise_signal(signal.SIGTERM)
stopping.wait(10)
if os.fork() == 0:
    Slow.perform_async(2, 0)
    {end}
else:
    threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "done 2\n")
    assert done.stderr.count("discarded, attempt 1>: shutdown") == 1
