"""inproc_jobs as the backend of ``django.tasks``: with connections, locale, signals and results."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

import inproc_jobs

from . import Contender
from .django_site import enqueue_by


def start() -> Contender:
    return Contender(enqueue_by("inproc"), version("inproc-jobs"), close=partial(inproc_jobs.shutdown, 5))
