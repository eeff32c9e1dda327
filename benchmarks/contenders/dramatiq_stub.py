"""dramatiq with its broker for tests and a worker in this process, with the middleware it has by default."""

from __future__ import annotations

from importlib.metadata import version

import dramatiq
from dramatiq.brokers.stub import StubBroker

from .. import jobs
from . import WORKERS, Contender


def start() -> Contender:
    broker = StubBroker()
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(jobs.act)
    worker = dramatiq.Worker(broker, worker_threads=WORKERS)
    worker.start()
    return Contender(actor.send, version("dramatiq"), close=worker.stop)
