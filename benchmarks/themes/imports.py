"""What ``import inproc_jobs`` takes beyond the modules it stands on, and what it must not load.

Timed inside fresh interpreters. Their byte code is cached in a directory of its own, so that neither a stale one nor an
environment that forbids to write it counts. The budget is in milliseconds of another machine: what is held against it
is scaled by what a bare executor's submit takes there and here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import median

from .. import measures
from ..contenders import bare
from ..rows import Row, ratio, value

BUDGET = 15.0  # milliseconds
SUBMIT = 5.5  # microseconds that a bare executor's submit takes on the machine that the budget was set on
UNWANTED = ("asyncio", "flask", "django")

SCRIPT = f"""
import json, sys
from time import perf_counter
started = perf_counter()
import blinker, concurrent.futures, logging, queue
base = perf_counter() - started
before = set(sys.modules)
started = perf_counter()
import inproc_jobs
elapsed = perf_counter() - started
unwanted = [name for name in {UNWANTED} if name in sys.modules]
print(json.dumps([elapsed * 1000, base * 1000, len(set(sys.modules) - before), unwanted]))
"""


def measure(*, quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as elsewhere:
        _import(elsewhere)  # leaves the byte code
        answers = [_import(elsewhere) for _ in range(5 if quick else 20)]
    _, _, modules, unwanted = answers[0]
    other = bare.start()
    submit = median(measures.call(other, 1000) for _ in range(5))
    other.close()
    return [
        value("import inproc_jobs, ms beyond the modules it stands on", [answer[0] for answer in answers]),
        value(
            "the same where submit takes 5.5 us, as in the table Cost of FACTS",
            [answer[0] * SUBMIT / submit for answer in answers],
            BUDGET,
            note=f"here it takes {submit:.2f} us",
        ),
        ratio(
            "the same (other: import blinker, concurrent.futures, logging, queue)",
            [(answer[0], answer[1]) for answer in answers],
        ),
        value("modules it loads", [modules]),
        value(
            f"modules among {', '.join(UNWANTED)} that it loads",
            [len(unwanted)],
            0.0,
            note=f"loaded: {', '.join(unwanted)}" if unwanted else "",
        ),
    ]


def _import(elsewhere: str) -> tuple[float, float, int, list[str]]:
    """Import in a fresh interpreter: the installed package, not the one in the current directory."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": elsewhere}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE, text=True, cwd=elsewhere, env=environment
    )
    elapsed, base, modules, unwanted = json.loads(process.stdout)
    return elapsed, base, modules, unwanted
