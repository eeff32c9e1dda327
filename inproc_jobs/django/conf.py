"""The settings ``INPROC_JOBS_*`` of Django: read when it starts, and again when a test overrides one."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .. import _runtime
from .._options import PREFIX, Settings, config_key, from_config, merged_settings

OWNER = "settings"


def wire() -> None:
    """Apply the settings, now and whenever a test changes them.

    Raises:
        ImproperlyConfigured: one is unknown or wrong. Under ``manage.py`` the system check says so instead.
    """
    setting_changed.connect(_change, dispatch_uid="inproc_jobs")
    trouble = find_trouble()
    if trouble is None:
        _runtime.apply_settings(OWNER, given(), config_key)
    elif "django.core.management" not in sys.modules:  # a server, which runs no checks
        raise ImproperlyConfigured(trouble)


def given() -> dict[str, object]:
    """Return the settings there are, by their own names."""
    return from_config(OWNER, {key: getattr(settings, key) for key in dir(settings) if key.startswith(PREFIX)})


def find_trouble() -> str | None:
    """Return what is wrong with the settings, or None."""
    try:
        merged_settings(Settings(), OWNER, given(), config_key)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _change(*, setting: str, value: Any, **extra: Any) -> None:
    names = {config_key(name): name for name in Settings.__slots__}
    if setting not in names or find_trouble() is not None:  # which the system check then reports
        return
    name = names[setting]
    _runtime.apply_settings(OWNER, {name: getattr(Settings(), name) if value is None else value}, config_key)
