"""The jobs: what happens after the page was answered."""

from __future__ import annotations

import asyncio

from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.utils import timezone

from inproc_jobs import Job, Retry, job

from .models import EVENING, SEATS, Booking


class TicketJob(Job, workers=4, on_commit=True, retry=Retry(attempts=5, on=(ConnectionRefusedError,), backoff=0.5)):
    """Writes the ticket of a booking and mails it, in the language of whoever has booked.

    It is enqueued when the booking is committed, and not at all if that is rolled back. Only a mail server that cannot
    be reached is tried again, so no ticket goes out twice.
    """

    def perform(self, booking_id: int) -> str:
        booking = Booking.objects.get(pk=booking_id)
        booking.ticket = f"A-{booking.pk:03}"
        text = render_to_string("booking/ticket.txt", {"booking": booking, "evening": EVENING})
        send_mail(f"Your ticket, {booking.name}", text, None, [booking.email])
        booking.mailed_at = timezone.now()
        booking.save(update_fields=["ticket", "mailed_at"])
        return f"{booking.ticket} sent to {booking.email}"


@job(workers=1)
async def free_seats() -> int:
    """Counts the seats that are left. A job may be a coroutine; what it returns is the result of its run."""
    await asyncio.sleep(0.5)  # the venue's computer is a slow one
    return SEATS - await Booking.objects.acount()
