"""Many runs through one process: each performed once, all counted, and nothing that grows.

``python tests/proof/soak.py [--runs 1000000] [--faults]`` prints what the process holds after every twentieth of them. With
``--faults`` one run in five fails, in every way there is, and each signal has a receiver that raises now and then.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import inproc_jobs
from inproc_jobs import Job, Stats, signals

sys.path.append(str(Path(__file__).parents[1] / "stress"))
from test_exactly_once import FAILURES

SAMPLES = 20
WARM = 2  # samples until everything has its size: a tenth
DELAYED = 50  # every so manieth run goes by way of the timer
TIMEOUT = 120.0  # seconds a part may take to drain
PRODUCERS = 2
WORKERS = 4
THREADS = WORKERS + 3  # with the timer's, the one that waits for signals, and the main one
BROKEN = 10  # every so manieth signal makes a receiver raise

MORE_BLOCKS = 2_000  # that may be allocated in the end; one for each run would be a hundred times as many
MORE_MEMORY = 4 * 2**20  # bytes, likewise

CLOSING = {"job-succeeded", "job-failed", "job-discarded", "job-cancelled"}


@dataclass(frozen=True)
class Sample:
    """What the process holds while nothing is at work.

    Attributes:
        runs: so far.
        seconds: since the start.
        blocks: allocated by Python.
        memory: resident, in bytes.
        descriptors: that are open.
        threads: that live.
    """

    runs: int
    seconds: float
    blocks: int
    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.runs:10,} {self.seconds:8.1f} {self.blocks:10,} {self.memory / 2**20:9.1f}"
            f" {self.descriptors:12} {self.threads:8}"
        )


HEAD = "      runs  seconds     blocks  MiB (RSS)  descriptors  threads"


class Lines(logging.Handler):
    """Counts the lines about runs, each made to the text that it would be."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "inproc_jobs.run":
            self.format(record)
            self.count += 1


class Soak:
    """One soak: performs the runs, and looks at the process after every part of them."""

    def __init__(self, runs: int, *, faults: bool) -> None:
        self.runs = runs
        self.faults = faults
        self.performed = bytearray(runs)  # how often each was
        self.heard: Counter[str] = Counter()
        self.lines = Lines()
        performed = self.performed

        class Soaked(Job, workers=WORKERS, when_full="block", block_timeout=TIMEOUT, name="soaked"):
            def perform(self, number: int, text: str) -> str:
                if faults and number % 5 == 0:
                    FAILURES[number // 5 % len(FAILURES)]()
                performed[number] += 1
                return text

        self.job = Soaked

    def run(self, show: Callable[[object], object]) -> list[str]:
        """Perform all runs and return what is wrong."""
        if not self.faults:
            return self._run(show)
        logging.getLogger("inproc_jobs").addHandler(self.lines)
        logging.getLogger("inproc_jobs").propagate = False
        receivers = self._receivers()
        for signal, receiver in receivers:
            signal.connect(receiver)
        try:
            return self._run(show)
        finally:
            for signal, receiver in receivers:
                signal.disconnect(receiver)
            logging.getLogger("inproc_jobs").propagate = True
            logging.getLogger("inproc_jobs").removeHandler(self.lines)

    def _run(self, show: Callable[[object], object]) -> list[str]:
        inproc_jobs.configure(max_threads=WORKERS)
        show(HEAD)
        samples = []
        started = time.monotonic()
        for part in range(SAMPLES):
            self._produce(self.runs * part // SAMPLES, self.runs * (part + 1) // SAMPLES)
            if not inproc_jobs.drain(TIMEOUT):
                return [f"does not drain: {inproc_jobs.stats()['soaked']}"]
            samples.append(_look(self.runs * (part + 1) // SAMPLES, time.monotonic() - started))
            show(samples[-1])
        return self._miscounted(inproc_jobs.stats()["soaked"]) + _grown(samples[WARM - 1], samples[WARM:])

    def _produce(self, first: int, end: int) -> None:
        def produce(producer: int) -> None:
            for number in range(first + producer, end, PRODUCERS):
                if number % DELAYED == 1:
                    self.job.perform_in(0.001, number, "some text")
                else:
                    self.job.perform_async(number, "some text")

        threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _receivers(self) -> list[tuple[signals.Signal, Callable[..., None]]]:
        kinds = (SystemExit, ValueError, MemoryError, KeyboardInterrupt)
        calls, errors = itertools.count(), itertools.count()
        lock = threading.Lock()

        def counting(name: str) -> Callable[..., None]:
            def count(sender: object, **extra: object) -> None:
                with lock:
                    self.heard[name] += 1

            return count

        def broken(sender: object, **extra: object) -> None:
            if next(calls) % BROKEN == 0:
                raise kinds[next(errors) % len(kinds)]

        everything = [getattr(signals, name) for name in signals.__all__]
        return [(signal, receiver) for signal in everything for receiver in (broken, counting(signal.name))]

    def _miscounted(self, stats: Stats) -> list[str]:
        bad = len(range(0, self.runs, 5)) if self.faults else 0
        good = self.runs - bad
        expected = bytes(0 if self.faults and number % 5 == 0 else 1 for number in range(self.runs))
        wrong = []
        if self.performed != expected:
            lost = sum(times < due for times, due in zip(self.performed, expected, strict=True))
            wrong.append(f"{lost} good runs were not performed, {sum(map((1).__lt__, self.performed))} twice")
        if (stats.succeeded, stats.failed, stats.run.count) != (good, bad, self.runs):
            wrong.append(f"counted {stats}")
        if stats.queued or stats.scheduled or stats.busy or stats.discarded or stats.cancelled or stats.rejected:
            wrong.append(f"left {stats}")
        if self.faults:
            closing = {name: count for name, count in self.heard.items() if name in CLOSING}
            if closing != {"job-succeeded": good, "job-failed": bad} or self.heard["job-enqueued"] != self.runs:
                wrong.append(f"sent {dict(self.heard)}")
            if self.lines.count != bad:
                wrong.append(f"wrote {self.lines.count} lines for {bad} failures")
        return wrong


def _look(runs: int, seconds: float) -> Sample:
    gc.collect()
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    descriptors = len(os.listdir("/proc/self/fd"))
    return Sample(runs, seconds, sys.getallocatedblocks(), memory, descriptors, threading.active_count())


def _grown(warm: Sample, rest: list[Sample]) -> list[str]:
    last, wrong = rest[-1], []
    if last.blocks - warm.blocks > MORE_BLOCKS:
        wrong.append(f"{last.blocks - warm.blocks:,} more blocks")
    if last.memory - warm.memory > MORE_MEMORY:
        wrong.append(f"{(last.memory - warm.memory) / 2**20:.1f} MiB more")
    if max(sample.descriptors for sample in rest) > warm.descriptors:
        wrong.append(f"more descriptors than {warm.descriptors}")
    if max(sample.threads for sample in rest) > THREADS:
        wrong.append("more threads than there may be")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    wrong = Soak(options.runs, faults=options.faults).run(lambda line: print(line, flush=True))
    print("\n".join(wrong) or "each good run performed once, every count exact, nothing grows")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
