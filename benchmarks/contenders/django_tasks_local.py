"""django-tasks-local: a ``ThreadPoolExecutor`` as backend of ``django.tasks``, with results, nothing around a task."""

from __future__ import annotations

from importlib.metadata import version

from django_tasks_local.state import shutdown_executor

from . import Contender
from .django_site import enqueue_by


def start() -> Contender:
    return Contender(enqueue_by("local"), version("django-tasks-local"), close=lambda: shutdown_executor("tasks-local"))
