"""Set up all that the tests need and run them: ``python3 tests/run.py [arguments for pytest]``.

Checks style and types, builds the docs, then runs all tests on the newest supported Python of this machine, and those
that are not slow on the older ones; and says which Pythons those were. Arguments, a file or ``-k``, hold
for each of them. Needs Python and pip, and makes its environments under ``.venvs/``.
"""

from __future__ import annotations

import os
import subprocess
import sys
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
# Most tests wait for something: four processes keep two cores busy. A file stays together, with what it has started.
AT_ONCE = ("-n", "4", "--dist", "loadfile")
NEWEST = ("-m", "not whole", *AT_ONCE)
OLDER = ("-m", "not slow and not whole", *AT_ONCE)

# The tests start hundreds of processes; each would compile the package anew where byte code is not to be written.
SURROUNDINGS = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".venvs" / "bytecode")}
SURROUNDINGS.pop("PYTHONDONTWRITEBYTECODE", None)


def main(arguments: list[str]) -> int:
    """Return 0 if every check and every test has passed on every Python found."""
    pythons = interpreters()
    if not pythons:
        print(f"No Python {' or '.join(VERSIONS)} found.")
        return 1
    print(f"Pythons found: {', '.join(pythons)}", flush=True)
    newest = list(pythons)[-1]

    def prepare(version: str) -> str:
        groups = ("--group", "dev", *(("--group", "servers") if version == newest else ()))
        return environment(f"test-{version}", pythons[version], *groups, "-e", ".[flask,django]")

    with ThreadPoolExecutor() as makers:
        environments = dict(zip(pythons, makers.map(prepare, pythons), strict=True))
    failed = []
    if not arguments:
        failed += [" ".join(check) for check in CHECKS if _run(newest, environments[newest], *check)]
    for version in reversed(pythons):
        selection = NEWEST if version == newest else OLDER
        if _run(version, environments[version], "pytest", "-q", *selection, *arguments):
            failed += [f"the tests on Python {version}"]
    missing = [version for version in VERSIONS if version not in pythons]
    print(f"\nCovered: Python {', '.join(pythons)}." + (f" Not found: {', '.join(missing)}." if missing else ""))
    print(f"Failed: {'; '.join(failed)}." if failed else "All passed.")
    return 1 if failed else 0


def _run(version: str, python: str, *module: str) -> int:
    """Run a module of an environment and return its exit code; pytest's 5, no test at all, counts as a failure."""
    started = time.monotonic()
    print(f"\n$ {version}: {' '.join(module)}", flush=True)
    code = subprocess.run([python, "-m", *module], cwd=ROOT, env=SURROUNDINGS, stdin=subprocess.DEVNULL).returncode
    print(f"  exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
