"""The settings ``INPROC_JOBS_*`` of Django: read when it starts, and again when a test overrides one."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from .. import _runtime
from .._options import MODE_KEY, PREFIX, Settings, config_key, from_config, merged_settings, mode_of

OWNER = "settings"


def wire() -> None:
    """Apply the settings, now and whenever a test changes them; those that are wrong are left to the check."""
    setting_changed.connect(_change, dispatch_uid="inproc_jobs")
    if find_trouble() is None:
        _runtime.apply_settings(OWNER, from_config(OWNER, _config()), config_key)
        _use_mode()


def _config() -> dict[str, object]:
    return {key: getattr(settings, key) for key in dir(settings) if key.startswith(PREFIX)}


def _use_mode() -> None:
    mode = mode_of(OWNER, _config())
    if mode != "real" or "inproc_jobs.testing" in sys.modules:
        import_module("inproc_jobs.testing").use(mode)


def find_trouble() -> str | None:
    """Return what is wrong with the settings, or None."""
    try:
        merged_settings(Settings(), OWNER, from_config(OWNER, _config()), config_key)
        mode_of(OWNER, _config())
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _change(*, setting: str, value: Any, **extra: Any) -> None:
    names = {config_key(name): name for name in Settings.__slots__}
    if setting not in (*names, MODE_KEY) or find_trouble() is not None:  # which the system check then reports
        return
    if setting == MODE_KEY:
        _use_mode()
        return
    name = names[setting]
    _runtime.apply_settings(OWNER, {name: getattr(Settings(), name) if value is None else value}, config_key)
