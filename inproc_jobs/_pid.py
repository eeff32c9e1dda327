"""Which process this is, without a call to the system: on a virtual machine that took a sixth of an enqueue."""

from __future__ import annotations

import mmap
from os import getpid
from typing import Any

_WIPEONFORK = 18  # MADV_WIPEONFORK of Linux 4.14, which the mmap of Python 3.13 does not name


class Asked:
    """The process's id as item 0, asked for each time: where no page can be had that a fork wipes."""

    def __getitem__(self, _: int) -> int:
        return getpid()

    def __setitem__(self, _: int, pid: int) -> None:
        """Do nothing: the system knows."""


def page() -> Any:
    """Return what holds the id of this process as its item 0 once it is set there.

    In the child of a fork, also of one in C that calls no hook of Python's, that item is 0 until it is set again: the
    kernel wipes the page. Source: madvise(2).
    """
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(_WIPEONFORK)
    except (OSError, ValueError, AttributeError):  # another system, an older kernel, a sandbox, no memory
        return Asked()
    return memoryview(memory).cast("i")


here: Any = page()  # holds the id of this process once it has a runtime; in a forked child 0, until it has its own
