"""The one command: make the virtual environment if it is not there, then measure in it.

    python3 benchmarks/run.py [--quick] [--only budgets|peers] [--theme NAME] [--json] [--strict]

Needs nothing but Python and pip. The environment is made once for each Python, in ``.venvs/`` of the repository, and
again when what it is made from changes in ``pyproject.toml``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
HOME = ROOT / ".venvs" / f"benchmark-{sys.version_info.major}.{sys.version_info.minor}"
STAMP = HOME / "made-from"
PYTHON = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def main() -> int:
    wanted = requirements()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        make_environment()
        STAMP.write_text(wanted)
    return subprocess.run([PYTHON, "-m", "benchmarks", *sys.argv[1:]], cwd=ROOT, check=False).returncode


def requirements() -> str:
    """Return what the environment has to hold, as text to compare."""
    project = tomllib.loads(PROJECT.read_text())
    return json.dumps([project["project"]["dependencies"], project["dependency-groups"]["benchmark"]])


def make_environment() -> None:
    """Install the package, editable, with the dependency group ``benchmark``."""
    print(f"making {HOME}", file=sys.stderr)
    steps = [
        [sys.executable, "-m", "venv", "--clear", HOME],
        [PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"],  # the first that knows --group
        [PYTHON, "-m", "pip", "install", "--quiet", "--editable", ".", "--group", "benchmark"],
    ]
    for step in steps:
        if subprocess.run(step, cwd=ROOT, check=False, stdout=sys.stderr).returncode:
            raise SystemExit(f"this step failed: {' '.join(map(str, step))}")


if __name__ == "__main__":
    sys.exit(main())
