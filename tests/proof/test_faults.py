"""An error at the lines of the engine, one at a time: no promise breaks."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator

import pytest

if sys.version_info < (3, 12):
    pytest.skip("needs sys.monitoring", allow_module_level=True)

import faults

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"
SHORT = 9.0  # seconds of the short run


@pytest.fixture
def striker() -> Iterator[faults.Striker]:
    with faults.Striker() as striker:
        yield striker


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("phase", faults.PHASES if LONG else ["any"])
def test_no_line_breaks_a_promise(striker: faults.Striker, phase: str):
    """Struck anywhere, the engine loses no accepted run, performs none twice, goes on working and stops in time.

    The short run strikes lines taken at random, others each time; ``INPROC_JOBS_PROOF=long`` strikes all.
    """
    strikes = every_line(striker, phase) if LONG else some_lines(striker)

    broken = [faults.describe(*strike) for strike in strikes if strike[-1].trouble]

    assert not broken, "\n".join(broken)


Strike = tuple[str, type[BaseException], int, faults.Result]


def every_line(striker: faults.Striker, phase: str) -> Iterator[Strike]:
    """Strike all lines of a phase with each error."""
    for error in faults.ERRORS:
        for line, result in faults.every_line(striker, phase, error):
            yield phase, error, line, result


def some_lines(striker: faults.Striker) -> Iterator[Strike]:
    """Strike lines of any phase, as long as there is time."""
    lines: dict[str, int] = {}
    deadline = time.monotonic() + SHORT
    while time.monotonic() < deadline:
        phase, error = random.choice(list(faults.PHASES)), random.choice(faults.ERRORS)
        if phase not in lines:
            lines[phase] = striker.lines(phase)
        line = random.randrange(lines[phase])
        yield phase, error, line, striker.strike(phase, error, line)
