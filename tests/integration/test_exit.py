"""How a plain script ends: what it accepted is done, in time, and it ends as it would have without the package."""

from __future__ import annotations

import re
import signal
import statistics
import threading

import pytest
from process import GRACE, HEAD, LOAD, Process, discarded, run, start

TEN = list(range(10))

BUSY = """
for number in range(10):
    Slow.perform_async(number)
say("ready")
"""

# Where the main thread may be when a signal comes.
MAINS = {
    "in a loop": "while True: pass",
    "in a system call": "import select; select.select([], [], [], 30)",
    "waiting for an event": "threading.Event().wait(30)",
    "joining a thread": "one = threading.Thread(target=pause, args=(30,), daemon=True); one.start(); one.join()",
    "reading a queue": "import queue; queue.SimpleQueue().get()",
    "in an event loop": "import asyncio; asyncio.run(asyncio.Event().wait())",
    "waiting for a run": "Slow.perform_async(99, 1).wait(30); pause(30)",
    "in a drain": "inproc_jobs.drain(30); pause(30)",
    "enqueueing": """
while True:
    pause(0.01)
    try: Slow.perform_async(99, 0)
    except inproc_jobs.errors.ShutdownError: pass""",
}
RESTLESS = (MAINS["in a loop"], MAINS["enqueueing"])  # these never sleep
MAINS_AT_SIGTERM = {
    **MAINS,
    "in a call into C": "import ctypes; library = ctypes.CDLL(None); lock = (ctypes.c_char * 64)(); "
    "library.pthread_mutex_lock(lock); library.pthread_mutex_lock(lock)",
    "reading its input": "sys.stdin.read()",
    "joining a thread at the exit": "threading.Thread(target=pause, args=(30,)).start()",
    "done": "Slow.perform_async(10, 1.5)",  # longer than the signal takes to come
}

# After which there is nothing to do before the deadline: nothing at all, or nothing that could be done by then.
IDLE = {
    "never used": "",
    "idle": "Slow.perform_async(0).wait(10)",
    "after a shutdown": "Slow.perform_async(0).wait(10); inproc_jobs.shutdown()",
}
FAR_DELAYS = "for number in range(5): Slow.perform_in(60, number)"

# What a job may hang in, and never come back from.
HUNG = {
    "a loop": "while True: pass",
    "a loop that prints": "while True: print('and on', file=(sys.stdout, sys.stderr)[number % 2])",
    "a lock": "threading.Semaphore(0).acquire()",
    "a system call": "import select; select.select([], [], [], 60)",
    "a loop that catches all": """
        while True:
            try: pause(0.01)
            except BaseException: pass""",
}

# The same with the interpreter's lock held: nothing in Python can move any more.
HUNG_WITH_THE_LOCK = {
    "a call into C": "import ctypes; pause(0.4); ctypes.PyDLL(None).poll(None, 0, 60_000)",
    "a regular expression": "pause(0.4); import re; re.match('(a+)+$', 'a' * 60 + 'b')",
}


def hung(body: str) -> str:
    """Return a script with a job that hangs in *body*, and a second of time to stop."""
    return f"""
configure(shutdown_timeout=1.0)

class Hung(Job, workers=1):
    def perform(self, number):
        say("hangs")
        {body}

Hung.perform_async(0)
Hung.perform_async(1)
"""


def after(seconds: float) -> None:
    """Let time pass where the time between two signals is what is tested."""
    threading.Event().wait(seconds)


def settle(process: Process, main: str) -> None:
    """Let the main thread, which runs *main*, get to where it stays."""
    if main in RESTLESS:
        after(0.1)
    else:
        process.settle()


