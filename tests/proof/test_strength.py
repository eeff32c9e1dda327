"""The search for what the suite does not notice: it knows the changes, and a sample of them is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import strength

SOURCE = b'''
LIMIT = 10  # runs

class Queue:
    def full(self, more: int = 0) -> bool:
        """Say so."""
        if not self.runs and more:
            self.log("empty", level=more)
            return False
        return len(self.runs) + more >= LIMIT
'''


def test_a_mutant_changes_one_place():
    """Comparisons, operators, conditions, constants, statements, arguments and what is returned, and no docstring."""
    mutants = strength.Mutator("queue", SOURCE).mutants

    changes = {mutant.key for mutant in mutants}
    assert changes >= {
        "at import: LIMIT = 10 -> LIMIT = 11",
        "Queue: def full(self, more: int = 0) -> bool: -> def full(self, more: int = 1) -> bool:",
        "Queue.full: if not self.runs and more: -> if (not self.runs or more):",
        "Queue.full: if not self.runs and more: -> if not (not self.runs and more):",
        "Queue.full: if not self.runs and more: -> if (self.runs) and more:",
        'Queue.full: self.log("empty", level=more) -> pass',
        "Queue.full: self.log(\"empty\", level=more) -> self.log('', level=more)",
        "Queue.full: self.log(\"empty\", level=more) -> self.log('empty')",
        "Queue.full: return False -> return True",
        "Queue.full: return len(self.runs) + more >= LIMIT -> return None",
        "Queue.full: return len(self.runs) + more >= LIMIT -> return (len(self.runs) + more > LIMIT)",
        "Queue.full: return len(self.runs) + more >= LIMIT -> return (len(self.runs) - more) >= LIMIT",
    }
    assert len({mutant.source for mutant in mutants}) == len(mutants)
    assert not any("Say so" in change for change in changes)


def test_what_is_explained_is_there():
    """An explanation goes when its line goes."""
    for module in ("_lifecycle", "_queue", "_run", "_timer", "_worker"):
        source = (strength.ROOT / "inproc_jobs" / f"{module}.py").read_bytes()
        changes = {mutant.key for mutant in strength.Mutator(module, source).mutants}
        assert strength.explained(module).keys() <= changes


@pytest.mark.whole
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
def test_the_suite_notices_a_sample_of_changes():
    """The timer's own tests notice what they do not explain."""
    done = subprocess.run(
        [sys.executable, strength.__file__, "--mutants", "_timer", "--sample", "10", "tests/unit/test_timer.py"],
        cwd=Path(strength.ROOT),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout
