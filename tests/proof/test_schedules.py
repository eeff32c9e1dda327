"""The engine's threads in orders that a seed decides: no promise breaks, and planted bugs are found."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

if sys.version_info < (3, 12):
    pytest.skip("needs sys.monitoring", allow_module_level=True)

import planted
import schedules

COUNT = 200  # schedules of each scenario in the short run
SHARE = 5.0  # seconds of it, on a machine that takes longer
MANY = 10_000
QUICK = (
    "a cancelled run may have been taken",
    "a waiter does not look again",
    "two may close a run",
)  # bugs that are found within a second


def look_for(bug: str) -> str:
    """Return what a process says whose engine has *bug*."""
    seed = str(random.randrange(1_000_000_000))
    search = [sys.executable, str(Path(planted.__file__)), bug, "--seed", seed]
    done = subprocess.run(search, capture_output=True, text=True, check=False, timeout=planted.MINUTE + 60)
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_no_promise_breaks_in_schedules_taken_at_random(scenario: str):
    """Whatever the order, each accepted run ends once, counts agree, and nobody waits for what will not come."""
    seed = random.randrange(1_000_000_000)
    deadline = time.monotonic() + SHARE

    with closing(schedules.search(scenario, range(seed, seed + COUNT))) as search:
        for found in search:
            assert not found.trouble, schedules.describe(scenario, found)
            if time.monotonic() > deadline:
                break


@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_a_seed_is_one_schedule(scenario: str):
    """A failure can be seen again: the same seed switches the same threads at the same lines, in a new process, too."""
    seed = random.randrange(1_000_000_000)

    first, again = schedules.search(scenario, (seed, seed))
    command = [sys.executable, schedules.__file__, scenario, "--seed", str(seed), "--count", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert again == first
    assert f"; {first.steps} lines and {len(first.order)} switches each" in done.stdout


@pytest.mark.parametrize("bug", QUICK)
def test_a_planted_bug_is_found(bug: str):
    """The search searches: it finds a bug that only some orders show."""
    assert f"{bug}: {planted.BUGS[bug].scenario} finds it in schedule" in look_for(bug)


@pytest.mark.whole
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", planted.BUGS)
def test_every_planted_bug_is_found_within_a_minute(bug: str):
    """The same for each of them."""
    assert f"{bug}: {planted.BUGS[bug].scenario} finds it in schedule" in look_for(bug)


@pytest.mark.whole
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_no_promise_breaks_in_many_schedules(scenario: str):
    """Ten thousand orders of each scenario, others each time."""
    seed = random.randrange(1_000_000_000)

    with closing(schedules.search(scenario, range(seed, seed + MANY))) as search:
        for found in search:
            assert not found.trouble, schedules.describe(scenario, found)