def test_import_starts_nothing():
    """Importing the package and writing a job class starts no thread, and Ctrl-C stays Python's."""
    ended = run("""
        say(threading.active_count(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """)

    assert ended.lines == ["1 True"]
    assert (ended.status, ended.errors) == (0, "")


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('the end')", 1, "the end\n"),
        ("raise ValueError('the end')", 1, "ValueError: the end\n"),
    ],
)
def test_every_exit_finishes_what_was_accepted(ending: str, status: int, said: str):
    """Whatever ends the main thread, the accepted runs are done, and status and traceback are what they were."""
    ended = run(BUSY + ending)

    assert ended.numbers() == TEN
    assert ended.status == status
    assert ended.errors.endswith(said)
    assert ended.errors.count("Traceback") == ending.startswith("raise")
    assert ended.errors.count("\n") == said.count("\n") or "Traceback" in ended.errors


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("main", MAINS_AT_SIGTERM.values(), ids=MAINS_AT_SIGTERM)
def test_sigterm_finishes_what_was_accepted(main: str, times: int):
    """Wherever the main thread is, SIGTERM ends the process by SIGTERM, once the accepted work is done."""
    with start(BUSY + main) as process:
        process.wait_for("ready")
        settle(process, main)

        for _ in range(times):
            process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers()[:10] == TEN
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")
    assert ended.seconds < 5


