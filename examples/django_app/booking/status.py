"""What app.js shows, and asks for twice a second."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from inproc_jobs import Run, RunState, stats
from inproc_jobs.django import job_enqueued

from .jobs import TicketJob, free_seats
from .models import Booking

recent: deque[Run[Any]] = deque(maxlen=50)  # the runs this process accepted, newest first


def remember(sender: Any, run: Run[Any], **extra: Any) -> None:
    recent.appendleft(run)


for sender in (TicketJob, free_seats):
    job_enqueued.connect(remember, sender, weak=False)


def everywhere() -> dict[str, Any]:
    """Return what every page shows."""
    return {"stats": {name: asdict(snapshot) for name, snapshot in stats().items()}, "mails": len(mail_files())}


def of_bookings() -> dict[str, Any]:
    """Return what the page of the bookings shows."""
    return {
        **everywhere(),
        "bookings": [
            {"id": f"booking-{booking.pk}", "name": booking.name, "ticket": booking.ticket}
            for booking in Booking.objects.order_by("-pk")[:6]
        ],
        "runs": [describe(run) for run in list(recent)],
    }


def describe(run: Run[Any]) -> dict[str, Any]:
    end = run.finished_at or datetime.now(UTC)
    about = {
        "id": run.id,
        "job": run.job.__name__,
        "state": run.state,
        "attempt": run.attempt,
        "seconds": (end - run.enqueued_at).total_seconds(),
    }
    match about["state"]:
        case RunState.SUCCEEDED:
            about["outcome"] = run.result()
        case RunState.FAILED | RunState.RETRYING:
            about["outcome"] = repr(run.error)
        case RunState.DISCARDED:
            about["outcome"] = run.reason
    return about


def mail_files() -> list[Path]:
    """Return the mails that the launcher received, newest first."""
    return sorted(Path(settings.INBOX).glob("*.eml"), reverse=True) if settings.INBOX else []
