"""Django's own immediate backend, which performs a task inside the call: no peer, for it has no workers."""

from __future__ import annotations

import django

from . import Contender
from .django_site import enqueue_by


def start() -> Contender:
    return Contender(enqueue_by("immediate"), django.__version__)
