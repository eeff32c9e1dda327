"""A Django site whose ``django.tasks`` has each backend that is measured, by its alias. No contender itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

from .. import jobs
from . import ROOM, WORKERS

settings.configure(
    SECRET_KEY="benchmark",
    INSTALLED_APPS=["inproc_jobs.django"],
    TASKS={
        "inproc": {
            "BACKEND": "inproc_jobs.django.tasks.InprocBackend",
            "OPTIONS": {"workers": WORKERS, "max_queue": ROOM},
        },
        "immediate": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"},
        "local": {"BACKEND": "django_tasks_local.ThreadPoolBackend", "OPTIONS": {"MAX_WORKERS": WORKERS}},
    },
)
django.setup()
logging.getLogger("django.tasks").setLevel(logging.WARNING)  # not two lines for each task

from django.tasks import task  # noqa: E402 - now that there are settings


def enqueue_by(alias: str) -> Callable[..., Any]:
    """Return what enqueues ``jobs.act`` as a task of that backend."""
    enqueue: Callable[..., Any] = task(backend=alias)(jobs.act).enqueue
    return enqueue
