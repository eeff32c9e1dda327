"""What becomes of an enqueue that meets a full queue: one function for each ``when_full``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ._run import DISCARDED, Run
from .errors import DeadlockError, QueueFullError, RejectedError, ScheduleFullError, ShutdownError

MAX_NESTING = 16  # runs of when_full="caller_runs" that one thread performs inside each other


def refuse(queue: Any, run: Run[Any], error: QueueFullError) -> None:
    """Raise in the caller."""
    queue.reject(run, error)


def block(queue: Any, run: Run[Any], error: QueueFullError) -> None:
    """Wait for room, up to ``block_timeout``; not where that would stop what makes the room."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        queue.reject(run, queue.full_error(", and waiting for room would block this thread's event loop"))
    try:
        with queue.threads.waiting(run, None):
            queue.put(run, block=True, timeout=run._options.block_timeout)
    except DeadlockError:
        queue.reject(run, queue.full_error(", and only jobs that wait for room themselves could make some"))
    except RejectedError as late:
        queue.reject(run, late)


def caller_runs(queue: Any, run: Run[Any], error: QueueFullError) -> None:
    """Perform the run in the caller's thread."""
    if queue.nested() > MAX_NESTING:
        queue.reject(run, queue.full_error(f", and {MAX_NESTING} of them run inside each other in this thread"))
    queue.perform_here(run, raises=False)


def discard(queue: Any, run: Run[Any], error: QueueFullError) -> None:
    """Discard the new run."""
    queue.announce(run)
    run._close(DISCARDED, "queue_full")


def discard_oldest(queue: Any, run: Run[Any], error: QueueFullError) -> None:
    """Discard the oldest of the waiting runs with the lowest priority; the new one, if its own is lower still."""
    try:
        queue.put_instead(run)
    except (ScheduleFullError, ShutdownError) as late:
        queue.reject(run, late)
    except QueueFullError:
        discard(queue, run, error)


WHEN_FULL: dict[str, Callable[[Any, Run[Any], QueueFullError], None]] = {
    "raise": refuse,
    "block": block,
    "caller_runs": caller_runs,
    "discard": discard,
    "discard_oldest": discard_oldest,
}
