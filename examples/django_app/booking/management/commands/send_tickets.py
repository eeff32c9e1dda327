"""``manage.py send_tickets``: mail the tickets that nobody has got yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inproc_jobs import drain

from ...jobs import TicketJob
from ...models import Booking


class Command(BaseCommand):
    help = "Mails the tickets that are still missing, after a power cut for example. Ends when all have gone out."

    def handle(self, *args: Any, **options: Any) -> None:
        missing = Booking.objects.filter(mailed_at=None).values_list("pk", flat=True)
        for pk in missing:
            TicketJob.perform_async(pk)
        self.stdout.write(f"{len(missing)} tickets to send")
        # Without this the command would end by itself when they are sent, but wait no longer than for a server's stop.
        if not drain(timedelta(hours=1)):
            raise CommandError("Some are still missing: run this again")
