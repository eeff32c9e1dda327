"""The app itself. It wires, and starts nothing."""

from __future__ import annotations

from django.apps import AppConfig

from .. import _lifecycle


class InprocJobsConfig(AppConfig):
    """``INSTALLED_APPS = ["inproc_jobs.django"]``."""

    name = "inproc_jobs.django"
    label = "inproc_jobs"
    verbose_name: str = "Background jobs"

    def ready(self) -> None:
        """Read the settings, and see to connections, transactions and the locale of jobs.

        Raises:
            ImproperlyConfigured: no job could run like that. Under ``manage.py`` the system check says so instead.
        """
        from . import checks, conf, db, i18n  # once the settings are there

        conf.wire()
        db.wire()
        i18n.wire()
        checks.wire()
        _lifecycle.watch_signals()
        if not checks.are_made():
            checks.insist()
