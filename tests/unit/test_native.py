"""The calls into C, as far as what they do can be seen from Python."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from inproc_jobs._native import block_during


@pytest.fixture
def number() -> Iterator[int]:
    """A signal with a handler of its own, which blocks no other one."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


def blocked(number: int) -> set[int]:
    """Return which signals wait while the handler of *number* runs."""
    action = ctypes.create_string_buffer(256)
    assert ctypes.pythonapi.sigaction(number, None, action) == 0
    mask = ctypes.byref(action, ctypes.sizeof(ctypes.c_void_p))
    return {one for one in signal.valid_signals() if ctypes.pythonapi.sigismember(mask, one) == 1}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's structure")
def test_others_are_blocked_while_a_handler_runs(number):
    """The mask has them afterwards, and the handler is the one that was there."""
    handler = signal.getsignal(number)

    block_during(number, (signal.SIGUSR2, signal.SIGALRM))

    assert blocked(number) == {signal.SIGUSR2, signal.SIGALRM}
    assert signal.getsignal(number) is handler


@pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's structure")
@pytest.mark.parametrize(("platform", "machine"), [("darwin", "arm64"), ("linux", "mips64")])
def test_a_structure_that_is_not_known_is_left_alone(number, monkeypatch, platform, machine):
    """Elsewhere the mask is not where it would be looked for."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))

    block_during(number, (signal.SIGUSR2,))

    monkeypatch.undo()
    assert blocked(number) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="signal 65 is none there")
def test_a_signal_that_is_none_is_passed_over():
    """The system refuses, and nothing is written."""
    block_during(65, (signal.SIGUSR2,))
