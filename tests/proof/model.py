"""Every order in which the threads of a small process can take its stop: what a checker of models finds.

``python tests/proof/model.py`` searches all states of ``stop.pml`` and prints how many there were and what was wrong; needs
Debian's packages spin and gcc, which it installs where it may. ``docs/explanation/model.md`` explains it in words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import debian

MODEL = Path(__file__).with_name("stop.pml")
ENOUGH = 3600.0  # seconds for one search

SAFETY = ("-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE")
LIVENESS = ("-DCOLLAPSE",)


@dataclass(frozen=True)
class Search:
    """One search: what is modelled, which bug is planted, and what is looked for.

    Attributes:
        what: the property, in words.
        producers, workers, retries, cancels: what there is; besides, the job of the first run enqueues one more.
        hurried: a deadline comes, and jobs may hang.
        bug: the name of the planted one, if any.
        ends: look for an endless order of steps, and not at the states in which nothing goes on.
    """

    what: str
    producers: int = 1
    workers: int = 1
    hurried: bool = True
    retries: bool = False
    cancels: bool = False
    bug: str = ""
    ends: bool = False

    def __str__(self) -> str:
        parts = [
            f"{self.producers} producer{'s' * (self.producers > 1)}",
            f"{self.workers} worker{'s' * (self.workers > 1)}",
        ]
        parts += ["deadline, hung jobs"] * self.hurried + ["retry"] * self.retries + ["cancel"] * self.cancels
        return f"{self.what}: {', '.join(parts)}" + (f"; planted: {self.bug}" if self.bug else "")


CLOSED = "accepted is closed"
FINISHED = "finished while there is time"
ENDS = "the stop ends"

SHORT = (
    Search(CLOSED),
    Search(CLOSED, cancels=True),
    Search(FINISHED, workers=2, hurried=False),
    Search(ENDS, ends=True),
)
BUGS = (
    Search(CLOSED, bug="NO_RECHECK"),
    Search(CLOSED, bug="HANDS_FIRST"),
    Search(CLOSED, bug="NO_CLAIM"),
    Search(CLOSED, retries=True, bug="MARKS_STATE"),
    Search(FINISHED, producers=2, hurried=False, bug="NO_NUDGE"),
    Search(ENDS, ends=True, bug="NUDGES_FOR_PLACES"),
    Search(CLOSED, bug="TORN_MOVES"),
)
LONG = (
    Search(CLOSED, workers=2),
    Search(CLOSED, retries=True),
    Search(CLOSED, producers=2),
    Search(CLOSED, retries=True, cancels=True),
    Search(FINISHED, producers=2, hurried=False),
    Search(FINISHED, retries=True, hurried=False),
    Search(ENDS, workers=2, hurried=False, ends=True),
    Search(ENDS, retries=True, ends=True),
)


@dataclass(frozen=True)
class Answer:
    """What a search has found.

    Attributes:
        states: how many it has looked at.
        seconds: it took.
        error: what was wrong in the first bad state, "" if there is none.
        complete: whether it has seen all there is, or an error.
        steps: the last ones that led to the error.
    """

    states: int
    seconds: float
    error: str
    complete: bool
    steps: list[str] = field(default_factory=list)


class Checker:
    """The compiled model, as a context manager; made anew in a folder of its own."""

    def __enter__(self) -> Checker:
        self._folder = Path(tempfile.mkdtemp(prefix="model"))
        shutil.copy(MODEL, self._folder)
        self._call("spin", "-a", MODEL.name)
        self._compiled: set[str] = set()
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder)

    def search(self, search: Search, *, optimise: str = "-O2") -> Answer:
        """Search until the first error or until every state was seen."""
        kind = "ends" if search.ends else "safe"
        if kind not in self._compiled:
            self._call("gcc", optimise, "-w", *(LIVENESS if search.ends else SAFETY), "-o", kind, "pan.c")
            self._compiled.add(kind)
        settings = {
            "PRODUCERS": search.producers,
            "WORKERS": search.workers,
            "HURRIED": int(search.hurried),
            "RETRIES": int(search.retries),
            "CANCELS": int(search.cancels),
            "BUG": _number(search.bug),
        }
        said = self._call(f"./{kind}", "-m1000000", "-w24", *(("-a",) if search.ends else ()), settings=settings)
        error = re.search(r"^pan:\d+: (.*) \(at depth", said, re.MULTILINE)
        states = re.search(r"([\d.e+]+) states, stored", said)
        seconds = re.search(r"elapsed time ([\d.e+]+)", said)
        return Answer(
            states=int(float(states[1])) if states else 0,
            seconds=float(seconds[1]) if seconds else 0.0,
            error=error[1] if error else "",
            complete=bool(error) or ("errors: 0" in said and "not completed" not in said and "too small" not in said),
            steps=self._call(f"./{kind}", "-r", "-n", settings=settings).splitlines()[-80:] if error else [],
        )

    def _call(self, *words: str, settings: dict[str, int] | None = None) -> str:
        environment = {**os.environ, **{name: str(value) for name, value in (settings or {}).items()}}
        done = subprocess.run(
            words,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ENOUGH,
        )
        assert done.returncode == 0 or words[0].startswith("./"), done.stdout
        return done.stdout


def _number(bug: str) -> int:
    if not bug:
        return 0
    planted = re.search(rf"^#define {bug} (\d+)$", MODEL.read_text(), re.MULTILINE)
    assert planted is not None, bug
    return int(planted[1])


def lacking() -> str:
    """Return what cannot be had of what this needs, "" if nothing."""
    return debian.lacking(("spin", "gcc"), ("spin", "gcc", "libc6-dev"))


def main() -> int:
    if lacking():
        print(lacking())
        return 1
    wrong = 0
    with Checker() as checker:
        for search in SHORT + LONG + BUGS:
            answer = checker.search(search)
            good = answer.complete and bool(answer.error) == bool(search.bug)
            found = answer.error or ("nothing wrong" if answer.complete else "not all was seen")
            print(f"{'ok ' if good else 'BAD'} {search}", flush=True)
            print(f"      {answer.states:,} states in {answer.seconds:.1f} s: {found}", flush=True)
            if not good:
                wrong += 1
                print("\n".join(f"      {step}" for step in answer.steps), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
