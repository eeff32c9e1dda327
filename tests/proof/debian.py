"""Programs from Debian's packages, installed where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess


def lacking(programs: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Return what to say of those of *programs* that cannot be had, "" if there are none."""
    if _absent(programs) and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (("update",), ("install", "-y", *packages)):
            subprocess.run(
                ["apt-get", "-qq", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
    absent = _absent(programs)
    return f"{' and '.join(absent)} not installed (Debian: apt-get install {' '.join(packages)})" if absent else ""


def _absent(programs: tuple[str, ...]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]
