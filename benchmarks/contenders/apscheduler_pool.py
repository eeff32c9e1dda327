"""APScheduler 3 with a thread pool: jobs without a trigger, which it runs at once."""

from __future__ import annotations

from importlib.metadata import version

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from .. import jobs
from . import WORKERS, Contender


def start() -> Contender:
    # Without a grace time it would drop what waits for more than a second.
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(WORKERS)}, job_defaults={"misfire_grace_time": None}
    )
    scheduler.start()

    def enqueue(*args: object) -> None:
        scheduler.add_job(jobs.act, args=args)

    return Contender(enqueue, version("APScheduler"), close=scheduler.shutdown)
