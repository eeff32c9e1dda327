"""Set up all that the tests need and run them: ``python3 tests/run.py [arguments for pytest]``.

Checks style and types, builds the docs, then runs all tests on the newest supported Python of this machine and beside it, one after the
other, those that are not slow on the older ones; and says which Pythons those were. Arguments, a file or ``-k``, hold
for each of them. Needs Python and pip, and makes its environments under ``.venvs/``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))

from environment import VERSIONS, environment, interpreters  # noqa: E402 - from the folder just added

CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", ".venvs/docs"),
)
NEWEST = ("-m", "not whole")
OLDER = ("-m", "not slow and not whole")

# The tests start hundreds of processes; each would compile the package anew where byte code is not to be written.
SURROUNDINGS = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".venvs" / "bytecode")}
SURROUNDINGS.pop("PYTHONDONTWRITEBYTECODE", None)

_printing = threading.Lock()


def main(arguments: list[str]) -> int:
    """Return 0 if every check and every test has passed on every Python found."""
    pythons = interpreters()
    if not pythons:
        print(f"No Python {' or '.join(VERSIONS)} found.")
        return 1
    print(f"Pythons found: {', '.join(pythons)}", flush=True)
    *older, newest = pythons

    def prepare(version: str) -> str:
        groups = ("--group", "dev", *(("--group", "servers") if version == newest else ()))
        return environment(f"test-{version}", pythons[version], *groups, "-e", ".[flask,django]")

    with ThreadPoolExecutor() as makers:
        environments = dict(zip(pythons, makers.map(prepare, pythons), strict=True))
    # Two at a time, for most tests wait for something; more would make them wait for each other.
    with ThreadPoolExecutor(2) as lanes:
        first = lanes.submit(_check_and_test, newest, environments[newest], arguments)
        rest = lanes.submit(
            lambda: [found for version in older for found in _test(version, environments[version], OLDER, arguments)]
        )
        failed = first.result() + rest.result()
    missing = [version for version in VERSIONS if version not in pythons]
    print(f"\nCovered: Python {', '.join(pythons)}." + (f" Not found: {', '.join(missing)}." if missing else ""))
    print(f"Failed: {'; '.join(failed)}." if failed else "All passed.")
    return 1 if failed else 0


def _check_and_test(version: str, python: str, arguments: list[str]) -> list[str]:
    failed = [] if arguments else [" ".join(check) for check in CHECKS if _run(version, python, "-m", *check)]
    return failed + _test(version, python, NEWEST, arguments)


def _test(version: str, python: str, selection: tuple[str, ...], arguments: list[str]) -> list[str]:
    """Return what has failed; pytest's exit code 5, no test at all, counts as a failure."""
    failed = _run(version, python, "-m", "pytest", "-q", *selection, *arguments)
    return [f"the tests on Python {version}"] if failed else []


def _run(version: str, python: str, *command: str) -> int:
    """Run a module of an environment, print what it has printed once it is done, and return its exit code."""
    started = time.monotonic()
    _say(f"$ {version}: {' '.join(command[1:])} ...")
    done = subprocess.run(
        [python, *command],
        cwd=ROOT,
        env=SURROUNDINGS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    seconds = time.monotonic() - started
    _say(f"{done.stdout}$ {version}: {' '.join(command[1:])}: exit code {done.returncode} after {seconds:.0f} s")
    return done.returncode


def _say(text: str) -> None:
    with _printing:
        print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
