"""Background jobs inside the web process: no broker, no worker dyno, one dependency."""

from . import errors, signals
from ._job import Job, job
from ._retry import Discard, Retry
from ._run import Run, RunState, current_run
from ._runtime import ShutdownReport, configure, drain, restart, shutdown, stats
from ._stats import Stats

__all__ = [
    "Discard",
    "Job",
    "Retry",
    "Run",
    "RunState",
    "ShutdownReport",
    "Stats",
    "configure",
    "current_run",
    "drain",
    "errors",
    "job",
    "restart",
    "shutdown",
    "signals",
    "stats",
]
