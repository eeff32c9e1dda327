"""inproc_jobs itself, without a framework. Nothing here may import one: its integration would be active then."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

import inproc_jobs
from inproc_jobs import Job

from .. import jobs
from . import ROOM, WORKERS, Contender


class Act(Job, workers=WORKERS, max_queue=ROOM):
    def perform(self, action: str = "", number: int = 0) -> None:
        if action:
            jobs.ACTIONS[action]()


def start() -> Contender:
    return contender(Act)


def contender(job: type[Act]) -> Contender:
    """Return the contender of a job class that may have more options."""
    return Contender(job.perform_async, version("inproc-jobs"), close=partial(inproc_jobs.shutdown, 5))
