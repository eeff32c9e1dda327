"""Where the figures come from: what the head of a report says."""

from __future__ import annotations

import gc
import os
import platform
import sys
from importlib.metadata import version


def describe(*, quick: bool) -> dict[str, str]:
    """Return the lines of the head by their names."""
    return {
        "package": f"inproc_jobs {version('inproc-jobs')}, {'quick' if quick else 'full'} run",
        "python": f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
        f" {platform.machine()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores",
        "settings": f"collector {'on' if gc.isenabled() else 'off'}, thresholds {gc.get_threshold()};"
        f" switch interval {sys.getswitchinterval() * 1000:g} ms;"
        " no-op jobs, two workers, both sides in one process",
        "load": load("before"),
    }


def load(when: str) -> str:
    """Return the load average over 1, 5 and 15 minutes."""
    return f"load {when}: " + ", ".join(f"{value:.2f}" for value in os.getloadavg())
