"""What the unit tests share: more gates than one, a record of signals, and scripts in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import CodeType
from typing import Any

import pytest

from inproc_jobs import Run, signals


@pytest.fixture
def make_gate(gate: Any) -> Iterator[Callable[[], Any]]:
    """Make further gates like ``gate``; all are opened at the end."""
    gates: list[Any] = []

    def make() -> Any:
        gates.append(type(gate)())
        return gates[-1]

    yield make
    for one in gates:
        one.open()


class Record:
    """The signals of the package in the order in which they were sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, dict[str, Any]]] = []
        self._receivers = {name: self._receiver(name) for name in signals.__all__}

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: Any, **data: Any) -> None:
            self.sent.append((name, sender, data))

        return receive

    def connect(self) -> None:
        for name, receiver in self._receivers.items():
            getattr(signals, name).connect(receiver)

    def disconnect(self) -> None:
        for name, receiver in self._receivers.items():
            getattr(signals, name).disconnect(receiver)

    def names(self, run: Run[Any]) -> list[str]:
        """What was said of one run."""
        return [name for name, _, data in list(self.sent) if data.get("run") is run]

    def data(self, name: str) -> list[dict[str, Any]]:
        """What came with each sending of one signal."""
        return [data for sent, _, data in list(self.sent) if sent == name]


@pytest.fixture
def record() -> Iterator[Record]:
    record = Record()
    record.connect()
    yield record
    record.disconnect()


@pytest.fixture
def interleaved() -> Iterator[None]:
    """Have threads take turns as often as the interpreter can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a process of its own, for at most 20 seconds."""

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


@pytest.fixture
def in_threads() -> Callable[..., None]:
    """Call a function in so many threads at once and wait for all; what one raises is raised."""

    def start(function: Callable[[int], object], count: int) -> None:
        barrier = threading.Barrier(count)
        errors: list[BaseException] = []

        def main(number: int) -> None:
            barrier.wait(10)
            try:
                function(number)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=main, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        if errors:
            raise errors[0]

    return start


@pytest.fixture
def struck() -> Callable[[str], AbstractContextManager[list[str]]]:
    """Have a MemoryError strike as a function of the package is entered, once, in whichever thread comes first."""
    if sys.version_info < (3, 12):
        pytest.skip("needs sys.monitoring")
    monitoring, tool = sys.monitoring, 5

    @contextmanager
    def strike_at(function: str) -> Iterator[list[str]]:
        strikes: list[str] = []

        def strike(code: CodeType, _: int) -> object:
            if code.co_qualname != function or "inproc_jobs" not in code.co_filename:
                return monitoring.DISABLE
            if not strikes:
                strikes.append(function)
                raise MemoryError(function)
            return None

        monitoring.use_tool_id(tool, "struck")
        monitoring.register_callback(tool, monitoring.events.PY_START, strike)
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.PY_START)
        try:
            yield strikes
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.PY_START, None)
            monitoring.free_tool_id(tool)

    return strike_at
