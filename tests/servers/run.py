"""The whole table of servers, on every Python of this machine: ``python3 tests/servers/run.py [--times 3] [--jobs 3]``.

Makes an environment for each with all the servers that pip installs, under ``.venvs/``, and takes some forty minutes. The
newest Python has every row, the older ones those of most users. What pip alone cannot install is a row that says so:
Debian's uWSGI (``apt install uwsgi-plugin-python3``), and mod_wsgi (``apt install apache2-dev``, ``pip install mod_wsgi``,
as a user but root).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

from environment import environment, interpreters  # noqa: E402 - from the folder just added

OLDER = ("gunicorn", "uvicorn", "script", "uwsgi")


def main() -> int:
    """Return 0 if no cell has failed on any Python."""
    parser = argparse.ArgumentParser(prog="python3 tests/servers/run.py")
    parser.add_argument("--times", type=int, default=1, help="how often, in a row")
    parser.add_argument("--jobs", type=int, default=3, help="cells at a time")
    given = parser.parse_args()
    pythons = interpreters()
    install = ("--group", "test", "--group", "matrix", "-e", ".[flask,django]")
    places = {version: environment(f"servers-{version}", python, *install) for version, python in pythons.items()}
    failed = []
    for time in range(1, given.times + 1):
        for version in reversed(pythons):
            rows = () if version == list(pythons)[-1] else OLDER
            print(f"\n$ {version}, {time} of {given.times}", flush=True)
            command = [places[version], "tests/servers", "--jobs", str(given.jobs), *rows]
            if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
                failed.append(f"Python {version}, {time} of {given.times}")
    print(f"\nFailed: {'; '.join(failed)}." if failed else "\nAll as it should be.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
