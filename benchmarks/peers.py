"""The table of peers: every contender in a process of its own, taking turns round by round.

While one is measured the others wait for their turn, blocked. ``x bare`` is the median over the rounds of a contender's
time per job against that of the bare executor in the same round.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from statistics import median
from typing import Any

from .contenders import NAMES

FIGURES = ("call", "job", "idle", "bytes")


def measure(*, quick: bool) -> list[dict[str, Any]]:
    """Return a line for each contender."""
    rounds = 3 if quick else 9
    counts = {"call": 500, "job": 1000, "idle": 30} if quick else {"call": 2000, "job": 5000, "idle": 60}
    with ExitStack() as stack:
        processes = {module: stack.enter_context(_Process(module)) for module in NAMES}
        present = {module: process for module, process in processes.items() if process.missing is None}
        figures: dict[str, dict[str, list[float]]] = {module: {what: [] for what in FIGURES} for module in present}
        for what, count in counts.items():
            print(f"measuring peers: {what} ...", file=sys.stderr, flush=True)
            for _ in range(rounds):
                for module, process in present.items():
                    figures[module][what].append(process.ask(what, count))
        for module, process in present.items():
            figures[module]["bytes"].append(process.ask("bytes", 500 if quick else 2000))
    return [_line(module, process, figures) for module, process in processes.items()]


def _line(module: str, process: _Process, figures: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    if process.missing is not None:
        return {"name": NAMES[module], "missing": process.missing}
    mine = figures[module]
    against = median(ours / bare for ours, bare in zip(mine["job"], figures["bare"]["job"], strict=True))
    medians = {what: median(mine[what]) for what in FIGURES}
    return {"name": NAMES[module], "version": process.version, "against": against, **medians}


class _Process:
    """A contender's process, which answers one question at a time."""

    def __init__(self, module: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self._read()
        self.missing: str | None = first.get("missing")
        self.version: str = first.get("version", "")
        self._polls: bool = first.get("polls", False)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.stdin.close()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        self._popen.stdout.close()

    def ask(self, what: str, count: int) -> float:
        """Return the figure of *what*; one that polls makes few idle starts, for each takes a tenth of a second."""
        if what == "idle" and self._polls:
            count = 5
        self._popen.stdin.write(json.dumps({"what": what, "count": count}) + "\n")
        self._popen.stdin.flush()
        return float(self._read()["figure"])

    def _read(self) -> dict[str, Any]:
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._popen.args[-1]}: its process ended with status {self._popen.wait(20)}")
        answer: dict[str, Any] = json.loads(line)
        return answer
