"""The engine's threads in orders that a seed decides: no promise breaks, and planted bugs are found."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from types import ModuleType

import pytest

if sys.version_info < (3, 12):
    pytest.skip("needs sys.monitoring", allow_module_level=True)

import planted
import schedules

COUNT = "200"  # schedules of each scenario in the short run
SHARE = "5"  # seconds of it, on a machine that takes longer
MANY = "10000"
QUICK = (
    "a cancelled run may have been taken",
    "a waiter does not look again",
    "two may close a run",
)  # bugs that are found within a second


def command(module: ModuleType, *arguments: str) -> str:
    """Return what a process of its own says: in this one, what other tests have imported makes other schedules."""
    line = [sys.executable, str(module.__file__), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=1800)
    assert not done.stderr
    return done.stdout


def look_for(bug: str, seed: int) -> str:
    """Return what a process says whose engine has *bug*."""
    return command(planted, bug, "--seed", str(seed))


@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_no_promise_breaks_in_schedules_taken_at_random(scenario: str):
    """Whatever the order, each accepted run ends once, counts agree, and nobody waits for what will not come."""
    said = command(schedules, scenario, "--count", COUNT, "--seconds", SHARE)

    assert "schedules, 0 break something; " in said, said


@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_a_seed_is_one_schedule(scenario: str):
    """The same seed switches the same threads at the same lines."""
    seed = random.randrange(1_000_000_000)

    first, again = schedules.search(scenario, (seed, seed))

    assert again == first


def test_a_failure_can_be_seen_again():
    """The seed that is printed shows it at once, in another process."""
    found = re.search(r", seed (\d+): ", look_for(QUICK[0], random.randrange(1_000_000_000)))
    assert found is not None

    again = look_for(QUICK[0], int(found[1]))

    assert re.search(rf" in schedule 1 after .* s, seed {found[1]}: ", again)


@pytest.mark.parametrize("bug", QUICK)
def test_a_planted_bug_is_found(bug: str):
    """The search searches: it finds a bug that only some orders show."""
    assert f"{bug}: {planted.BUGS[bug].scenario} finds it in schedule" in look_for(bug, random.randrange(1_000_000_000))


@pytest.mark.whole
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", planted.BUGS)
def test_every_planted_bug_is_found_within_a_minute(bug: str):
    """The same for each of them."""
    assert f"{bug}: {planted.BUGS[bug].scenario} finds it in schedule" in look_for(bug, random.randrange(1_000_000_000))


@pytest.mark.whole
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", schedules.SCENARIOS)
def test_no_promise_breaks_in_many_schedules(scenario: str):
    """Ten thousand orders of each scenario, others each time."""
    said = command(schedules, scenario, "--count", MANY)

    assert f"{MANY} schedules, 0 break something; " in said, said
