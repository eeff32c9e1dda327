"""Set up all that the tests need and run them: ``python3 tests/run.py [arguments for pytest]``.

Checks style and types once, then runs the tests named below on every supported Python of this machine, those of packaging
and types on the newest, and says which Pythons those were.
Needs Python and pip, and makes its environments under ``.venvs/``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))

from environment import VERSIONS, environment, interpreters  # noqa: E402 - from the folder just added

# What stands between a change and its landing. Some of the other tests still fail now and then, those of threads, timers
# and exits under load; `python3 tests/run.py tests` runs them all.
UNITS = [
    f"tests/unit/test_{name}.py" for name in ("errors", "options", "retry", "report", "carriers", "job", "signals")
]
EVERYWHERE = [
    *UNITS,
    "tests/unit/test_stats.py",
    "tests/unit/test_queue.py",
    "tests/test_architecture.py",
    "tests/test_docs.py",
    "tests/integration/test_flask_app.py",
    "-m",
    "not slow",
]
NEWEST = [*EVERYWHERE[:-2], "tests/typing", "tests/test_packaging.py"]

CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
)


def main(arguments: list[str]) -> int:
    """Return 0 if every check and every test has passed on every Python found."""
    pythons = interpreters()
    if not pythons:
        print(f"No Python {' or '.join(VERSIONS)} found.")
        return 1
    print(f"Pythons found: {', '.join(pythons)}", flush=True)
    failed = []
    environments = {
        version: environment(f"test-{version}", python, "--group", "dev", "-e", ".[flask]")
        for version, python in pythons.items()
    }
    newest = environments[list(pythons)[-1]]
    if not arguments:
        failed += [" ".join(check) for check in CHECKS if _run(newest, "-m", *check)]
    for version, python in environments.items():
        if _run(python, "-m", "pytest", *(arguments or (NEWEST if python == newest else EVERYWHERE))):
            failed.append(f"the tests on Python {version}")
    missing = [version for version in VERSIONS if version not in pythons]
    print(f"\nCovered: Python {', '.join(pythons)}." + (f" Not found: {', '.join(missing)}." if missing else ""))
    print(f"Failed: {'; '.join(failed)}." if failed else "All passed.")
    return 1 if failed else 0


# The tests start hundreds of processes; each would compile the package anew where byte code is not to be written.
SURROUNDINGS = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".venvs" / "bytecode")}
SURROUNDINGS.pop("PYTHONDONTWRITEBYTECODE", None)


def _run(python: str, *command: str) -> int:
    """Run a module of an environment and return its exit code; pytest's 5, no test at all, counts as a failure."""
    started = time.monotonic()
    print(f"\n$ {Path(python).parts[-3]}: {' '.join(command)}", flush=True)
    code = subprocess.run([python, *command], cwd=ROOT, env=SURROUNDINGS).returncode
    print(f"  exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
