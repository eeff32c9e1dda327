"""The pages: each enqueues its job and answers at once."""

from __future__ import annotations

import email
import inspect
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from . import jobs, status
from .forms import BookingForm
from .jobs import TicketJob, free_seats
from .models import Booking

BURST = 20  # bookings


class DeclinedError(Exception):
    """The booking cannot be paid for."""


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    form = BookingForm(initial={"name": "Ada Lovelace", "email": "ada@example.org"})
    return render(request, "booking/index.html", {"form": form, "code": inspect.getsource(jobs), "burst": BURST})


@require_POST
def book(request: HttpRequest) -> HttpResponse:
    form = BookingForm(request.POST)
    if not form.is_valid():
        return HttpResponse(form.errors.as_text(), status=400, content_type="text/plain")
    with transaction.atomic():
        booking = form.save()
        TicketJob.perform_async(booking.pk)
    return redirect("booking:index")


@require_POST
@transaction.atomic
def burst(request: HttpRequest) -> HttpResponse:
    for number in range(1, BURST + 1):
        booking = Booking.objects.create(name=f"Guest {number}", email=f"guest-{number}@example.org")
        TicketJob.perform_async(booking.pk)
    return redirect("booking:index")


@require_POST
def decline(request: HttpRequest) -> HttpResponse:
    """Roll back after the enqueue: no booking, no run, no mail."""
    try:
        with transaction.atomic():
            booking = Booking.objects.create(name="Nobody", email="nobody@example.org")
            TicketJob.perform_async(booking.pk)
            raise DeclinedError
    except DeclinedError:
        return HttpResponse("Rolled back: no booking, no job, no mail", content_type="text/plain")


@require_POST
async def seats(request: HttpRequest) -> HttpResponse:
    """Wait for a run without holding up the event loop."""
    left = await free_seats.perform_async()
    return HttpResponse(f"{left} seats are free", content_type="text/plain")


@require_GET
def inbox(request: HttpRequest) -> HttpResponse:
    files = status.mail_files()
    return render(request, "booking/inbox.html", {"mails": [read(path) for path in files[:50]], "count": len(files)})


@require_GET
def show_status(request: HttpRequest) -> HttpResponse:
    return JsonResponse(status.of_bookings())


def read(path: Path) -> dict[str, str]:
    mail: EmailMessage = email.message_from_bytes(path.read_bytes(), policy=default)
    return {"subject": mail["Subject"], "to": mail["To"], "text": mail.get_content()}
