"""Handlers and hooks that others have installed: each still runs, in its order, and what was accepted is done."""

from __future__ import annotations

import signal

import pytest
from process import HEAD, run, start

TEN = list(range(10))

BUSY = """
for number in range(10):
    Slow.perform_async(number)
"""

# Whoever adds a handler of his own calls the one before, or does what the system would have done.
CHAINED = """
def chained(before, word):
    def handle(number, frame):
        say(word)
        if before is signal.SIG_DFL:
            signal.signal(number, before)
            os.kill(os.getpid(), number)
        else:
            before(number, frame)
    return handle

def chain(number, word):
    signal.signal(number, chained(signal.getsignal(number), word))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("order", [("chain", "enqueue"), ("enqueue", "chain")], ids=" then ".join)
def test_a_handler_that_calls_the_one_before(number: int, order: tuple[str, ...]):
    """Handlers put in front of ours or of Python's run first, then the work is done and the process dies of the signal."""
    parts = {"enqueue": BUSY, "chain": f"chain({int(number)}, 'inner'); chain({int(number)}, 'outer')"}
    with start("\n".join((CHAINED, *(parts[part] for part in order), "say('ready')", "pause(30)"))) as process:
        process.wait_for("ready")
        process.settle()

        process.signal(number)
        ended = process.ended()

    assert [line for line in ended.lines if line in ("inner", "outer")] == ["outer", "inner"]
    assert ended.numbers() == TEN
    assert ended.status == -number
    assert ended.errors.count("Traceback") == (number == signal.SIGINT)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_signal_after_an_event_loop_with_a_handler(times: int):
    """An event loop that has caught SIGTERM leaves the deadly default behind; a second SIGTERM then loses nothing."""
    with start(
        """
        import asyncio

        async def main():
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            for number in range(10):
                Slow.perform_async(number, 0.3)
            say("ready")
            await stop.wait()

        asyncio.run(main())
        say("stopped")
        """
    ) as process:
        process.wait_for("ready")

        process.signal(signal.SIGTERM)
        process.wait_for("stopped")
        if times == 2:
            process.settle()
            process.signal(signal.SIGTERM)
        ended = process.ended()

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (0 if times == 1 else -signal.SIGTERM, "")


def test_exit_hooks_run_in_their_order():
    """Exit hooks of others run in the order that they have without us, and one that enqueues is still served."""
    ended = run(
        """
        import atexit
        atexit.register(say, "hook", 3)
        Slow.perform_async(1, 0.2)
        atexit.register(lambda: (say("hook", 2), Slow.perform_async(2)))
        threading._register_atexit(say, "hook", 1)
        """
    )

    assert ended.numbers() == [1, 2]
    assert [line for line in ended.lines if line.startswith("hook")] == ["hook 1", "hook 2", "hook 3"]
    assert (ended.status, ended.errors) == (0, "")


def test_no_thread_of_ours_takes_a_signal_while_it_starts_another():
    """The thread that starts the workers is deaf to signals, so that the main thread gets them; the workers are not."""
    ended = run(
        """
        def blocked(thread):
            status = open(f"/proc/self/task/{thread.native_id}/status").read()
            return int(status.partition("SigBlk:")[2].split()[0], 16) >> signal.SIGTERM - 1 & 1

        class Looks(Job):
            def perform(self):
                for thread in threading.enumerate():
                    if thread.native_id is not None:  # another may still be on its way up
                        say(thread.name.partition("_0")[0], blocked(thread))

        Looks.perform_async().wait(10)
        """
    )

    assert {"MainThread 0", "inproc_jobs-timer 1", "inproc_jobs-worker 0"} <= set(ended.lines)
    assert (ended.status, ended.errors) == (0, "")


# Threads and their executors as a Python would have them that gives a private name of theirs another one.
MOVED = """
import concurrent.futures, importlib.util, sys

for parent, name in (None, "threading"), (concurrent.futures, "thread"):
    spec = importlib.util.find_spec(name if parent is None else f"{{parent.__name__}}.{{name}}")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    exec(compile(spec.loader.get_source(spec.name).replace("{name}", "_moved"), spec.origin, "exec"), vars(module))
    if parent is not None:
        setattr(parent, name, module)
"""


@pytest.mark.slow  # without two of them the interpreter joins idle workers, which linger for 10 s
@pytest.mark.parametrize("name", ["_register_atexit", "_threading_atexits", "_threads_queues"])
def test_a_python_that_has_moved_a_private_name(name: str):
    """Without a private name of CPython's that we use where it is there, what was accepted is done all the same."""
    head = MOVED.format(name=name) + HEAD
    with start(f"{BUSY}\nassert not hasattr(threading, {name!r})\nsay('ready')", head=head) as process:
        process.wait_for("ready")
        process.settle()

        ended = process.ended()

    assert ended.numbers() == TEN
    assert (ended.status, ended.errors) == (0, "")
