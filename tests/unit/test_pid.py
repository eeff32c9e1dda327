"""The id of this process, known without a call to the system."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

from inproc_jobs import Job, _pid


@pytest.mark.skipif(sys.platform != "linux", reason="madvise of Linux")
def test_a_page_keeps_what_is_set_and_is_wiped_in_each_child():
    """Also in the child of a child, which inherits that it is to be wiped."""
    page = _pid.page()
    page[0] = os.getpid()

    child = os.fork()
    if child == 0:
        wiped = page[0] == 0
        page[0] = os.getpid()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(page[0] == 0)
        _, status = os.waitpid(grandchild, 0)
        os._exit(wiped and os.waitstatus_to_exitcode(status) == 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 1
    assert page[0] == os.getpid()


@pytest.mark.parametrize("missing", ["mmap", "MAP_ANONYMOUS"])
def test_where_no_such_page_can_be_had_the_system_is_asked(monkeypatch, missing):
    """An old kernel, a sandbox, another system: each look is a call then."""

    def refuse(*_, **__):
        raise OSError(22, "Invalid argument")

    if missing == "mmap":
        monkeypatch.setattr(mmap, "mmap", refuse)
    else:
        monkeypatch.delattr(mmap, missing)

    page = _pid.page()
    page[0] = 0

    assert page[0] == os.getpid()
    assert isinstance(page, _pid.Asked)


def test_the_first_enqueue_notes_the_process():
    """And the next ones ask nobody."""

    class Mail(Job):
        def perform(self):
            pass

    Mail.perform_async().wait(10)

    assert _pid.here[0] == os.getpid()
    if sys.platform == "linux":
        assert not isinstance(_pid.here, _pid.Asked)
