"""The mail, the web and the shop of the page's jobs."""

from types import SimpleNamespace

from inproc_jobs.testing import fake, inline

sent = []
answers = [
    SimpleNamespace(status=429, headers={"Retry-After": "3"}),
    SimpleNamespace(status=200, headers={}),
]
states = ["in progress", "done"]


def send_mail(to):
    sent.append(to)
    if len(sent) < 3:
        raise ConnectionError


def post(url):
    return answers.pop(0)


def state_of(order):
    return "deleted" if order == 7 else states.pop(0)


def charge(order, idempotency_key):
    sent.append(idempotency_key)


def afterwards(page):
    with inline():
        page.MailJob.perform_async("ada@example.org")
        assert sent == ["ada@example.org"] * 3
        page.WebhookJob.perform_async("http://127.0.0.1/")
        assert answers == []
        assert page.ExportJob.perform_async(7).reason == "the order is gone"
        assert page.ExportJob.perform_async(8).result() == "exported"
        page.ChargeJob.perform_async(1)
        page.ReportJob.perform_async()
    assert [page.twice(1, ValueError()), page.twice(2, ValueError())] == [30.0, None]
    with fake() as jobs:
        page.MailJob.using(retry=None).perform_async("ada@example.org")
        jobs.run_all()
