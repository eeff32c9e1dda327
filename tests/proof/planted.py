"""Bugs that are planted in the engine one at a time, so that the search of the schedules is known to search.

``python tests/proof/planted.py [bug ...] [--seed N]`` has the search look for each, in a process of its own whose engine is
compiled with that bug in its source, and prints after how many schedules and seconds it was found.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import subprocess
import sys
import time
from random import Random
from types import CodeType
from typing import NamedTuple

MINUTE = 60.0  # seconds within which a bug has to be found


class Bug(NamedTuple):
    """A change of one place of one module, and the scenario that must find it."""

    module: str
    old: str
    new: str
    scenario: str


BUGS = {
    "a retiring worker does not look whether a run has come meanwhile": Bug(
        "_queue",
        "        finally:\n            self.nudge()\n            self.threads.tell()\n",
        "        finally:\n            self.threads.tell()\n",
        "two_drains",
    ),
    "a run is taken in two steps": Bug(
        "_worker",
        "                    self.take()\n",
        "                    self.hand.append(self.levels[0][0])\n                    self.levels[0].popleft()\n",
        "enqueue_against_drain",
    ),
    "a worker that has looked is taken for one that is on its way": Bug(
        "_threads",
        "            self.called = None\n            work = hand[0]\n",
        "            work = hand[0]\n",
        "two_drains",
    ),
    "a run that a sweep has missed is not looked at again": Bug(
        "_queue",
        "                if self.closed:\n                    self._recheck(",
        "                if False:\n                    self._recheck(",
        "enqueue_against_shutdown",
    ),
    "two may close a run": Bug(
        "_run",
        "                    del self._open; claimed = True;",
        "                    if self.state in FINAL: return False\n                    claimed = True;",
        "deadline_against_end",
    ),
    "a drain looks before it listens": Bug(
        "_runtime",
        "                with threads.changed:\n                    if self.quiet(deadline):\n                        break\n",
        "                if self.quiet(deadline):\n                    break\n                with threads.changed:\n",
        "two_drains",
    ),
    "a run that goes from the timer to a worker is overlooked": Bug(
        "_timer",
        "            if self._calling is not None and self._calling[2] is function:\n",
        "            if False:\n",
        "timer_against_drain",
    ),
    "a thread that ends does not look what is ready": Bug(
        "_threads",
        "        self.ask()\n        if not self._serving and not self._starting:",
        "        if not self._serving and not self._starting:",
        "spawn_against_retire",
    ),
    "a cancelled run may have been taken": Bug(
        "_queue",
        "                    mover(self._level(run).remove, taken.append, run)()\n",
        "                    taken.append(run)\n                    self._level(run).remove(run)\n",
        "cancel_against_start",
    ),
    "two look at the same time whether they may wait": Bug(
        "_threads",
        "        with self._lock:\n            self.check_wait(run)\n",
        "        self.check_wait(run)\n        with self._lock:\n",
        "wait_inside",
    ),
    "a waiter does not look again": Bug(
        "_run",
        "        if self._settled:  # between",
        "        if False:  # between",
        "wait_against_end",
    ),
    "the child of a fork inherits locks": Bug(
        "_runtime",
        "        self.lock = threading.RLock()\n        _run.after_fork()\n",
        "        pass\n",
        "fork_against_enqueue",
    ),
    "a worker looks too early whether a producer waits for room": Bug(
        "_worker",
        "                try:\n"
        "                    self.take()\n"
        "                except IndexError:\n"
        "                    self._fresh = self._fresh or [Context()]\n"
        "                    return\n"
        "                if queue.blocked:\n",
        "                blocked = queue.blocked\n"
        "                try:\n"
        "                    self.take()\n"
        "                except IndexError:\n"
        "                    self._fresh = self._fresh or [Context()]\n"
        "                    return\n"
        "                if blocked:\n",
        "full_queue",
    ),
}


class _Planter(importlib.machinery.SourceFileLoader):
    """Compiles one module with a bug in it."""

    bug: Bug

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_data(self.path).decode()
        times = source.count(self.bug.old)
        if times != 1:
            raise LookupError(f"{times} times in {fullname}, plant it anew:\n{self.bug.old}")
        return compile(source.replace(self.bug.old, self.bug.new), self.path, "exec")


class _Finder:
    """Comes before the finders of the interpreter, for one module."""

    def __init__(self, bug: Bug) -> None:
        self.bug = bug

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != f"inproc_jobs.{self.bug.module}":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        assert spec is not None
        assert spec.origin is not None
        loader = spec.loader = _Planter(name, spec.origin)
        loader.bug = self.bug
        return spec


def look_for(name: str, seed: int) -> str:
    """Plant a bug in this process, search, and return what was found; "" if nothing was within a minute."""
    bug = BUGS[name]
    sys.meta_path.insert(0, _Finder(bug))  # type: ignore[arg-type]
    schedules = importlib.import_module("schedules")
    started = time.monotonic()
    for number, found in enumerate(schedules.search(bug.scenario, range(seed, seed + 1_000_000)), 1):
        seconds = time.monotonic() - started
        if found.trouble:
            what = found.trouble.partition("\n")[0]
            return (
                f"{name}: {bug.scenario} finds it in schedule {number} after {seconds:.1f} s, seed {found.seed}: {what}"
            )
        if seconds > MINUTE:
            break
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Look for planted bugs.")
    parser.add_argument("bug", nargs="*", help="some words of its name; all if none is given")
    parser.add_argument("--seed", type=int, help="of the first schedule; a random one if none is given")
    given = parser.parse_args(arguments)
    seed = Random().randrange(1_000_000_000) if given.seed is None else given.seed
    names = [name for name in BUGS if not given.bug or any(words in name for words in given.bug)]
    if len(names) == 1:
        found = look_for(names[0], seed)
        print(found or f"{names[0]}: not found within {MINUTE:.0f} s")
        return 0 if found else 1
    missed = 0
    for name in names:
        missed += subprocess.run([sys.executable, __file__, name, "--seed", str(seed)], check=False).returncode
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
