"""huey with its queue in memory and its consumer's threads in this process, polling as they do by default."""

from __future__ import annotations

import signal
from importlib.metadata import version

from huey import MemoryHuey

from .. import jobs
from . import WORKERS, Contender


def start() -> Contender:
    huey = MemoryHuey("benchmark", results=False)
    task = huey.task()(jobs.act)
    consumer = huey.create_consumer(workers=WORKERS, periodic=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    consumer.start()
    for number, handler in handlers.items():  # it took them over
        signal.signal(number, handler)
    return Contender(task, version("huey"), polls=True, close=consumer.stop)
