"""The language and the time zone of whoever enqueues, active in the job and gone after it."""

from __future__ import annotations

from datetime import tzinfo

from django.utils import timezone, translation

from .._carriers import carry


def wire() -> None:
    """Carry the locale from now on."""
    carry(_locale, _Active)


def _locale() -> tuple[str | None, tzinfo]:
    return translation.get_language(), timezone.get_current_timezone()


class _Active:
    """Has a language and a zone active meanwhile. No generator: contextlib would assign to a job's frozen error."""

    __slots__ = ("_language", "_zone")

    def __init__(self, locale: tuple[str | None, tzinfo]) -> None:
        language, zone = locale
        self._language = translation.override(language)
        self._zone = timezone.override(zone)

    def __enter__(self) -> None:
        self._language.__enter__()
        self._zone.__enter__()

    def __exit__(self, *error: object) -> None:
        self._zone.__exit__(*error)
        self._language.__exit__(*error)
