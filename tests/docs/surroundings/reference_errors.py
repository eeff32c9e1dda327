"""The other side, which answers once an enqueue was refused."""

import threading

from inproc_jobs.signals import job_rejected

refused = threading.Event()


@job_rejected.connect
def answer(job, run, error, **extra):
    refused.set()


def wait_for_the_other_side():
    refused.wait(10)
