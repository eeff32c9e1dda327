"""``manage.py jobs``: the job classes of the site with their options, and what is wrong with them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from django.apps import apps
from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import module_has_submodule

from ...._listing import listing
from ...checks import TAG

MODULES = ("jobs", "tasks")  # where an app has its jobs, mostly


class Command(BaseCommand):
    """List the job classes and check them."""

    help = (
        "Lists the job classes with their options, those in the modules jobs and tasks of each app included, and checks"
        " them. Exits with 1 if a check finds an error."
    )
    requires_system_checks: ClassVar[list[str]] = []  # it makes its own

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the names of modules to import."""
        parser.add_argument("modules", nargs="*", help="modules to import first, where jobs are defined elsewhere")

    def handle(self, *args: Any, **options: Any) -> None:
        """List, then check."""
        for module in options["modules"]:
            import_module(module)
        for app in apps.get_app_configs():
            for name in MODULES:
                # This app's own tasks defines no job, and cannot be imported before Django 6.
                if app.label != "inproc_jobs" and module_has_submodule(app.module, name):
                    import_module(f"{app.name}.{name}")
        for line in listing():
            self.stdout.write(line)
        self.check(tags=[TAG], display_num_errors=True)
