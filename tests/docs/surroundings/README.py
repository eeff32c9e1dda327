"""A Django site with a user, and the function that the tests are about."""

from types import SimpleNamespace

import django
from django.conf import settings

settings.configure(
    USE_TZ=True,
    INSTALLED_APPS=["inproc_jobs.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
)
django.setup()

user = SimpleNamespace(pk="1")


def sign_up(email):
    MailJob.perform_async(email)  # noqa: F821 - the page's


def afterwards(page):
    assert settings.INSTALLED_APPS == page.INSTALLED_APPS
