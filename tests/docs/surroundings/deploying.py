"""An ASGI app, and what gunicorn hands to its hooks."""

import logging
from types import SimpleNamespace


async def app(scope, receive, send): ...


def afterwards(page):
    worker = SimpleNamespace(cfg=SimpleNamespace(graceful_timeout=30))
    page.post_worker_init(worker)
    page.worker_exit(SimpleNamespace(log=logging.getLogger()), worker)
    page.inproc_jobs.restart()
