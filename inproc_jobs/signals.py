"""The signals of the package, and the one way they are sent.

Receivers are called with the job class as sender and ``run=`` always; they should take ``**extra``, so that a later
version can say more. They run in the thread where the thing happens: ``job_enqueued`` and ``job_rejected`` in the
caller's, ``job_overran`` in the timer's, the others mostly in a worker's, inside the run's own context. A receiver that
raises is logged with its name and stops neither the others nor the run. Without receivers a signal costs nothing.

blinker connects weakly by default: keep a reference to a receiver, or pass ``weak=False``.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from blinker import Namespace, Signal

from . import _report

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

_logger = logging.getLogger(__name__)
_namespace = Namespace()

job_enqueued: Signal = _namespace.signal("job-enqueued", "A run was accepted. Keywords: run.")
job_rejected: Signal = _namespace.signal(
    "job-rejected", "An enqueue was refused. Keywords: run, error (RejectedError)."
)
job_started: Signal = _namespace.signal(
    "job-started",
    "An attempt starts; run.attempt counts from 1. Receivers are called in its own context, so what they set there"
    " holds for perform, and is gone after it. Keywords: run.",
)
job_succeeded: Signal = _namespace.signal("job-succeeded", "A run ended with a value. Keywords: run.")
job_retried: Signal = _namespace.signal(
    "job-retried", "An attempt failed and another follows. Keywords: run, error, delay (seconds until then)."
)
job_failed: Signal = _namespace.signal(
    "job-failed", "A run ended with an error, its traceback still attached. Keywords: run, error."
)
job_discarded: Signal = _namespace.signal(
    "job-discarded", "A run ended without an outcome. Keywords: run, reason (text)."
)
job_cancelled: Signal = _namespace.signal("job-cancelled", "A run was cancelled. Keywords: run.")
job_overran: Signal = _namespace.signal("job-overran", "A run is past its timeout and still at work. Keywords: run.")
shutdown_started: Signal = _namespace.signal("shutdown-started", "The runtime begins to drain. Sender: the runtime.")
shutdown_finished: Signal = _namespace.signal(
    "shutdown-finished", "The runtime accepts no more work. Sender: the runtime. Keywords: report (ShutdownReport)."
)


def emit(signal: Signal, sender: Any, **data: Any) -> None:
    """Send *signal* to each of its receivers, whatever the others do.

    Hot callers guard the call with ``if signal.receivers:``, which costs a tenth of it.
    """
    if not signal.receivers or signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        _report.shielded(
            _logger,
            lambda receiver=receiver: f"receiver {_name(receiver)} of {_imported_as(signal)}",  # type: ignore[misc]
            lambda receiver=receiver: _receive(receiver, sender, data),  # type: ignore[misc]
        )


def _receive(receiver: Callable[..., Any], sender: Any, data: dict[str, Any]) -> None:
    try:
        answer = receiver(sender, **data)
    except TypeError as error:
        raised_at = _report.traceback_of(error)
        if raised_at is not None and raised_at.tb_next is None:  # by the call, and not inside of the receiver
            error.add_note(f"receivers are called with the sender and {', '.join(data)}: let them take **extra")
        raise
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("receivers are called from threads and cannot be coroutines: connect a plain function")


def _imported_as(signal: Signal) -> str:
    return signal.name.replace("-", "_")  # type: ignore[attr-defined, no-any-return]


def _name(receiver: Any) -> str:
    return _report.escaped(
        f"{receiver.__module__}.{receiver.__qualname__}"
        if hasattr(receiver, "__qualname__")
        else object.__repr__(receiver)
    )