def test_a_later_sigterm_changes_nothing():
    """A second SIGTERM does not cut the work short: there is a deadline."""
    with start("Slow.perform_async(0, 1.5)\nsay('ready')\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        after(0.7)
        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == [0]
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")


def test_sigterm_while_the_exit_waits_for_work():
    """A SIGTERM that comes when the main thread has ended lets the work be done, and is what the process dies of."""
    with start("Slow.perform_async(0, 1.0)\nSlow.perform_async(1, 1.0)\nsay('ready')") as process:
        process.wait_for("ready")
        after(0.3)

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == [0, 1]
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("script", IDLE.values(), ids=IDLE)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_process_dies_of_a_signal_at_once(script: str, number: int):
    """Where nothing is left to do, a signal ends the process as if the package were not there."""
    with start(f"{script}\nsay('ready')\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(number)
        ended = process.ended()

    assert ended.status == -number
    assert ended.errors.count("KeyboardInterrupt\n") == (number == signal.SIGINT)
    assert ended.seconds < LOAD


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_other_signals_are_left_alone(number: int):
    """Signals that are not a request to stop do what they always did."""
    with start(f"signal.signal({int(signal.SIGQUIT)}, lambda *_: os._exit(7))\n{BUSY}\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(number)
        ended = process.ended()

    assert ended.status == (7 if number == signal.SIGQUIT else -number)


def test_an_ignored_signal_stays_ignored():
    """A process that ignores SIGINT, as one under nohup or in the background of a shell, goes on ignoring it."""
    with start(f"signal.signal(signal.SIGINT, signal.SIG_IGN)\n{BUSY}\nsys.stdin.read()\nsay('ended')") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGINT)
        process.close_input()
        ended = process.ended()

    assert "ended" in ended.lines
    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (0, "")


def test_a_handler_of_the_application_is_kept():
    """A SIGTERM handler that the application has installed decides, and the exit it leads to finishes the work."""
    with start(f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n{BUSY}\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (5, "")


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("main", MAINS.values(), ids=MAINS)
def test_ctrl_c_finishes_what_was_accepted(main: str, times: int):
    """Ctrl-C finishes the accepted work, and the process dies of SIGINT, as Python does; twice at once is one request."""
    longer = "Slow.perform_async(10, 1.5)" if times == 2 else ""  # than the second takes to come
    with start(longer + BUSY + main) as process:
        process.wait_for("ready")
        settle(process, main)

        process.signal(signal.SIGINT)
        if times == 2:
            after(0.25)
            process.signal(signal.SIGINT)
        ended = process.ended()

    assert ended.numbers()[:10] == TEN
    assert times == 1 or 10 in ended.numbers()
    assert ended.status == -signal.SIGINT
    assert ended.errors.count("KeyboardInterrupt\n") >= 1
    assert "Exception ignored" not in ended.errors
    assert "inproc_jobs-stop" not in ended.errors


def test_ctrl_c_under_the_systems_own_disposition():
    """Where SIGINT would end the process without a traceback, it still does, once the work is done."""
    with start(f"signal.signal(signal.SIGINT, signal.SIG_DFL)\n{BUSY}\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGINT)
        ended = process.ended()

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("main", "status"),
    [
        ("pause(30)", -signal.SIGINT),
        (
            "signal.signal(signal.SIGINT, signal.SIG_DFL)\nSlow.perform_async(8, 0)\nOther.perform_async()\npause(30)",
            -2,
        ),
        ("try: pause(30)\nexcept KeyboardInterrupt: sys.exit(4)", 4),
    ],
    ids=["uncaught", "the system's disposition", "caught"],
)
def test_a_second_ctrl_c_gives_up(main: str, status: int):
    """A second Ctrl-C, more than half a second after the first, ends the wait at once and names what is given up."""
    script = """
class Other(Job):
    def perform(self): pass

one, two, three = Slow.perform_async(1, 20), Slow.perform_async(2, 20), Slow.perform_async(3, 20)
later = Slow.perform_in(3, 4)
say(one.id, two.id, three.id, later.id)
"""
    with start(f"{script}\nsay('ready')\n{main}") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGINT)
        after(0.9)
        process.signal(signal.SIGINT)
        ended = process.ended()

    given_up = discarded(ended.errors)
    assert set(ended.lines[0].split()) <= set(given_up)
    assert len(given_up) == len(set(given_up))
    assert ended.status == status
    assert ended.seconds < 1.0 + LOAD
    assert "Exception ignored" not in ended.errors


def test_ctrl_c_after_sigterm_gives_up():
    """A Ctrl-C while a SIGTERM waits for work ends the wait; the process dies of the SIGTERM or the SIGINT."""
    with start("Slow.perform_async(1, 20)\nSlow.perform_async(2, 20)\nsay('ready')\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        after(0.9)
        process.signal(signal.SIGINT)
        ended = process.ended()

    assert len(discarded(ended.errors)) == 2
    assert ended.status in (-signal.SIGTERM, -signal.SIGINT)
    assert ended.seconds < 1.0 + LOAD


@pytest.mark.parametrize("body", HUNG.values(), ids=HUNG)
@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGINT"])
def test_a_hung_job_delays_the_exit_to_the_deadline(body: str, how: str):
    """A job that never returns costs the exit the deadline and a second at most; it is named, and the status kept."""
    with start(hung(body) + ("sys.exit(3)" if how == "exit" else "pause(30)")) as process:
        process.wait_for("hangs")
        process.settle()

        if how != "exit":
            process.signal(getattr(signal, how))
        ended = process.ended()

    assert len(discarded(ended.errors)) == 2
    assert ended.status == {"exit": 3, "SIGTERM": -signal.SIGTERM, "SIGINT": -signal.SIGINT}[how]
    assert ended.seconds < 1.0 + GRACE + LOAD
    assert "Fatal" not in ended.errors


@pytest.mark.parametrize("body", HUNG_WITH_THE_LOCK.values(), ids=HUNG_WITH_THE_LOCK)
@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGINT"])
def test_a_job_that_keeps_the_interpreters_lock_delays_the_exit_to_the_deadline(body: str, how: str):
    """Even a job that lets nothing else run costs the exit the deadline and a second; where it hangs is written."""
    with start(hung(body) + ("sys.exit(3)" if how == "exit" else "pause(30)")) as process:
        process.wait_for("hangs")
        process.settle()

        if how != "exit":
            process.signal(getattr(signal, how))
        ended = process.ended()

    assert re.search(r"in perform\n", ended.errors)
    assert ended.seconds < 1.0 + GRACE + LOAD


@pytest.mark.parametrize("how", ["exit", "SIGTERM"])
@pytest.mark.parametrize("seconds", [0.001, 0.005, 0.02])
def test_a_job_that_cleans_up_with_the_interpreters_lock_held(how: str, seconds: float):
    """A job that is told to stop, and then hangs with the interpreter's lock, holds the exit up no longer either."""
    script = hung(f"""while not self.should_stop: pause({seconds})
        import ctypes
        ctypes.PyDLL(None).poll(None, 0, 60_000)""")
    with start(script + ("" if how == "exit" else "pause(30)")) as process:
        process.wait_for("hangs")
        process.settle()

        if how != "exit":
            process.signal(signal.SIGTERM)
        ended = process.ended()

    assert discarded(ended.errors)
    assert ended.seconds < 1.0 + GRACE + LOAD


def test_many_hung_jobs_cost_one_deadline():
    """The deadline is one for all job classes: thirty hung jobs delay the exit no more than one."""
    ended = run("""
        configure(shutdown_timeout=0.5)
        for number in range(30):
            @job(name=f"hung-{number}")
            def hung():
                threading.Semaphore(0).acquire()
            hung.perform_async()
        say("ready")
    """)

    assert len(set(discarded(ended.errors))) == 30
    assert ended.status == 0
    assert ended.seconds < 0.5 + GRACE + LOAD + 1.0  # the start of the interpreter counts here


def test_work_enqueued_by_jobs_while_draining_is_done():
    """A job that enqueues another one while the process stops is served, to the end of the chain."""
    with start("""
        class Chain(Job):
            def perform(self, number):
                pause(0.05)
                if number < 9:
                    Chain.perform_async(number + 1)
                    Other.perform_async(number)
                say("done", number)

        class Other(Job):  # whose queue is made while draining
            def perform(self, number): say("other", number)

        Chain.perform_async(0)
        say("ready")
        pause(30)
    """) as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == TEN
    assert ended.numbers("other") == TEN[:-1]
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("number", [0, 3])
def test_work_enqueued_by_an_atexit_callback_is_not_lost(used_before: bool, number: int):
    """What an atexit callback enqueues is done, if it was registered after the import, or refused with an exception."""
    head = """
import atexit, os

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def late(word):
    try:
        for number in range(3):
            run = Late.perform_async(word, number)
        say(word, "accepted")
    except Exception as error:
        say(word, "refused by", type(error).__name__)

atexit.register(late, "early")
from inproc_jobs import Job
"""
    ended = run(
        f"""
        class Late(Job):
            def perform(self, word, number):
                say(word, number)

        atexit.register(late, "late")
        for number in range({number if used_before else 0}):
            Late.perform_async("before", number)
        """,
        head=head,
    )

    assert {"late accepted", "late 0", "late 1", "late 2"} <= set(ended.lines)
    assert "early refused by ShutdownError" in ended.lines or {"early 0", "early 1", "early 2"} <= set(ended.lines)
    assert ended.status == 0


def test_an_enqueue_in_a_finalizer_at_the_very_end_is_refused():
    """An object that the ending interpreter destroys, and that enqueues then, is told that it is too late."""
    for use in ("Slow.perform_async(0)", ""):
        ended = run(f"""
            class Last:
                def __del__(self, say=say, Slow=Slow):
                    try:
                        Slow.perform_async(1)
                        say("accepted")
                    except Exception as error:
                        say("refused by", type(error).__name__)

            last = Last()
            {use}
        """)

        assert "refused by ShutdownError" in ended.lines
        assert ended.numbers() == ([0] if use else [])
        assert (ended.status, ended.errors) == (0, "")


def test_delayed_runs_at_the_exit():
    """A run that is due before the deadline runs; one that is not is discarded and named, and is not waited for."""
    ended = run("""
        from datetime import UTC, datetime, timedelta
        configure(shutdown_timeout=5)
        Slow.perform_in(0.4, 0)
        Slow.perform_at(datetime.now(UTC) + timedelta(seconds=0.4), 1)
        far = [Slow.perform_in(60, 2), Slow.perform_at(datetime.now(UTC) + timedelta(seconds=60), 3)]
        for run in far: say("far", run.id)
        say("ready")
    """)

    assert ended.numbers() == [0, 1]
    assert sorted(discarded(ended.errors)) == sorted(line.split()[1] for line in ended.lines if line.startswith("far"))
    assert ended.status == 0
    assert ended.seconds < 3


def test_retries_at_the_exit():
    """A retry that is due before the deadline is made; a run whose retry is not is discarded and named."""
    ended = run("""
        class Failing(Job):
            def perform(self, number):
                say("attempt", self.run.attempt)
                if self.run.attempt <= number:
                    raise OSError("not yet")
                say("done", number)

        near = Retry(attempts=5, on=(OSError,), backoff=0.1, jitter=False)
        Failing.using(retry=near).perform_async(2)
        far = Failing.using(retry=Retry(on=(OSError,), backoff=60.0, jitter=False)).perform_async(1)
        say("far", far.id)
    """)

    assert ended.numbers() == [2]
    assert ended.numbers("attempt") == [1, 1, 2, 3]
    assert discarded(ended.errors) == [line.split()[1] for line in ended.lines if line.startswith("far")]
    assert ended.status == 0


def test_sigterm_with_far_delays_ends_at_once():
    """Runs that are not due before the deadline are named and do not hold the process up."""
    with start(f"{FAR_DELAYS}\nsay('ready')\npause(30)") as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert len(discarded(ended.errors)) == 5
    assert ended.status == -signal.SIGTERM
    assert ended.seconds < LOAD


def test_an_idle_stop_adds_nothing():
    """With idle workers, an exit takes less than 50 ms longer than without the package."""
    clock = "import time; say('ending'); say(time.monotonic())"
    scripts = {
        "without": f"import logging, queue, concurrent.futures\n{clock}",
        "idle": f"Slow.perform_async(0, 0).wait(10)\n{clock}",
    }
    seconds: dict[str, list[float]] = {name: [] for name in scripts}

    for _ in range(7):
        for name, script in scripts.items():
            with start(script) as process:
                process.wait_for("ending")
                ended = process.ended()
            began = float(ended.lines[ended.lines.index("ending") + 1])
            seconds[name].append(ended.at - began)

    assert statistics.median(seconds["idle"]) - statistics.median(seconds["without"]) < 0.05


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_with_nothing_due_adds_nothing(number: int):
    """With nothing due before the deadline, a signal ends the process less than 50 ms later than without the package."""
    without = "import concurrent.futures, logging, os, queue, threading\nsay = lambda line: os.write(1, line.encode())"
    scripts = {"without": f"{without}\npause = threading.Event().wait"}
    scripts |= {name: HEAD + script for name, script in {**IDLE, "far delays": FAR_DELAYS}.items()}
    seconds: dict[str, list[float]] = {name: [] for name in scripts}

    for _ in range(7):
        for name, script in scripts.items():
            with start(f"{script}\nsay('ready\\n')\npause(30)", head="") as process:
                process.wait_for("ready")
                process.settle()
                process.signal(number)
                ended = process.ended()
            assert ended.errors.count("KeyboardInterrupt\n") == (number == signal.SIGINT)
            seconds[name].append(ended.seconds)

    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    assert max(medians.values()) - medians["without"] < 0.05, medians


def test_what_jobs_print_arrives():
    """What a job prints last is not lost in a buffer, whichever way the process ends."""
    script = """
        @job
        def talk(number):
            pause(0.05)
            print(f"done {number}\\n", end="")  # one write: two workers print

        for number in range(10): talk.perform_async(number)
        say("ready")
    """
    with start(script) as process:
        exited = process.ended()
    with start(script + "    pause(30)") as process:
        process.wait_for("ready")
        process.settle()
        process.signal(signal.SIGTERM)
        killed = process.ended()

    assert exited.numbers() == TEN
    assert killed.numbers() == TEN


def test_enqueues_of_another_thread_are_done_at_the_exit():
    """Work that the main thread has never seen is finished all the same."""
    ended = run("""
        thread = threading.Thread(target=lambda: [Slow.perform_async(number) for number in range(10)])
        thread.start()
        thread.join()
    """)

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (0, "")


def test_enqueues_of_another_thread_are_done_at_sigterm():
    """SIGTERM finishes the work also where only other threads than the main one have enqueued."""
    with start("""
        def enqueue():
            for number in range(10): Slow.perform_async(number)
            say("ready")

        threading.Thread(target=enqueue, daemon=True).start()
        pause(30)
    """) as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("seconds", [0.2, 1.5], ids=["soon", "past the deadline of the main thread's end"])
def test_a_thread_that_outlives_the_main_one_may_enqueue(seconds: float):
    """A process lives as long as its threads do: what the last of them enqueues is done."""
    ended = run(f"""
        configure(shutdown_timeout=1.0)

        def serve():
            pause({seconds})
            for number in range(10): Slow.perform_async(number)

        Slow.perform_async(10)
        threading.Thread(target=serve).start()
    """)

    assert ended.numbers() == [*TEN, 10]
    assert (ended.status, ended.errors) == (0, "")


def test_sigterm_long_after_the_main_thread_has_ended():
    """A server in a thread of its own has the whole deadline at SIGTERM, however long ago the main thread ended."""
    with start("""
        configure(shutdown_timeout=1.0)

        def serve():
            pause(1.5)
            for number in range(10): Slow.perform_async(number)
            say("ready")
            pause(30)

        Slow.perform_async(10)
        threading.Thread(target=serve).start()
    """) as process:
        process.wait_for("ready")
        process.settle()

        process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == [*TEN, 10]
    assert (ended.status, ended.errors) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("seconds", [0.0, 0.01, 30.0], ids=["quick", "slow", "hung"])
def test_a_thread_that_never_stops_enqueueing(seconds: float):
    """With a thread that enqueues without end the exit is on time, and each accepted run is done or named."""
    with start(f"""
        configure(shutdown_timeout=0.5)

        def enqueue():
            while True:
                run = Slow.perform_async(run_number(), {seconds})
                say("accepted", run.id)
                pause(0.001)

        run_number = iter(range(10**9)).__next__
        inproc_jobs.signals.job_succeeded.connect(lambda sender, run, **extra: say("ran", run.id), weak=False)
        threading.Thread(target=enqueue, daemon=True).start()
        pause(0.3)
        say("ready")
    """) as process:
        process.wait_for("ready")
        ended = process.ended()

    accepted = [line.split()[1] for line in ended.lines if line.startswith("accepted")]
    ran = [line.split()[1] for line in ended.lines if line.startswith("ran")]
    assert set(accepted) <= set(ran) | set(discarded(ended.errors))
    assert len(set(ran)) == len(ran)
    assert not set(ran) & set(discarded(ended.errors))
    assert ended.status == 0
    assert ended.seconds < 0.5 + GRACE + LOAD


def test_threads_that_start_during_the_exit_do_not_hold_it_up():
    """Workers that come to life while the interpreter exits, and hang, are not waited for."""
    ended = run("""
        configure(shutdown_timeout=0.3)

        def enqueue():
            for number in range(10**6):
                @job(name=f"hung-{number}", workers=1)
                def hung():
                    threading.Semaphore(0).acquire()
                hung.perform_async()
                jobs.append(hung)
                pause(0.03)

        jobs = []
        threading.Thread(target=enqueue, daemon=True).start()
        pause(0.1)
    """)

    assert len(discarded(ended.errors)) > 1
    assert ended.status == 0
    assert ended.seconds < 0.4 + GRACE + LOAD + 1.0


def test_an_explicit_shutdown_leaves_nothing_for_the_exit():
    """After shutdown() the exit adds nothing, and what came too late was refused."""
    ended = run("""
        run = Slow.perform_async(0)
        report = inproc_jobs.shutdown()
        say(report.finished, report.discarded)
        try:
            Slow.perform_async(1)
        except inproc_jobs.errors.ShutdownError:
            say("refused")
    """)

    assert ended.lines == ["done 0", "1 []", "refused"]
    assert (ended.status, ended.errors) == (0, "")


def test_a_failing_job_does_not_change_the_status():
    """A job that fails, or asks for the exit of the process, is a line in the log; the process's status is its own."""
    ended = run("""
        @job
        def leave():
            sys.exit(9)

        leave.perform_async()
        Slow.perform_async(0)
    """)

    assert ended.numbers() == [0]
    assert ended.status == 0
    assert ended.errors.count("Traceback") == 1
    assert ended.errors.rstrip().endswith("SystemExit: 9")


def test_closed_standard_streams():
    """A daemon without standard streams stops as any other process."""
    for close in ("sys.stderr = None", "sys.stderr.close()", "os.close(2)", "sys.stdout = sys.stderr = None"):
        with start(f"{close}\n{BUSY}\nSlow.perform_in(60, 99)\npause(30)") as process:
            process.wait_for("ready")
            process.settle()

            process.signal(signal.SIGTERM)
            ended = process.ended()

        assert ended.numbers() == TEN, close
        assert ended.status == -signal.SIGTERM, close


def test_a_process_pool_serves_its_jobs_to_the_end():
    """Jobs that wait for a process pool still have it while they are finished, though it came after this package."""
    ended = run("""
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing, operator

        @job(workers=1)
        def compute(number):
            pause(0.05)
            say("done", pool.submit(operator.mul, number, 1).result())

        if __name__ == "__main__":
            pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
            pool.submit(int).result()
            for number in range(5): compute.perform_async(number)
    """)

    assert ended.numbers() == [0, 1, 2, 3, 4]
    assert (ended.status, ended.errors) == (0, "")
