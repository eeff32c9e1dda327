"""An error at the lines of the engine, one at a time: no promise breaks."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator

import pytest

if sys.version_info < (3, 12):
    pytest.skip("needs sys.monitoring", allow_module_level=True)

import faults

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"
STEPS = {
    "enqueueing": 1,
    "first enqueue": 1,
    "delayed": 5,
    "working": 7,
    "timing": 7,
    "draining": 7,
}  # of the short run


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Let threads die and say so to nobody."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.whole
@pytest.mark.timeout(900 if LONG else 120)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", faults.ERRORS)
@pytest.mark.parametrize("phase", faults.PHASES)
def test_no_line_breaks_a_promise(phase: str, error: type[BaseException]):
    """Struck anywhere, the engine loses no accepted run, performs none twice, goes on working and stops in time.

    The short run takes a part of the lines, another one each time; ``INPROC_JOBS_PROOF=long`` takes all.
    """
    step = 1 if LONG else STEPS[phase]
    lines = 0

    broken = []
    for line in range(random.randrange(step), 100_000, step):
        where, trouble = faults.strike(phase, error, line)
        if trouble:
            broken.append(f"line {line}, {where}: {'; '.join(trouble)}")
        if not where:
            break
        lines += 1

    assert not broken, "\n".join(broken)
    assert lines * step > 40
