"""The language and the time zone of whoever enqueues, active in the job and gone after it."""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache, partial

from django.utils import timezone, translation

from .._carriers import Entrance, carry


def wire() -> None:
    """Carry the locale from now on."""
    carry(_capture)


def _capture() -> Entrance:
    language, zone = translation.get_language(), timezone.get_current_timezone()
    try:
        return _entrance(language, zone, str(zone))
    except TypeError:  # a zone that cannot be hashed, as those of dateutil
        return partial(_Active, language, zone)


@lru_cache(maxsize=64)
def _entrance(language: str | None, zone: tzinfo, name: str) -> Entrance:
    # One for all the runs of a locale: a run that waits keeps it alive. By name too, for fixed offsets that are equal.
    return partial(_Active, language, zone)


class _Active:
    """Has a language and a zone active meanwhile. No generator: contextlib would assign to a job's frozen error."""

    __slots__ = ("_language", "_zone")

    def __init__(self, language: str | None, zone: tzinfo) -> None:
        self._language = translation.override(language)
        self._zone = timezone.override(zone)

    def __enter__(self) -> None:
        self._language.__enter__()
        self._zone.__enter__()

    def __exit__(self, *error: object) -> None:
        self._zone.__exit__(*error)
        self._language.__exit__(*error)
