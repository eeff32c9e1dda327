"""``manage.py jobs``: the job classes of the site with their options, and what is wrong with them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import autodiscover_modules

from ...._listing import listing
from ...checks import TAG


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
            __import__(module)
        autodiscover_modules("jobs", "tasks")
        for line in listing():
            self.stdout.write(line)
        self.check(tags=[TAG], display_num_errors=True)
