"""How a site tests its jobs: ``python manage.py test``."""

from __future__ import annotations

from django.core import mail
from django.test import TestCase
from django.urls import reverse

from inproc_jobs.testing import fake, inline

from .jobs import TicketJob
from .models import Booking

ADA = {"name": "Ada", "email": "ada@example.org"}


class BookingTests(TestCase):
    def test_a_booking_enqueues_its_ticket(self) -> None:
        with fake() as jobs:
            with self.captureOnCommitCallbacks(execute=True):
                self.client.post(reverse("booking:book"), ADA)

            jobs.assert_enqueued(TicketJob, Booking.objects.get().pk)

    def test_the_ticket_is_written_and_mailed(self) -> None:
        with inline(), self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("booking:book"), ADA)

        booking = Booking.objects.get()
        assert booking.ticket == f"A-{booking.pk:03}"
        assert [message.to for message in mail.outbox] == [["ada@example.org"]]

    def test_a_declined_card_enqueues_nothing(self) -> None:
        with fake() as jobs:
            with self.captureOnCommitCallbacks(execute=True):
                self.client.post(reverse("booking:decline"))

            jobs.assert_not_enqueued()
