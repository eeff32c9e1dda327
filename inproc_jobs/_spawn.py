"""A daemon thread, started from anywhere: a signal handler, a ``__del__``, the middle of another start."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


def spawn(main: Callable[[], object], name: str) -> None:
    """Have *main* called in a daemon thread of its own, without waiting for it.

    ``Thread.start`` takes locks that a signal handler may have interrupted, and waits. The raw call does neither; the
    thread that it starts makes a proper one, with a name, that can be joined, or serves itself where that fails: on
    Python 3.12.0 and 3.12.1 no thread can be started once the main thread has ended, but this one has been.

    Raises:
        RuntimeError: no thread is to be had.
    """
    _thread.start_new_thread(_begin, (main, name))


def _begin(main: Callable[[], object], name: str) -> None:
    try:
        threading.Thread(target=main, name=name, daemon=True).start()
    except RuntimeError:
        main()
