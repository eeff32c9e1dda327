"""A site with an app ``booking``, whose settings are those of the page."""

import sys
import unittest
from pathlib import Path

import django
from django.conf import settings
from django.db import connection
from django.test.utils import setup_databases, setup_test_environment

from inproc_jobs import restart, shutdown

Path("booking").mkdir()
Path("booking/__init__.py").touch()
Path("booking/models.py").write_text("""
from django.db import models


class Booking(models.Model):
    name = models.CharField(max_length=80)
    email = models.EmailField()
    ticket = models.CharField(max_length=80, default="")
""")
Path("booking/urls.py").write_text("""
from django.urls import path

urlpatterns = [path("book", lambda request: __import__("page").book(request))]
""")

OPTIONS = {"workers": 2, "queues": {"mail": {"workers": 4, "max_queue": 1000}}, "enqueue_on_commit": True}
BACKEND = "inproc_jobs.django.tasks.InprocBackend"
settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="booking.urls",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "booking", "inproc_jobs.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    MAILERS={"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}},
    TASKS={"default": {"BACKEND": BACKEND, "QUEUES": ["default", "mail"], "OPTIONS": OPTIONS}},
)
django.setup()

from booking.models import Booking  # noqa: E402 - once there is a site

with connection.schema_editor() as editor:
    editor.create_model(Booking)
Booking.objects.create(name="Ada", email="ada@example.org")


def afterwards(page):
    assert settings.TASKS == page.TASKS
    shutdown(10)
    restart()
    assert page.count_bookings.get_result(page.result.id).return_value == 1
    page.TicketJob.perform_async(1).result(5)
    page.Command().handle()
    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(page.BookingTests)
    outcome = unittest.TextTestRunner(sys.stderr).run(tests)
    assert (outcome.testsRun, outcome.wasSuccessful()) == (2, True)
