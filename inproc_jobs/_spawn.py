"""A daemon thread, started from anywhere: a signal handler, a ``__del__``, the middle of another start."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress


def spawn(main: Callable[[], object], name: str) -> None:
    """Have *main* called in a daemon thread of its own, without waiting for it.

    ``Thread.start`` takes locks that a signal handler may have interrupted, and waits. The raw call does neither; the
    thread that it starts makes a proper one, with a name, that can be joined, or serves itself where that fails: on
    Python 3.12.0 and 3.12.1 no thread can be started once the main thread has ended, but this one has been.

    Raises:
        RuntimeError: no thread is to be had.
    """
    _thread.start_new_thread(_begin, (main, name))


def join(thread: threading.Thread, seconds: float) -> None:
    """Wait until *thread*, started here or by an executor, has ended, at most *seconds*.

    Does not wait for the calling thread, nor for one that serves itself as above, which nothing can join.
    """
    if thread is not threading.current_thread():
        with suppress(RuntimeError, AssertionError):  # of a dummy thread: an assertion up to Python 3.12
            thread.join(max(0.0, seconds))


def _begin(main: Callable[[], object], name: str) -> None:
    with suppress(RuntimeError):
        threading.Thread(target=main, name=name, daemon=True).start()
        return
    main()  # not where the error is caught: what it raises would be taken for a consequence
