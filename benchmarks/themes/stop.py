"""What an idle process takes longer to stop because of this package.

A script performs one job and then idles; it is stopped by SIGTERM, or ends by itself. The same script with a bare
executor is the other. Timed from outside, from the signal, or the end of its input, to the end of the process.

It is left to idle for a moment before: a signal that strikes just ahead of a blocking call is noticed by a handler in
Python only after that call.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from time import perf_counter

from ..rows import Row, difference, interleaved

OURS = """
from inproc_jobs import job
@job
def act():
    pass
act.perform_async().result(10)
"""
OTHER = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
pool.submit(int).result(10)
"""
IDLE = """
import sys
print("ready", flush=True)
sys.stdin.read()
"""
BUDGET = 50.0  # milliseconds
MOMENT = 0.05  # seconds

_breath = threading.Event()  # never set


def measure(*, quick: bool) -> list[Row]:
    rounds = 5 if quick else 25
    ends = interleaved(rounds, lambda: _stop(OURS, None), lambda: _stop(OTHER, None))
    terms = interleaved(rounds, lambda: _stop(OURS, signal.SIGTERM), lambda: _stop(OTHER, signal.SIGTERM))
    return [
        difference("idle stop, SIGTERM to the end of the process, ms", terms, BUDGET),
        difference("idle stop, last line to the end of the process, ms", ends, BUDGET),
    ]


def _stop(work: str, number: signal.Signals | None) -> float:
    """Return the milliseconds that a script takes to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", work + IDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    _breath.wait(MOMENT)
    started = perf_counter()
    if number is None:
        process.stdin.close()
    else:
        process.send_signal(number)
    status = process.wait(20)
    elapsed = perf_counter() - started
    process.stdin.close()
    process.stdout.close()
    assert status == (0 if number is None else -number), f"the script ended with {status}"
    return elapsed * 1000
