"""The page of the reports."""

from __future__ import annotations

import inspect
from collections import deque
from datetime import timedelta
from typing import Any

from booking import status
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.tasks import TaskResult, TaskResultStatus, default_task_backend
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from . import tasks
from .tasks import attendance

LATER = timedelta(seconds=5)

recent: deque[str] = deque(maxlen=50)  # the ids of the results of this process, newest first


@receiver(task_enqueued)
def remember(sender: Any, task_result: TaskResult, **extra: Any) -> None:
    recent.appendleft(task_result.id)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "reports/index.html", {"code": inspect.getsource(tasks)})


@require_POST
async def make(request: HttpRequest) -> HttpResponse:
    await attendance.aenqueue()
    return redirect("reports:index")


@require_POST
async def make_later(request: HttpRequest) -> HttpResponse:
    await attendance.using(run_after=timezone.now() + LATER).aenqueue()
    return redirect("reports:index")


@require_GET
def show_status(request: HttpRequest) -> HttpResponse:
    return JsonResponse({**status.everywhere(), "results": [describe(result) for result in results()]})


def results() -> list[TaskResult]:
    found = []
    for result_id in list(recent):
        try:
            found.append(default_task_backend.get_result(result_id))
        except TaskResultDoesNotExist:  # so old that the backend has let go of it
            recent.remove(result_id)
    return found


def describe(result: TaskResult) -> dict[str, Any]:
    about = {
        "id": result.id,
        "job": result.task.name,
        "state": {"SUCCESSFUL": "succeeded"}.get(result.status, result.status.lower()),
        "attempt": result.attempts,
        "outcome": None,
        "seconds": ((result.finished_at or timezone.now()) - result.enqueued_at).total_seconds(),
    }
    if result.status == TaskResultStatus.SUCCESSFUL:
        about["outcome"] = ", ".join(f"{count} {what}" for what, count in result.return_value.items())
    elif result.errors:
        about["outcome"] = result.errors[-1].traceback.splitlines()[-1]
    return about
