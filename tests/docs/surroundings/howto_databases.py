"""The mail, a Django project, and a database for the visits."""

import sqlite3

import django
from django.conf import settings
from django.db import connection, models

from inproc_jobs import Job, drain
from inproc_jobs.testing import assert_enqueued, fake

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.db"}},
    INSTALLED_APPS=["inproc_jobs.django"],
    USE_TZ=True,
)
django.setup()

sent, receipts = [], []
send_mail = sent.append


class Order(models.Model):
    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Order)


class ReceiptJob(Job):
    def perform(self, order_id):
        receipts.append(Order.objects.get(pk=order_id).pk)


with sqlite3.connect("visits.db") as visits:
    visits.execute("CREATE TABLE visits (page)")


def afterwards(page):
    with page.app.app_context():
        page.db.create_all()
    assert page.app.test_client().post("/users").status_code == 202
    page.count_visit.perform_async("/")
    assert drain(10)
    with page.app.app_context():
        assert page.db.session.get(page.User, 1).welcomed
    assert (sent, receipts) == (["ada@example.org"], [1])
    assert sqlite3.connect("visits.db").execute("SELECT page FROM visits").fetchall() == [("/",)]
    with fake():
        page.count_visit.perform_async("/")
        assert_enqueued(page.count_visit, "/")
