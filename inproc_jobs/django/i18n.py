"""The language and the time zone of whoever enqueues, active in the job and gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from functools import lru_cache, partial

from django.utils import timezone, translation

from .._carriers import Entrance, carry


def wire() -> None:
    """Carry the locale from now on."""
    carry(_capture)


def _capture() -> Entrance:
    return _entrance(translation.get_language(), timezone.get_current_timezone())


@lru_cache(maxsize=64)
def _entrance(language: str | None, zone: tzinfo) -> Entrance:
    # One for all the runs of a locale: a run that waits keeps it alive.
    return partial(_active, language, zone)


@contextmanager
def _active(language: str | None, zone: tzinfo) -> Iterator[None]:
    with translation.override(language), timezone.override(zone):
        yield
