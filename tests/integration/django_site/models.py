"""What the jobs of the tests read and write."""

from django.db import models


class Entry(models.Model):
    text = models.CharField(max_length=100)
