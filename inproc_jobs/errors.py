"""Every error a caller of this package can meet.

    InprocJobsError
    ├── RejectedError              an enqueue was refused: the run was not accepted
    │   ├── QueueFullError           (queue.Full)      as many runs wait as may
    │   │   └── ScheduleFullError                           as many wait for their time or their retry
    │   └── ShutdownError            (RuntimeError)    the process no longer accepts work
    ├── RunCancelledError            (concurrent.futures.CancelledError)
    ├── RunDiscardedError            (RuntimeError)    ended without having run to its end
    ├── RunTimeoutError              (TimeoutError)    a run is past its ``timeout``
    ├── DeadlockError                (RuntimeError)    a worker would wait for itself
    └── WrongProcessError            (RuntimeError)    a run of the parent, seen in a forked child

Each is also the class of the standard library a caller would catch, keeps what it knows as attributes, and says in its
message what to do next. A wrong option, setting or argument is a plain ``TypeError`` or ``ValueError``, as everywhere
in Python.
"""

from __future__ import annotations

import concurrent.futures
import queue


class InprocJobsError(Exception):
    """The root of every error this package raises."""


class RejectedError(InprocJobsError):
    """An enqueue was refused; nothing was accepted and nothing will run.

    Attributes:
        job: name of the job class.
    """

    def __init__(self, message: str = "the enqueue was refused", *, job: str = "") -> None:
        super().__init__(message)
        self.job = job


class QueueFullError(RejectedError, queue.Full):
    """As many runs wait as may.

    Attributes:
        job: name of the job class.
        limit: the bound that was met, in runs.
    """

    def __init__(self, message: str = "the queue is full", *, job: str = "", limit: int = 0) -> None:
        super().__init__(message, job=job)
        self.limit = limit


class ScheduleFullError(QueueFullError):
    """As many runs of the process wait for their time or their retry as may (``max_scheduled``).

    Raised whatever ``when_full`` says, for nothing that waits in a queue could make room.
    """


class ShutdownError(RejectedError, RuntimeError):
    """The process is past its shutdown and accepts no more work.

    Also raised by ``checkpoint()`` in a run that is still at work when the shutdown deadline has passed.
    """


class RunCancelledError(InprocJobsError, concurrent.futures.CancelledError):
    """The run was cancelled: raised by ``result()``, and by ``checkpoint()`` inside the run."""


class RunDiscardedError(InprocJobsError, RuntimeError):
    """The run was discarded: raised by ``result()``.

    Attributes:
        reason: why, as in ``Run.reason``: "shutdown", "expired", "queue_full", the text of a ``Discard``, or, of a run
            that was never accepted, "rollback".
    """

    def __init__(self, message: str = "the run was discarded", *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class RunTimeoutError(InprocJobsError, TimeoutError):
    """The run is past its ``timeout``: raised by ``checkpoint()``, or in the thread where the job is interruptible."""


class DeadlockError(InprocJobsError, RuntimeError):
    """A worker was about to wait for a run that cannot go on before the worker itself does."""


class WrongProcessError(InprocJobsError, RuntimeError):
    """A run was accepted by the parent process and can only end there; this is a forked child."""
