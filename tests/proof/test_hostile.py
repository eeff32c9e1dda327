"""Bad input, at every door: no error but the documented ones, nothing lost, no forged line, no growth."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"
HOSTILE = Path(__file__).with_name("hostile.py")


def knock(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Try bad input in a process of its own: it has a Django site, a Flask app, and a log that raises."""
    return subprocess.run(
        [sys.executable, str(HOSTILE), *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.timeout(7200 if LONG else 120)
def test_bad_input_harms_nobody() -> None:
    """Whatever comes in is taken or refused in one readable line, runs end, the log is not forged, nothing grows."""
    ended = knock("5000" if LONG else "20", seconds=7000 if LONG else 110)

    assert "BREAKS" not in ended.stdout, ended.stdout
    assert "growth" in ended.stdout, ended.stderr
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


@pytest.mark.whole
@pytest.mark.timeout(4000 if LONG else 120)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris, which has wheels for Linux on x86-64"
)
def test_a_fuzzer_finds_nothing_worse() -> None:
    """Led by the lines it reaches, atheris finds no input that harms."""
    ended = knock("fuzz", "3600" if LONG else "20", seconds=3900 if LONG else 110)

    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Done" in ended.stderr
