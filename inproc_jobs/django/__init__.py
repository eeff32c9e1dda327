"""The Django app: put ``"inproc_jobs.django"`` in ``INSTALLED_APPS``. The signals are those of the package."""

from __future__ import annotations

from ..signals import (
    job_cancelled,
    job_discarded,
    job_enqueued,
    job_failed,
    job_overran,
    job_rejected,
    job_retried,
    job_started,
    job_succeeded,
    shutdown_finished,
    shutdown_started,
)

__all__ = [
    "job_cancelled",
    "job_discarded",
    "job_enqueued",
    "job_failed",
    "job_overran",
    "job_rejected",
    "job_retried",
    "job_started",
    "job_succeeded",
    "shutdown_finished",
    "shutdown_started",
]
