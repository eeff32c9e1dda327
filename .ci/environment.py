"""Virtual environments for the project's own commands, made from nothing but Python and pip.

Used by ``tests/run.py``, ``examples/*/run.py`` and ``benchmarks/run.py``, which run on whatever Python a machine has.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")


def interpreters() -> dict[str, str]:
    """Return the Pythons of this machine that the project supports: version to path, the oldest first."""
    found = {}
    for version in VERSIONS:
        candidates = [
            sys.executable,
            shutil.which(f"python{version}"),
            *map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)),
        ]
        for candidate in candidates:
            if candidate and _version(candidate) == version:
                found[version] = candidate
                break
    return found


def newest() -> str:
    """Return the newest Python of this machine that the project supports, or end with a word on what is missing."""
    found = interpreters()
    if not found:
        sys.exit(f"This needs Python {' or '.join(VERSIONS)}; this one is {sys.version.split()[0]}.")
    return found[max(found, key=VERSIONS.index)]


def environment(name: str, python: str, *install: str) -> str:
    """Return the Python of the virtual environment ``.venvs/<name>``, with *install*, pip's arguments, in it.

    Made by *python* once; installed again only where *install* or ``pyproject.toml`` has changed.
    """
    folder = ROOT / ".venvs" / name
    executable = str(folder / "bin" / "python")
    wanted = hashlib.sha256("\n".join((python, *install, (ROOT / "pyproject.toml").read_text())).encode()).hexdigest()
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return executable
    print(f"Making the environment .venvs/{name}, once ...", flush=True)
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True, cwd=ROOT)
    subprocess.run([*pip, *install], check=True, cwd=ROOT)
    stamp.write_text(wanted)
    return executable


def _version(python: str) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=20, env={**os.environ})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
