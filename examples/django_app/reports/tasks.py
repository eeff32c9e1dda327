"""A task of django.tasks: the same code would run on any other backend, but for ``retry``, which is this one's."""

from __future__ import annotations

from booking.models import SEATS, Booking
from django.tasks import TaskContext, task

from inproc_jobs import Retry


@task(takes_context=True, retry=Retry(attempts=5, on=(ConnectionError,), backoff=0.5, jitter=False))
def attendance(context: TaskContext) -> dict[str, int]:
    """Fails twice, then works. While it waits for its next attempt it holds no thread."""
    if context.attempt < 3:
        raise ConnectionError("the printer did not answer")
    booked = Booking.objects.count()
    return {"booked": booked, "ticketed": Booking.objects.exclude(ticket="").count(), "free": SEATS - booked}
