"""What of exit, signals and fork can be looked at without ending a process; the rest is in tests/integration."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time

import pytest
from gates import until

from inproc_jobs import Job, _lifecycle, restart, shutdown

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
    # The last may still be on its way up.
    until(lambda: "inproc_jobs-signals" not in [thread.name for thread in threading.enumerate()])


def test_a_listener_leaves_the_next_ones_end_to_it(monkeypatch):
    """It reads all that has come, and gives back every end but its own."""
    monkeypatch.setattr(_lifecycle, "_listener", None)
    pipe, back = os.pipe()
    try:
        os.write(back, bytes((signal.SIGUSR1, 0, signal.SIGUSR2, 0)))

        _lifecycle._listen(pipe, back)

        assert os.read(pipe, 10) == b"\0"
    finally:
        os.close(pipe)
        os.close(back)


def test_what_waits_for_its_time_is_listened_for(python):
    """From the first thing that there is to finish on, a thread acts on signals, and the shutdown ends it."""
    done = python(
        """
        import threading
        from inproc_jobs import Job, _lifecycle, shutdown

        class Later(Job):
            def perform(self):
                pass

        def listens():
            return "inproc_jobs-signals" in [thread.name for thread in threading.enumerate()]

        before = listens()
        Later.perform_in(60)
        for _ in range(1000):
            threading.Event().wait(0.01)
            if _lifecycle._listener:  # whose thread is seen before it can be waited for
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

def until(seen):
    for _ in range(1000):
        if seen():
            return
        threading.Event().wait(0.01)

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


