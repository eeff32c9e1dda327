"""What to answer when a job is not accepted."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from inproc_jobs.errors import RejectedError


class Busy(MiddlewareMixin):
    """Answers 503 when a queue is full, or the server stops."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, RejectedError):
            return None
        return HttpResponse("Busy: please try again in a moment.", status=503, headers={"Retry-After": "5"})
