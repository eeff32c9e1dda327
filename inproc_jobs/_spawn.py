"""A daemon thread, started from anywhere: a signal handler, a ``__del__``, the middle of another start."""

from __future__ import annotations

import _thread
import logging
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import BuiltinFunctionType

# A signal to the process is taken by the first of its threads that looks; a thread looks when it starts another one.
# A main thread that waits for a lock, as granian's does, is then not woken, and does not call its handler.
_DEAF = signal.valid_signals() - {
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV),  # what a thread itself has done
    *(signal.SIGKILL, signal.SIGSTOP),  # cannot be blocked
}

_mask: set[int] = set()  # of signals that the threads which enqueue do not hear


def spawn(main: Callable[[], object], name: str) -> None:
    """Have *main* called in a daemon thread of its own, without waiting for it.

    ``Thread.start`` takes locks that a signal handler may have interrupted, and waits. The raw call does neither; the
    thread that it starts makes a proper one, with a name, that can be joined, or serves itself where that fails: on
    Python 3.12.0 to 3.12.2 no thread can be started once the main thread has ended, but this one has been.

    Raises:
        RuntimeError: no thread is to be had.
    """
    global _mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF)  # the new thread inherits it, and those that it starts
    try:
        if not mask >= _DEAF:  # this is none of ours
            _mask = mask
        _thread.start_new_thread(_begin, (main, name))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def hear() -> None:
    """Have this thread, a worker, hear what others hear: programs that its jobs start inherit it.

    Not while a signal is pending, which is the main thread's to take. And not under uWSGI, which ends a process by
    calling C's ``exit`` in a signal handler, on whatever thread the kernel has chosen: on one of ours that would hold
    locks of the standard library's for ever. Its own threads are deaf, too.
    """
    if "uwsgi" not in sys.modules and not signal.sigpending() - _mask:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask)


def join(thread: threading.Thread, seconds: float) -> None:
    """Wait until *thread*, started here or by an executor, has ended, at most *seconds*.

    Does not wait for the calling thread, nor for one that serves itself as above, which nothing can join.
    """
    if thread is not threading.current_thread():
        with suppress(RuntimeError, AssertionError):  # of a dummy thread: an assertion up to Python 3.12
            thread.join(max(0.0, seconds))


def gravity(error: RuntimeError) -> int:
    """Return at which level to log that no thread can be had.

    Python 3.12.0 to 3.12.2 start none once the main one has ended, which is nobody's error.
    """
    return logging.DEBUG if "interpreter shutdown" in str(error) else logging.ERROR


def patched() -> bool:
    """Return whether threads started from here on are greenlets, because gevent or eventlet has patched the library."""
    by_them = "gevent.monkey" in sys.modules or "eventlet.patcher" in sys.modules  # a debugger patches it, too
    return by_them and not isinstance(_thread.start_new_thread, BuiltinFunctionType)


def _begin(main: Callable[[], object], name: str) -> None:
    with suppress(RuntimeError):
        threading.Thread(target=main, name=name, daemon=True).start()
        return
    main()  # not where the error is caught: what it raises would be taken for a consequence
