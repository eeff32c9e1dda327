"""What is kept in the database."""

from __future__ import annotations

from datetime import date

from django.db import models

SEATS = 200
EVENING = date(2030, 5, 4)


class Booking(models.Model):
    """A seat somebody has booked; the ticket comes later, from a job."""

    name = models.CharField(max_length=80)
    email = models.EmailField()
    ticket = models.CharField(max_length=10, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.ticket or 'no ticket yet'}"
