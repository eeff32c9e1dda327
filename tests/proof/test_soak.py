"""A long life in short: tens of thousands of runs through one process leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"
RUNS = 1_000_000 if LONG else 30_000
FAULTY_RUNS = 1_000_000 if LONG else 8_000
SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.timeout(3600 if LONG else 120)
@pytest.mark.parametrize(("runs", "options"), [(RUNS, ()), (FAULTY_RUNS, ("--faults",))], ids=["good", "faults"])
def test_each_good_run_is_performed_once_and_nothing_grows(runs: int, options: tuple[str, ...]):
    """Counts are exact; blocks, memory, descriptors and threads are the same after all runs as after a tenth of them."""
    soak = subprocess.run(
        [sys.executable, SOAK, "--runs", str(runs), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert soak.returncode == 0, soak.stdout
