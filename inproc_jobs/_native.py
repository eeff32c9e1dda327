"""Calls into C that Python has no function for; loaded only by who needs them, because ctypes costs 3 ms."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable


def raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have *error* raised in the thread with identifier *thread*, at its next bytecode; None takes back one still due.

    Source: ``PyThreadState_SetAsyncExc`` in the C API's reference.
    """
    target = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)


def restore_default(number: int) -> None:
    """Give signal *number* its default action, as ``signal.signal`` does, which only the main thread may call.

    Source: ``PyOS_setsig`` in CPython's pylifecycle.h; SIG_DFL is the null pointer.
    """
    ctypes.pythonapi.PyOS_setsig(ctypes.c_int(number), None)


def block_during(number: int, others: Iterable[int]) -> None:
    """Have the signals *others* wait while the handler of signal *number* runs; which handler that is stays as it is.

    Does nothing but on Linux. Source: sigaction(2); in glibc's and musl's structure the mask follows the handler, but
    on MIPS, where it is left alone.
    """
    if sys.platform != "linux" or os.uname().machine.startswith("mips"):
        return
    action = ctypes.create_string_buffer(256)  # more than any system's structure
    if ctypes.pythonapi.sigaction(number, None, action) == 0:
        for other in others:
            ctypes.pythonapi.sigaddset(ctypes.byref(action, ctypes.sizeof(ctypes.c_void_p)), other)
        ctypes.pythonapi.sigaction(number, action, None)