def test_the_handlers_under_uwsgi_stay_as_they_are(python):
    """They are its own, and it stops by them; also those that the application has put there."""
    done = python(
        HEAD
        + """
signal.signal(signal.SIGTERM, lambda *_: None)
server = SimpleNamespace(opt={"skip-atexit-teardown": True}, atexit=lambda: Looking.perform_async())
sys.modules["uwsgi"] = server
define()

class Looking(inproc_jobs.Job):
    def perform(self):
        say(signal.getsignal(signal.SIGTERM).__name__)

Slow.perform_async(1, 0)
server.atexit()
os._exit(0)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n<lambda>\n", "")


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


REFUSING = """
import _thread
start = _thread.start_new_thread

def refuse(name):
    def start_or_not(main, arguments):
        if arguments[-1] == name:
            raise RuntimeError("can't start new thread")
        return start(main, arguments)
    _thread.start_new_thread = start_or_not

define()
"""


@pytest.mark.parametrize("name", ["inproc_jobs-signals", "inproc_jobs-stop"])
def test_a_signal_is_acted_on_where_no_thread_is_to_be_had(python, name):
    """The main thread does it then, be it late; the jobs are finished all the same."""
    done = python(
        HEAD
        + REFUSING
        + f"""
refuse({name!r})
Slow.perform_async(1)
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


@pytest.mark.parametrize("name", ["inproc_jobs-signals", ""])
def test_after_a_restart_another_thread_listens_to_signals(python, name):
    """It stays, also where none was to be had for it before."""
    done = python(
        HEAD
        + REFUSING
        + f"""
refuse({name!r})
Slow.perform_async(1, 0).wait(10)
inproc_jobs.shutdown(0)
inproc_jobs.restart()
_thread.start_new_thread = start
Slow.perform_async(2, 0.3).wait(10)
say("inproc_jobs-signals" in [thread.name for thread in threading.enumerate()])
inproc_jobs.shutdown(0)
"""
    )

    assert (done.stdout, done.stderr) == ("done 1\ndone 2\nTrue\n", "")


def test_a_sigterm_that_comes_with_the_listeners_end_is_acted_on(python):
    """As where the application's own shutdown is about to be over: the main thread has left the signal to the listener."""
    done = python(
        HEAD
        + """
define()
Slow.perform_async(1)
pipe, back = os.pipe()
os.write(back, bytes((0, signal.SIGTERM)))
inproc_jobs._lifecycle._listen(pipe, back)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


def test_a_sigterm_after_the_listeners_last_look_is_acted_on(python):
    """A shutdown has told the listener to end, and it has read that: its thread is there, but hears nothing any more."""
    done = python(
        HEAD
        + """
def write(to, data):
    if threading.current_thread().name == "inproc_jobs-signals":
        threading.Event().wait()
    return os.write(to, data)

define()
lifecycle = inproc_jobs._lifecycle
Slow.perform_in(60, 1)
while lifecycle._listener is None:
    pass
lifecycle.os = SimpleNamespace(**{**vars(os), "write": write})
inproc_jobs.shutdown(0)
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, ""), done.stderr


BUSY = """
import fcntl, time

def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

def until_somebody_listens():
    while "inproc_jobs-signals" not in [thread.name for thread in threading.enumerate()]:
        pass
    busy(0.05)

define()
"""


def test_a_flood_of_signals_that_nobody_listened_to_drowns_no_other(python):
    """An application's timer may send thousands while there is nothing to wait for; the pipe they go to is full then."""
    done = python(
        HEAD
        + BUSY
        + """
signal.signal(signal.SIGUSR1, lambda *_: None)
for _ in range(70_000):  # more than the pipe takes
    signal.raise_signal(signal.SIGUSR1)
Slow.perform_async(1)
until_somebody_listens()
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


def test_a_flood_of_signals_beside_a_busy_thread_drowns_no_other(python):
    """The listener gets the interpreter's lock now and then, and hears what has come meanwhile at once."""
    done = python(
        HEAD
        + BUSY
        + """
Slow.perform_async(1, 2)
until_somebody_listens()
fcntl.fcntl(inproc_jobs._lifecycle._pipe[1], fcntl.F_SETPIPE_SZ, 4096)  # so that it need not be 65,536 signals
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
busy(1)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


# The exit, beside what else there is.


def test_a_process_pool_that_comes_after_the_first_job_serves_the_others_to_the_end(python):
    """The pool's exit hook would be the first, and the pool closed while jobs still wait for it."""
    done = python(
        HEAD
        + """
define()
Slow.perform_async(1)
import multiprocessing, operator
from concurrent.futures import ProcessPoolExecutor

class Compute(inproc_jobs.Job, workers=1):
    def perform(self, number):
        threading.Event().wait(0.05)
        say("done", pool.submit(operator.mul, number, 1).result())

pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
pool.submit(int).result()
for number in range(2, 5):
    Compute.perform_async(number)
"""
    )

    assert (done.returncode, sorted(done.stdout.split("\n")), done.stderr) == (
        0,
        ["", "done 1", "done 2", "done 3", "done 4"],
        "",
    )


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


def test_a_process_that_has_noticed_no_fork_works_for_itself(python):
    """Servers written in C fork without Python's hooks; the page that the kernel has wiped tells, then the process id."""
    done = python(
        HEAD
        + """
define()
Slow.perform_async(1, 0)
inproc_jobs.drain(10)
child = os.getpid() + 1
os.getpid = lambda: child
inproc_jobs._pid.here[0] = 0
say(Slow.perform_async(2, 0).wait(10), *inproc_jobs.stats().values())
"""
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("done 1\ndone 2\nTrue Stats(")
    assert "succeeded=1," in done.stdout


def test_a_child_that_is_forked_before_there_is_a_job_works_for_itself(python):
    """Nothing of the parent's has to be undone there."""
    done = python(
        HEAD
        + """
import inproc_jobs
child = os.fork()
if child == 0:
    define()
    Slow.perform_async(1, 0)
    sys.exit(7)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n7\n", "")


def test_a_signal_of_the_applications_does_not_end_the_wait_at_the_door(python):
    """A handler that would raise has nothing left to say once the main thread has ended; it is back afterwards."""
    done = python(
        HEAD
        + """
import atexit
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
define()

class Stopping(inproc_jobs.Job):
    def perform(self, number):
        until(lambda: inproc_jobs._lifecycle._began)  # at the door
        threading.Event().wait(0.8)  # more than two of the same request may be apart
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.3)
        say("done", number)

atexit.register(lambda: say(signal.getsignal(signal.SIGTERM).__name__))
Stopping.perform_async(1)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n<lambda>\n", "")


def test_a_signal_that_an_event_loop_has_left_to_the_system_does_not_end_the_wait_at_the_door(python):
    """A loop that had a handler of its own leaves the default action behind, by which the process would die at once."""
    done = python(
        HEAD
        + """
import asyncio
define()

class Stopping(inproc_jobs.Job):
    def perform(self, number):
        until(lambda: inproc_jobs._lifecycle._began)  # at the door
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.3)
        say("done", number)

async def serve():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    Stopping.perform_async(1)

asyncio.run(serve())
say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "True\ndone 1\n", "")


def test_the_wait_at_the_door_may_be_in_any_thread(in_threads):
    """Only the main thread may look after signals; in a thread of uWSGI's the wait is as patient without."""
    calm = []

    def wait(_: int) -> None:
        with _lifecycle._patience():
            calm.append(True)

    in_threads(wait, 1)

    assert calm == [True]


def test_what_ends_a_greenlet_does_not_end_the_wait_at_the_door(python):
    """SystemExit in the main thread is how gevent tells of a greenlet that has called ``sys.exit``."""
    done = python(
        HEAD
        + """
define()
from inproc_jobs import _native

class Leaving(inproc_jobs.Job):
    def perform(self, number):
        until(lambda: inproc_jobs._lifecycle._began)  # at the door
        _native.raise_in(threading.main_thread().ident, SystemExit)
        say("left")

Leaving.perform_async(1)
Slow.perform_async(2, 0.6)
Slow.perform_async(3, 0.6)
"""
    )

    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (0, ["done 2", "done 3", "left"], "")


def test_a_thread_that_outlives_the_main_one_is_not_ended_for_a_job_that_hangs(python):
    """What the main thread leaves behind keeps the process, as without us, and no watchdog ends it."""
    done = python(
        HEAD
        + """
def outlive():
    threading.Event().wait(3)
    say("outlived")

define()
inproc_jobs.configure(shutdown_timeout=0.5)
Slow.perform_async(1, 60)
threading.Thread(target=outlive).start()
"""
    )

    assert (done.returncode, done.stdout) == (0, "outlived\n")
    assert done.stderr.count("discarded, attempt 1>: shutdown") == 1


def test_a_process_dies_of_its_signal_whichever_thread_is_first(python):
    """The main thread may come to its end while the thread that has finished the work is about to end the process."""
    done = python(
        HEAD
        + """
class Out:
    def flush(self):
        if threading.current_thread() is not threading.main_thread():
            threading.Event().wait(10)

    def write(self, text):
        pass

define()
stopping = threading.Event()
inproc_jobs.signals.shutdown_started.connect(lambda *_, **__: stopping.set(), weak=False)
Slow.perform_async(1, 0.3)
signal.raise_signal(signal.SIGTERM)
stopping.wait(10)
sys.stdout = Out()
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "done 1\n", "")


SERVED = """
import asyncio
from inproc_jobs.asgi import lifespan

async def serve():
    steps = iter(["startup", "shutdown"])

    async def receive():
        return {"type": f"lifespan.{next(steps)}"}

    async def send(message):
        say(message["type"])

    async def app(scope, receive, send):
        raise ValueError("no lifespan here")

    await lifespan(app)({"type": "lifespan"}, receive, send)
"""


def test_a_lifespan_that_ends_after_the_signal_leaves_the_death_to_it(python):
    """A server whose lifespan ends while a signal is being acted on: the work is finished, and the status is its own."""
    done = python(
        HEAD
        + SERVED
        + """
define()
stopping = threading.Event()
inproc_jobs.signals.shutdown_started.connect(lambda *_, **__: stopping.set(), weak=False)
Slow.perform_async(1, 0.3)
signal.raise_signal(signal.SIGTERM)
stopping.wait(10)
asyncio.run(serve())
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert done.stdout.splitlines()[:2] == ["lifespan.startup.complete", "done 1"]


def test_a_grace_period_of_granians_that_is_too_short_is_said(python):
    """Its worker is forked, and keeps a handler of its master's, whose object knows the seconds."""
    done = python(
        HEAD
        + """
class Master:
    workers_kill_timeout = 5
    def handle(self, number, frame):
        pass
signal.signal(signal.SIGHUP, Master().handle)
define()
Slow.perform_async(1, 0)
"""
    )

    said = GRACE.format(5, "granian's workers_kill_timeout")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", said + "\n")


def test_a_child_writes_its_signals_nowhere(python):
    """What its parent listened by is closed, and the numbers of the descriptors may be those of other files by now."""
    done = python(
        HEAD
        + """
define()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
    files = [os.memfd_create("file") for _ in range(10)]
    signal.raise_signal(signal.SIGUSR1)
    say(*{os.fstat(file).st_size for file in files})
    os._exit(0)
os.waitpid(child, 0)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n0\n", "")


def test_a_child_closes_what_its_parent_listens_to_signals_by(python):
    """The pipe is the parent's: the child has two descriptors less."""
    done = python(
        HEAD
        + """
define()
before = len(os.listdir("/dev/fd"))
child = os.fork()
if child == 0:
    os._exit(before - len(os.listdir("/dev/fd")))
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("errors", ["sys.stderr", "io.StringIO()"])
def test_a_job_that_keeps_the_interpreters_lock_does_not_keep_the_process(python, errors):
    """The watchdog ends it soon after the deadline, and says where every thread is, whatever has become of sys.stderr."""
    done = python(
        HEAD
        + f"""
import ctypes, io
sys.stderr = {errors}
define()
inproc_jobs.configure(shutdown_timeout=0.3)

class Keeping(inproc_jobs.Job):
    def perform(self):
        until(lambda: inproc_jobs._lifecycle._watch_deadline)
        ctypes.PyDLL(None).poll(None, 0, 12_000)
        say("had its time")

Keeping.perform_async()
"""
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "in perform" in done.stderr


def test_a_fork_leaves_the_watchdog_to_the_parent(python):
    """It is called off for the fork, and on again where there is still something to watch."""
    done = python(
        HEAD
        + """
import ctypes
stopping = threading.Event()
define()
inproc_jobs.configure(shutdown_timeout=0.5)
inproc_jobs.signals.shutdown_started.connect(lambda *_, **__: stopping.set(), weak=False)
Slow.perform_async(1, 60)
signal.raise_signal(signal.SIGTERM)
stopping.wait(10)
if os.fork() == 0:
    os._exit(0)
ctypes.PyDLL(None).poll(None, 0, 12_000)
"""
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "Timeout" in done.stderr


def test_a_watchdog_that_cannot_be_set_is_told_to_who_looks(monkeypatch, caplog):
    """It writes to the standard error that the process was started with, which may be no file."""
    caplog.set_level("DEBUG", "inproc_jobs")
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    try:
        _lifecycle._set_watchdog(time.monotonic() + 1000)
    finally:
        _lifecycle._set_watchdog(None)

    assert caplog.messages == ["no watchdog: UnsupportedOperation: fileno"]


@pytest.mark.parametrize("busy", [True, False], ids=["with a job that hangs", "idle"])
def test_a_signals_death_loads_nothing(python, busy):
    """A disk that is slow does not hold it up: at the deadline there is no time for one."""
    done = python(
        HEAD
        + f"""
define()
inproc_jobs.configure(shutdown_timeout=0.3)
Slow.perform_async(1, 60 if {busy} else 0)
inproc_jobs.drain(0 if {busy} else 10)

class Disk:
    def find_spec(self, name, path, target=None):
        say("looks for", name)
        threading.Event().wait(60)

until(lambda: inproc_jobs._lifecycle._listener)  # before, it is the main thread's to act, which has nothing to load
sys.meta_path.insert(0, Disk())
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "" if busy else "done 1\n"), done.stderr


@pytest.mark.parametrize("busy", [True, False], ids=["with a job", "idle"])
def test_a_python_without_ctypes_ends_at_a_signal(python, busy):
    """It is often built so, where libffi's headers are missing. The status is a shell's for that signal, sent no second time."""
    done = python(
        HEAD
        + f"""
sys.modules["_ctypes"] = None
define()
Slow.perform_async(1, 0.3 if {busy} else 0)
inproc_jobs.drain(0 if {busy} else 10)
until(lambda: inproc_jobs._lifecycle._listener)  # before, it is the main thread's to act, and dies of the signal
os.kill = say
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
say("goes on")
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "done 1\n", "")


def test_both_doors_of_the_exit_have_one_deadline(python):
    """What hangs at the first is not waited for once more at the second."""
    done = python(
        HEAD
        + """
import atexit, time
atexit.register(lambda: say(1.5 <= time.monotonic() - ended < 2.8))
define()
inproc_jobs.configure(shutdown_timeout=1.5)
Slow.perform_async(1, 60)
ended = time.monotonic()
"""
    )

    assert (done.returncode, done.stdout) == (0, "True\n")


def test_the_door_at_uwsgis_exit_is_taken_once(python):
    """However many job classes there are."""
    done = python(
        HEAD
        + """
server = sys.modules["uwsgi"] = SimpleNamespace(opt={})
define()
Slow.perform_async(1, 0).wait(10)
first = server.atexit
class Other(inproc_jobs.Job):
    def perform(self):
        pass
Other.perform_async().wait(10)
say(server.atexit is first)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\nTrue\n", "")


@pytest.mark.parametrize("jobs", [True, False], ids=["after the first enqueue", "without"])
def test_uwsgis_handlers_are_called_one_after_the_other(python, jobs):
    """They exit: one within the other would exit within the exit. They stay those that uWSGI has installed."""
    done = python(
        HEAD
        + f"""
import ctypes
sys.modules["uwsgi"] = SimpleNamespace(opt={{}})
define()

@ctypes.CFUNCTYPE(None, ctypes.c_int)
def handle(number):
    say(number)
    if number == signal.SIGTERM:
        for other in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            os.kill(os.getpid(), other)
    say("end of", number)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    ctypes.pythonapi.signal(int(number), handle)
if {jobs}:
    Slow.perform_async(1, 0).wait(10)
os.kill(os.getpid(), signal.SIGTERM)
"""
    )

    lines = done.stdout.splitlines()
    heard = lines[lines.index("15") :]
    assert (heard[1] == "end of 15") is jobs
    assert sorted(heard) == sorted(text.format(one) for one in (1, 2, 3, 15) for text in ("{}", "end of {}"))
    assert done.returncode == 0, done.stderr


def test_an_event_loop_goes_on_hearing_its_own_signals(python):
    """It is woken by the one descriptor there is, which stays its own where it has come first."""
    done = python(
        HEAD
        + """
import asyncio

async def main():
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
    define()
    Slow.perform_async(1, 0)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(heard.wait(), 5)
    say("heard")

asyncio.run(main())
"""
    )

    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (0, ["done 1", "heard"], "")


def test_a_process_that_goes_on_after_its_lifespan_has_a_deadline_of_its_own(python):
    """The clock of a stop begins anew where the first one was none."""
    done = python(
        HEAD
        + SERVED
        + """
define()
inproc_jobs.configure(shutdown_timeout=0.8)
Slow.perform_async(1, 0)
asyncio.run(serve())
threading.Event().wait(1.5)
Slow.perform_async(2, 0.1)
"""
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if "done" in line] == ["done 1", "done 2"]


def test_a_thread_that_outlives_the_main_one_has_a_deadline_of_its_own(python):
    """What it enqueues long afterwards is finished as if the stop had begun then."""
    done = python(
        HEAD
        + """
def outlive():
    threading.Event().wait(1.8)
    Slow.perform_async(2, 0.1)

define()
inproc_jobs.configure(shutdown_timeout=0.8)
Slow.perform_async(1, 0)
threading.Thread(target=outlive).start()
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\ndone 2\n", "")


def test_a_child_that_multiprocessing_has_spawned_ends_as_any_other_process(python):
    """Only one that it has forked ends without its callbacks; here they may enqueue."""
    done = python(
        HEAD
        + f"""
import multiprocessing
child = {HEAD!r} + '''
import atexit
define()
atexit.register(Slow.perform_async, 2, 0)
Slow.perform_async(1, 0)
'''
process = multiprocessing.get_context("spawn").Process(target=exec, args=(child, {{"__name__": "spawned"}}))
process.start()
process.join(15)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\ndone 2\n", "")


def test_a_ctrl_c_after_sigterm_is_heard_wherever_the_main_thread_is(python):
    """The first signal takes nothing away by which the next is heard, in the middle of a call into C."""
    started = time.monotonic()

    done = python(
        HEAD
        + """
import ctypes
define()
Slow.perform_async(1, 60)
signal.raise_signal(signal.SIGTERM)
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
library = ctypes.CDLL(None)
lock = (ctypes.c_char * 64)()
library.pthread_mutex_lock(lock)
library.pthread_mutex_lock(lock)
"""
    )

    assert done.returncode == -signal.SIGTERM
    assert time.monotonic() - started < 7


def test_what_jobs_print_arrives_although_the_process_dies_of_a_signal(python):
    """What waits in the buffers of the standard streams is written first."""
    done = python(
        HEAD
        + """
define()
sys.stdout = open(1, "w", closefd=False)  # which buffers, however the tests are run

class Printing(inproc_jobs.Job):
    def perform(self):
        print("printed")

Printing.perform_async().wait(10)
Slow.perform_async(1)
signal.raise_signal(signal.SIGTERM)
threading.Event().wait(10)
"""
    )

    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (
        -signal.SIGTERM,
        ["done 1", "printed"],
        "",
    )


def test_impatience_before_there_is_anything_to_wait_for(python):
    """A process that has accepted nothing has nothing to cut short."""
    done = python(
        HEAD
        + """
define()
inproc_jobs._lifecycle._host.hurry()
Slow.perform_async(1)
"""
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done 1\n", "")
