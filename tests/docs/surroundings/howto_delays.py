"""The mail and the table of the page's jobs."""

from types import SimpleNamespace

from inproc_jobs import stats
from inproc_jobs.testing import fake, travel

sent = []


def send_mail(to, subject):
    sent.append(subject)


def due_reminders():
    return [SimpleNamespace(email="ada@example.org")]


def afterwards(page):
    assert stats()["page.ReminderJob"].scheduled == 3
    with fake() as jobs:
        page.send_due_reminders()
        page.ReminderJob.perform_in(3600, "ada@example.org")
        run = page.OfferJob.perform_async("ada@example.org")
        travel(3600)
        jobs.run_all()
    assert (sent, run.reason) == (["Do not forget"] * 2, "expired")
