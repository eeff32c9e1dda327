"""The other side, which answers once an enqueue was refused; what is printed is what the page shows."""

import threading

from inproc_jobs.signals import job_rejected

refused = threading.Event()


@job_rejected.connect
def answer(job, run, error, **extra):
    refused.set()


def wait_for_the_other_side():
    refused.wait(10)


printed = []


def print(*words):  # noqa: A001 - as the page calls it
    printed.append(" ".join(map(str, words)))


def afterwards(page):
    assert printed
    assert f"```text\n{printed[0]}\n```" in page.TEXT, printed
